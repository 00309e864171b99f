"""AuditLoadOperator: bring an SQL database up to date with the Parquet audit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.operators.border import fails_cleanly, place
from airflow_facefog.operators.publish import sql_sink

if TYPE_CHECKING:
    from airflow.sdk import Context


class AuditLoadOperator(BaseOperator):
    """Write every sealed run that the database does not have yet; loading again changes nothing. Returns counts.

    :param audit: folder or URI of the audit (templated).
    :param audit_sql_conn_id: SQL connection of the audit's tables: PostgreSQL, or SQLite when all tasks run on one machine.
    :param audit_conn_id: connection that opens the audit.
    :param runs: only these run keys (templated).
    :param since: only runs listed at or after this day or time (templated).
    :param replace: write them anew also when they are there: repairs rows that somebody changed.
    """

    template_fields: Sequence[str] = ("audit", "audit_sql_conn_id", "audit_conn_id", "runs", "since")
    ui_color = "#cfe3d6"

    def __init__(
        self, *, audit: str, audit_sql_conn_id: str, audit_conn_id: str | None = None, runs: Sequence[str] | None = None,
        since: str | None = None, replace: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.audit = audit
        self.audit_sql_conn_id = audit_sql_conn_id
        self.audit_conn_id = audit_conn_id
        self.runs = runs
        self.since = since
        self.replace = replace

    @fails_cleanly
    def execute(self, context: Context) -> dict[str, Any]:
        """Load. Raises AirflowFailException for what a person must change; a database that is down is tried again."""
        from airflow_facefog.hooks.connections import open_root
        from airflow_facefog.job.record.load_audit import load_audit

        sink = sql_sink(self.audit_sql_conn_id)
        if sink is None:
            raise ConfigurationError("no audit_sql_conn_id was given; name the SQL connection of the audit's tables")
        where = place(self.audit)
        where = dataclasses.replace(where, conn_id=self.audit_conn_id or where.conn_id)
        try:
            done = load_audit(
                where, sink, open_root=open_root, runs=self.runs, since=self.since or None, replace=self.replace
            )
        finally:
            sink.close()
        return {"audit": where.uri, **dataclasses.asdict(done)}
