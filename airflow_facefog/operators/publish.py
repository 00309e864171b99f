"""PublishOperator: finalise the run, hold the gate, tell consumers by an asset event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias, BaseOperator

from airflow_facefog.operators import lineage
from airflow_facefog.operators.border import attempt, fails_cleanly, store_rights

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_facefog.audit.sql import SqlSink

EVENT_KEYS = (
    "delta_uri", "snapshot_seq", "manifest_sha256", "chain_head", "signed", "policy_hash", "counts", "changed",
)  # fmt: skip
"""What an asset event says: URIs, hashes and counts, no name or id of any image. It anchors the chain's head in Airflow."""


class PublishOperator(BaseOperator):
    """Check that the run adds up, seal its manifest, move the snapshot. Fails when any planned batch has no commit.

    :param plan: URI of the plan (templated).
    :param audit_conn_id: connection that opens the audit, because URIs in XCom name none.
    :param key_conn_id: connection of the master key, as given to ListImagesOperator.
    :param signing_conn_id: connection whose password is the signing key's PEM text; None seals unsigned and warns. No
        other task reads it.
    :param audit_sql_conn_id: SQL connection for the audit tables; None writes Parquet only.
    :param outlets: an Asset gets an event for every finalised run (``changed`` says whether the snapshot moved);
        an AssetAlias gets one for the run's own destination, and only when it changed.
    """

    template_fields: Sequence[str] = ("plan", "audit_conn_id", "key_conn_id", "signing_conn_id", "audit_sql_conn_id")
    ui_color = "#cfe3d6"
    _facts: lineage.Facts | None = None

    def __init__(
        self, *, plan: str, audit_conn_id: str | None = None, key_conn_id: str | None = None,
        signing_conn_id: str | None = None, audit_sql_conn_id: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.plan = plan
        self.audit_conn_id = audit_conn_id
        self.key_conn_id = key_conn_id
        self.signing_conn_id = signing_conn_id
        self.audit_sql_conn_id = audit_sql_conn_id

    @fails_cleanly
    def execute(self, context: Context) -> dict[str, Any]:
        """Finalise. Raises AirflowFailException when the run does not add up or breaches ``max_quarantined``."""
        from airflow_facefog.hooks.keys import signing_key
        from airflow_facefog.job.finalise import finalise

        rights = store_rights(self.key_conn_id)
        result = finalise(
            self.plan, attempt=attempt(context), audit_conn_id=self.audit_conn_id,
            sql=sql_sink(self.audit_sql_conn_id), signer=signing_key(self.signing_conn_id),
            **rights,
        )  # fmt: skip
        announce(context, self.outlets, result)
        self._facts = lineage.collect(result, rights["open_root"], self.audit_conn_id)
        return result

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """Asked by the OpenLineage provider, when it is installed: aggregates of the run that ``execute`` sealed."""
        return lineage.facets(self._facts)


def sql_sink(conn_id: str | None) -> SqlSink | None:
    """The SQL audit behind a connection, or None. Raises ConfigurationError for a SQLite that workers cannot share."""
    if conn_id is None:
        return None
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.hooks.connections import sql_engine

    return SqlSink(sql_engine(conn_id))


def announce(context: Context, outlets: Sequence[Any], result: Mapping[str, Any]) -> None:
    """Put the run's facts on its asset events."""
    extra = {key: result[key] for key in EVENT_KEYS}
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            if result["changed"]:
                context["outlet_events"][outlet].add(Asset(destination_of(result)), extra=extra)
        elif isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(extra)


def destination_of(result: Mapping[str, Any]) -> str:
    """The destination's URI: deltas lie in ``<destination>/_facefog/``."""
    return str(result["delta_uri"]).rpartition("/_facefog/")[0]
