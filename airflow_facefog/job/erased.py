"""Pictures that were erased stay out: of batches that meet them again, and of runs that were under way meanwhile."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import GateError
from airflow_facefog.core.records import ImageRecord, Reason, Status

if TYPE_CHECKING:
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.job.tables import Tables
    from airflow_facefog.publish.store import Store

log = logging.getLogger(__name__)

KEPT = ("run_key", "generation", "batch_id", "attempt_id", "try_number", "committed_at")
"""Columns of an image row that say nothing of the image."""


class Erasures:
    """Tells which pictures of an audit were erased. One listing, when it is made."""

    def __init__(self, audit: Store, keys: KeyRing) -> None:
        from airflow_facefog.audit.tombstones import read_tombstones

        self._stones = read_tombstones(audit)
        self._keys = keys

    def __repr__(self) -> str:
        return f"Erasures({len(self._stones)})"

    def __contains__(self, image_id: object) -> bool:
        from airflow_facefog.audit.tombstones import tombstone

        return bool(self._stones) and tombstone(self._keys, str(image_id)) in self._stones

    def among(self, images: Any) -> list[str]:
        """The image_ids of a table's rows that were erased."""
        if not self._stones:
            return []
        return [image_id for image_id in images["image_id"].unique().to_pylist() if image_id and image_id in self]


def blank_row(row: Mapping[str, Any], place: str, index: int) -> dict[str, Any]:
    """A row that keeps the sum of its batch and says only that there was an image; ``source_ref`` hashes its place."""
    number = hashlib.sha256(f"facefog/erased-source/1\0{place}\0{index}".encode()).hexdigest()
    blank = ImageRecord(
        source_ref=number, status=Status.QUARANTINED.value, reason=Reason.ERASED.value,
        **{name: row[name] for name in KEPT},
    )  # fmt: skip
    return {name: getattr(blank, name) for name in ImageRecord.__slots__}


def without_erased(tables: Tables, ids: Sequence[str]) -> Tables:
    """Committed rows without those of some pictures: blank image rows stand in, at the end."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from airflow_facefog.audit.parquet import join_compact, read_compact, to_parquet

    wanted = pa.array(ids, tables.images["image_id"].type)
    mine = pc.is_in(tables.images["image_id"], value_set=wanted)
    rows = tables.images.filter(mine).to_pylist()
    log.warning(
        "%s images of this run were erased while it was under way; repeat the erasure when it is done", len(rows)
    )
    blank = to_parquet("facefog_image", [blank_row(row, "sealing", index) for index, row in enumerate(rows)])
    images = join_compact(iter([tables.images.filter(pc.invert(mine)), read_compact("facefog_image", blank)]))
    others = {
        name: table.filter(pc.invert(pc.is_in(table["image_id"].cast(wanted.type), value_set=wanted)))
        for name, table in (("detections", tables.detections), ("intents", tables.intents))
    }
    return replace(tables, images=images, **others)


def refuse_erased(images: Any, audit: Store, keys: KeyRing) -> None:
    """Raise GateError when a sealed run holds a picture that was erased at that moment: it must not be published."""
    found = Erasures(audit, keys).among(images)
    if found:
        raise GateError(
            f"{len(found)} images of this run were erased while it was sealed; repeat the erasure (it completes it), "
            "then finalise again"
        )
