"""AuditVerifyOperator: fail a Dag when the audit is not what was sealed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_facefog.audit.sealed import LedgerError
from airflow_facefog.operators.border import fails_cleanly, place
from airflow_facefog.operators.publish import sql_sink

if TYPE_CHECKING:
    from airflow.sdk import Context

RETURNED = ("verified", "signed", "trust", "head", "entries", "runs", "parts", "bytes", "errors", "notices")
LOGGED = 50
NAMED_BY_SOURCES = ("object_missing", "object_changed")


class AuditVerifyOperator(BaseOperator):
    """Verify an audit; return counts and the chain's head. Fails for good when anything is wrong.

    :param audit: folder or URI of the audit (templated).
    :param audit_conn_id: connection that opens it.
    :param public_key: PEM text of the key that signs; without one only consistency is shown (templated).
    :param public_keys: PEM texts when there are several, for example after a new key was made (templated).
    :param expect_head: chain head "seq:sha256" of an earlier task or run, which must still be in the chain (templated).
    :param require_signed: refuse unsigned documents.
    :param deep: also hash every published object and snapshot part, and compare rows with leaves.
    :param since: day (YYYY-MM-DD) before which parts are not read (templated).
    :param audit_sql_conn_id: SQL audit to compare with the Parquet parts.
    """

    template_fields: Sequence[str] = (
        "audit", "audit_conn_id", "public_key", "public_keys", "expect_head", "since", "audit_sql_conn_id",
    )  # fmt: skip
    ui_color = "#cfe3d6"

    def __init__(
        self, *, audit: str, audit_conn_id: str | None = None, public_key: str | None = None,
        public_keys: Sequence[str] = (), expect_head: str | None = None, require_signed: bool = False, deep: bool = False,
        since: str | None = None, audit_sql_conn_id: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.audit = audit
        self.audit_conn_id = audit_conn_id
        self.public_key = public_key
        self.public_keys = public_keys
        self.expect_head = expect_head
        self.require_signed = require_signed
        self.deep = deep
        self.since = since
        self.audit_sql_conn_id = audit_sql_conn_id

    @fails_cleanly
    def execute(self, context: Context) -> dict[str, Any]:
        """Verify. Raises AirflowFailException that names how many findings there are and the first of them."""
        from airflow_facefog.hooks.connections import open_root
        from airflow_facefog.job.record.verify_audit import VerifyRequest, verify_audit

        where = place(self.audit)
        where = replace(where, conn_id=self.audit_conn_id or where.conn_id)
        keys = (*self.public_keys, *([self.public_key] if self.public_key else ()))
        heads = (self.expect_head,) if self.expect_head else ()
        request = VerifyRequest(where, keys, heads, self.require_signed, self.since, self.deep)
        result = verify_audit(request, open_root=open_root, sql=sql_sink(self.audit_sql_conn_id))
        lines = [_line(found) for found in result["findings"][:LOGGED]]
        for line in lines:
            self.log.warning("%s", line)
        if not result["verified"]:
            raise LedgerError(f"the audit does not verify: {result['errors']} errors, first: {lines[0]}")
        self.log.info("%s runs verify; chain head %s", result["runs"], result["head"])
        return {name: result[name] for name in RETURNED}


def _line(found: dict[str, str]) -> str:
    """A finding for a log: keys of published objects may be names of people, and a foreign file may be called anything."""
    name = (
        found["object"]
        if found["code"] not in NAMED_BY_SOURCES
        else "a published object (`facefog audit verify` names it)"
    )
    return "".join(c if c.isprintable() else "?" for c in f"{found['level']} {found['code']} {name}: {found['detail']}")
