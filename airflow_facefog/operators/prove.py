"""ProveOperator: gate a Dag on a store that holds nothing but recorded outputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_facefog.core.errors import ConfigurationError, GateError
from airflow_facefog.job.model import Place
from airflow_facefog.job.places import is_inside
from airflow_facefog.operators.border import fails_cleanly, place, store_rights

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_facefog.job.record.prove_store import ProofReport

WRONG = ("raw-match", "raw-derived", "tampered", "orphan", "missing")
"""Classes that fail the task."""


class ProveOperator(BaseOperator):
    """Put every object of a store into one class; fail unless each is proven or our own bookkeeping.

    :param store: folder or URI, a destination or a copy of one; ``s3://conn@bucket/…`` names its connection (templated).
    :param audit: the audit that knows the outputs (templated).
    :param audit_conn_id: connection that opens the audit, when its URI names none (templated).
    :param report: folder for ``proof.json``, ``proof.parquet`` and ``proof.html``, apart from the store; they are replaced.
        They hold object names: keep them as restricted as the audit (templated).
    :param key_conn_id: connection of the master key; without it raw images are not recognised by their bytes (templated).
    :param public_keys: PEM texts of the keys that may have signed the audit (templated).
    :param require_signed: whether an unsigned audit, and an intent that no sealed run holds, prove nothing.
    :param expect_head: chain head "seq:sha256" of an earlier task or run, which must still be in the chain (templated).
    :param ignore: globs of keys to leave out; ``*`` also matches ``/`` (templated).
    :param workers: threads; None for the CPUs that the task may use.
    """

    template_fields: Sequence[str] = (
        "store", "audit", "audit_conn_id", "report", "key_conn_id", "public_keys", "expect_head", "ignore",
    )  # fmt: skip
    ui_color = "#cfe3d6"

    def __init__(
        self, *, store: str, audit: str, audit_conn_id: str | None = None, report: str | None = None,
        key_conn_id: str | None = None, public_keys: Sequence[str] = (), require_signed: bool = False,
        expect_head: str | None = None, ignore: Sequence[str] = (), workers: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.store = store
        self.audit = audit
        self.audit_conn_id = audit_conn_id
        self.report = report
        self.key_conn_id = key_conn_id
        self.public_keys = public_keys
        self.require_signed = require_signed
        self.expect_head = expect_head
        self.ignore = ignore
        self.workers = workers

    @fails_cleanly
    def execute(self, context: Context) -> dict[str, Any]:
        """Prove and report. Returns counts and ``report_uri``; raises AirflowFailException when the proof does not stand."""
        from airflow_facefog.job.record.prove_store import ProveRequest, prove_store

        del context
        store, record = place(self.store), place(self.audit)
        audit = Place(record.uri, record.conn_id or self.audit_conn_id)
        target = place(self.report) if self.report else None
        if target is not None:
            check_report(target, store)
        rights = store_rights(self.key_conn_id)
        request = ProveRequest(
            store, audit, _texts(self.ignore), _texts(self.public_keys), _texts(self.expect_head or ()),
            self.require_signed, self.workers,
        )  # fmt: skip
        proof = prove_store(request, **rights)
        uri = write_report(proof, target, rights["open_root"]) if target is not None else None
        if not proof.clean:
            raise GateError(f"the store is not proven: {_wrong(proof)}; report: {uri or 'give report='}")
        return {**proof.summary, "report_uri": uri}


def _texts(value: str | Sequence[str]) -> tuple[str, ...]:
    """A template renders to one text: it is one glob, not its characters (a lone ``*`` would leave out everything)."""
    return (value,) if isinstance(value, str) else tuple(value)


def check_report(target: Place, store: Place) -> None:
    """Raise ConfigurationError when the report would lie in the store that it is about."""
    if is_inside(target, store):
        raise ConfigurationError("the report would lie in the store that it is about; give another folder")


def write_report(proof: ProofReport, target: Place, open_root: Any) -> str:
    """Write the three files and return the URI of the JSON one."""
    from airflow_facefog.job.plan import open_store

    folder = open_store(target, open_root)
    folder.replace("proof.parquet", proof.parquet)
    folder.replace("proof.html", proof.html().encode())
    folder.replace("proof.json", json.dumps(proof.document, indent=1).encode())
    return folder.uri("proof.json")


def _wrong(proof: ProofReport) -> str:
    """Counts alone: the task's log is read by more people than the report."""
    counts = [f"{proof.summary[name]} {name}" for name in WRONG if proof.summary[name]]
    if not proof.summary["record_verified"]:
        counts.append("the audit does not verify")
    return ", ".join(counts) or "see its notes"
