"""RefogImageOperator: a face was missed in a published picture; it is fogged again, and the old output goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.operators.audit_life import RIGHTS, announce, audit_place, read_ids
from airflow_facefog.operators.border import fails_cleanly, job_rights
from airflow_facefog.operators.publish import sql_sink

if TYPE_CHECKING:
    from airflow.sdk import Context


class RefogImageOperator(BaseOperator):
    """Fog one published picture again, and take its old output away. A retry finishes what a first try began.

    Its raw file must still be where the run listed it. Every later run fogs the boxes too. Returns counts and URIs.

    :param image: one id (image_id, source_ref, item_id or the sha256 of the output), never a name (templated).
    :param boxes: ``x1,y1,x2,y2`` or ``x1,y1,x2,y2,CLASS`` in pixels of the upright picture; a list, or text with semicolons
        (templated).
    :param audit: folder or URI of the audit (templated).
    :param actor: who asked; recorded in the chain for ever, as is ``note`` (both templated).
    :param key_conn_id: connection of the master key of these runs.
    :param outlets: an AssetAlias gets one event per changed dataset; an Asset gets the delta when one dataset changed.
    """

    template_fields: Sequence[str] = ("image", "boxes", *RIGHTS, "key_conn_id", "actor", "note")
    ui_color = "#e3d6cf"

    def __init__(
        self, *, image: str, boxes: Sequence[str] | str, audit: str, actor: str | None = None, note: str | None = None,
        audit_conn_id: str | None = None, key_conn_id: str | None = None, signing_conn_id: str | None = None,
        audit_sql_conn_id: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.image = image
        self.boxes = boxes
        self.audit = audit
        self.actor = actor
        self.note = note
        self.audit_conn_id = audit_conn_id
        self.key_conn_id = key_conn_id
        self.signing_conn_id = signing_conn_id
        self.audit_sql_conn_id = audit_sql_conn_id

    @fails_cleanly
    def execute(self, context: Context) -> dict[str, Any]:
        """Fog it again. Raises AirflowFailException when it is not found, its raw file is gone, or a box is wrong."""
        from airflow_facefog.hooks.keys import signing_key
        from airflow_facefog.job.record.refog import RefogOptions, refog_image

        ids = read_ids(self.image)
        if len(ids) != 1:
            raise ConfigurationError("one image at a time: boxes belong to one picture")
        boxes = self.boxes.split(";") if isinstance(self.boxes, str) else self.boxes
        result = refog_image(
            audit_place(self.audit, self.audit_conn_id), ids[0], [box for box in boxes if box.strip()],
            options=RefogOptions(self.actor, self.note), signer=signing_key(self.signing_conn_id),
            sql=sql_sink(self.audit_sql_conn_id), **job_rights(self.key_conn_id),
        )  # fmt: skip
        announce(context, self.outlets, {**result, "datasets": [one for one in result["datasets"] if one["changed"]]})
        return result
