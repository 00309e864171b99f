"""ExpireAuditOperator and EraseImagesOperator: what is too old leaves the audit, and what a person asks for leaves everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias, BaseOperator

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.operators.border import fails_cleanly, place
from airflow_facefog.operators.publish import sql_sink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_facefog.job.model import Place

RIGHTS = ("audit", "audit_conn_id", "signing_conn_id", "audit_sql_conn_id")


class ExpireAuditOperator(BaseOperator):
    """Remove what is older than its retention; for a nightly Dag. Returns counts.

    Days count from the end of the run; None keeps a level for good, ``sources`` None means what each row says.

    :param audit: folder or URI of the audit (templated).
    :param work: days to keep what sealed runs left behind: names, rows of attempts, predictions.
    :param unfinished: take the work of runs that never finished too.
    :param published: let image rows go whose pictures a dataset still shows.
    :param audit_conn_id: connection that opens the audit.
    :param signing_conn_id: connection of the signing key; needed when parts go and the audit is signed.
    :param audit_sql_conn_id: SQL audit that follows.
    :param actor: recorded in the chain for ever (templated).
    """

    template_fields: Sequence[str] = (*RIGHTS, "actor")
    ui_color = "#e3d6cf"

    def __init__(
        self, *, audit: str, sources: float | None = None, work: float | None = None, detections: float | None = None,
        images: float | None = None, refusals: float | None = None, predictions: float | None = None,
        unfinished: bool = False, published: bool = False, dry_run: bool = False, audit_conn_id: str | None = None,
        signing_conn_id: str | None = None, audit_sql_conn_id: str | None = None, actor: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.audit = audit
        self.days = {
            "sources": sources, "work": work, "detections": detections, "images": images, "refusals": refusals,
            "predictions": predictions,
        }  # fmt: skip
        self.unfinished = unfinished
        self.published = published
        self.dry = dry_run
        self.audit_conn_id = audit_conn_id
        self.signing_conn_id = signing_conn_id
        self.audit_sql_conn_id = audit_sql_conn_id
        self.actor = actor

    @fails_cleanly
    def execute(self, context: Context) -> dict[str, Any]:
        """Expire. Raises AirflowFailException when the audit is damaged, or signed and no key is named."""
        from airflow_facefog.hooks.connections import open_root
        from airflow_facefog.hooks.keys import signing_key
        from airflow_facefog.job.record.expire import Retention, expire_audit

        keep = Retention(**self.days, unfinished=self.unfinished, published=self.published)
        return expire_audit(
            audit_place(self.audit, self.audit_conn_id), keep, open_root=open_root, signer=signing_key(self.signing_conn_id),
            sql=sql_sink(self.audit_sql_conn_id), actor=self.actor, dry_run=self.dry,
        )  # fmt: skip


class EraseImagesOperator(BaseOperator):
    """Erase pictures from every dataset, from the audit and from later runs. Returns counts and URIs.

    :param images: ids (image_id, source_ref, item_id or the sha256 of an output), never names: what is rendered is kept by
        Airflow. A list, or text with commas, for example ``"{{ params.images }}"`` (templated).
    :param audit: folder or URI of the audit (templated).
    :param raw: delete the source files too, where they still hold the picture.
    :param request_id: 32 hex digits; None makes one of the ids, so that a retry finishes what a first try began (templated).
    :param actor: who asked; recorded in the chain for ever, as is ``note`` (both templated).
    :param key_conn_id: connection of the master key of these runs.
    :param outlets: an AssetAlias gets one event per changed dataset; an Asset gets the delta when one dataset changed.
    """

    template_fields: Sequence[str] = ("images", *RIGHTS, "key_conn_id", "request_id", "actor", "note")
    ui_color = "#e3d6cf"

    def __init__(
        self, *, images: Sequence[str] | str, audit: str, raw: bool = False, request_id: str | None = None,
        actor: str | None = None, note: str | None = None, audit_conn_id: str | None = None,
        key_conn_id: str | None = None, signing_conn_id: str | None = None, audit_sql_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.images = images
        self.audit = audit
        self.raw = raw
        self.request_id = request_id
        self.actor = actor
        self.note = note
        self.audit_conn_id = audit_conn_id
        self.key_conn_id = key_conn_id
        self.signing_conn_id = signing_conn_id
        self.audit_sql_conn_id = audit_sql_conn_id

    @fails_cleanly
    def execute(self, context: Context) -> dict[str, Any]:
        """Erase. Raises AirflowFailException when nothing is found, or what it needs is not there."""
        from airflow_facefog.hooks.connections import open_root
        from airflow_facefog.hooks.keys import key_ring, signing_key
        from airflow_facefog.job.record.erase import EraseOptions, erase_images

        options = EraseOptions(self.request_id or None, self.actor, self.note, self.raw)
        result = erase_images(
            audit_place(self.audit, self.audit_conn_id), read_ids(self.images), keys=key_ring(self.key_conn_id),
            open_root=open_root, options=options, signer=signing_key(self.signing_conn_id),
            sql=sql_sink(self.audit_sql_conn_id),
        )  # fmt: skip
        for host in result["recipients"]:
            self.log.warning("the raw picture was sent to %s: ask there for its deletion too", host)
        announce(context, self.outlets, result)
        return result


def audit_place(audit: str, conn_id: str | None) -> Place:
    """Where the audit is and what opens it."""
    where = place(audit)
    return replace(where, conn_id=conn_id or where.conn_id)


def read_ids(images: Sequence[str] | str) -> list[str]:
    """Raises ConfigurationError for anything but ids, without quoting it: it may be a name."""
    from airflow_facefog.job.record.trace import ID

    given: Sequence[str] = images if not isinstance(images, str) else images.strip("[] ").split(",")
    ids = [str(text).strip(" '\"") for text in given if str(text).strip()]
    if not ids or not all(ID.fullmatch(text) for text in ids):
        raise ConfigurationError("images takes ids of 64 hex digits (`facefog whois FILE --json` tells them), no names")
    return ids


def announce(context: Context, outlets: Sequence[Any], result: dict[str, Any]) -> None:
    """Tell consumers as a run does: URIs and counts, no id."""
    head = result["chain_head"]
    extras = {
        done["destination"]: {
            "delta_uri": done["delta_uri"], "snapshot_seq": done["snapshot_seq"], "changed": True,
            "manifest_sha256": head.partition(":")[2], "chain_head": head,
            "counts": {"added": 0, "replaced": done.get("replaced", 0), "withdrawn": done.get("withdrawn", 0)},
        }
        for done in result["datasets"]
    }  # fmt: skip
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            for uri, extra in extras.items():
                context["outlet_events"][outlet].add(Asset(uri), extra=extra)
        elif isinstance(outlet, Asset) and len(extras) == 1:
            context["outlet_events"][outlet].extra.update(*extras.values())
