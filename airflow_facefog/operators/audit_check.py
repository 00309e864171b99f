"""AuditCheckOperator: fail a Dag when a named assertion about the audit does not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_facefog.core.errors import GateError
from airflow_facefog.operators.border import fails_cleanly, place
from airflow_facefog.operators.publish import sql_sink

if TYPE_CHECKING:
    from airflow.sdk import Context

NAMES_FILES = ("output_uri", "output_key")
"""Columns that may hold names of sources: not for logs."""


class AuditCheckOperator(BaseOperator):
    """Ask named checks (docs/queries.md); return what they found. Fails for good when one of them does not hold.

    :param audit: folder or URI of the audit (templated); checks that read plans or signatures need it.
    :param audit_conn_id: connection that opens it.
    :param audit_sql_conn_id: SQL connection of the audit's database, asked instead of the Parquet parts.
    :param checks: names; none asks the standard ones.
    :param options: limits by name: max_age_h, max_quarantined, history, min_history, sigmas (templated).
    """

    template_fields: Sequence[str] = ("audit", "audit_conn_id", "audit_sql_conn_id", "checks", "options")
    ui_color = "#cfe3d6"

    def __init__(
        self, *, audit: str | None = None, audit_conn_id: str | None = None, audit_sql_conn_id: str | None = None,
        checks: Sequence[str] = (), options: Mapping[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.audit = audit
        self.audit_conn_id = audit_conn_id
        self.audit_sql_conn_id = audit_sql_conn_id
        self.checks = checks
        self.options = options or {}

    @fails_cleanly
    def execute(self, context: Context) -> dict[str, Any]:
        """Ask. Raises AirflowFailException with the names of the checks that failed; their rows are in the task's log."""
        from airflow_facefog.audit.checks import CheckOptions
        from airflow_facefog.hooks.connections import open_root
        from airflow_facefog.job.record.ask_audit import check_audit, open_audit

        options = CheckOptions.from_mapping(self.options)
        where = place(self.audit) if self.audit else None
        if where is not None:
            where = replace(where, conn_id=self.audit_conn_id or where.conn_id)
        sink = sql_sink(self.audit_sql_conn_id)
        with open_audit(where, sink.engine if sink else None, open_root=open_root) as opened:
            result = check_audit(opened, self.checks, options)
        for one in result["checks"]:
            rows = [{name: value for name, value in row.items() if name not in NAMES_FILES} for row in one["detail"]]
            say = self.log.info if one["passed"] else self.log.error
            say("%s: %s rows; %s %s", one["name"], one["rows"], one["note"] or "", rows or "")
        if not result["passed"]:
            raise GateError(f"the audit does not hold: {', '.join(result['failed'])}; see the rows above")
        return {**result, "checks": {one["name"]: one["rows"] for one in result["checks"]}}
