"""What people reported about a picture is fogged by every run: looked up by batches, and checked when a run is finalised."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import GateError, SourceError
from airflow_facefog.core.records import Action, Detection, ImageRecord, Reason, Status
from airflow_facefog.job.erased import KEPT

if TYPE_CHECKING:
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.job.tables import Tables
    from airflow_facefog.publish.store import Store

log = logging.getLogger(__name__)

NAMES = ("source_ref", "image_id", "source_group", *KEPT)
"""Columns that a failed row keeps."""


class Reported:
    """Tells which regions stand for which pictures of an audit. One listing, when it is made."""

    def __init__(self, audit: Store, keys: KeyRing) -> None:
        from airflow_facefog.audit.regions import FOLDER, list_reports

        self._reports = list_reports(audit)
        self._audit = audit
        self._keys = keys
        others = {folder.split("/")[1] for folder in self._reports if folder != FOLDER} - {keys.key_id}
        if others:
            log.warning(
                "regions were reported under other master keys (%s): they cannot be told here; report them again under "
                "key %s", ", ".join(sorted(others)), keys.key_id,
            )  # fmt: skip

    def __repr__(self) -> str:
        return f"Reported({len(self._reports)})"

    def __contains__(self, image_id: object) -> bool:
        return bool(self._reports) and self._folder(str(image_id)) in self._reports

    def find(self, image_id: str) -> tuple[Detection, ...]:
        """The regions of a picture. Raises SourceError(REGIONS_UNREADABLE): the image has no decision then."""
        from airflow_facefog.audit.regions import read_regions

        if image_id not in self:
            return ()
        return read_regions(self._audit, self._keys, image_id, self._reports[self._folder(image_id)])

    def among(self, images: Any) -> list[str]:
        """The image_ids of a table's rows about which something was reported."""
        if not self._reports:
            return []
        return [image_id for image_id in images["image_id"].unique().to_pylist() if image_id and image_id in self]

    def met_by(self, image_id: str, rows: Iterable[Any]) -> bool:
        """Whether these rows of ``facefog_detection`` about the picture fog everything that was reported."""
        try:
            return fogs(rows, self.find(image_id))
        except SourceError:
            return False

    def _folder(self, image_id: str) -> str:
        from airflow_facefog.audit.regions import folder

        return folder(self._keys, image_id)


def fogs(rows: Iterable[Any], regions: Iterable[Detection]) -> bool:
    """Whether rows of ``facefog_detection`` fog each of these reported regions."""
    fogged = (row for row in rows if row["source"] == "human" and row["action"] == Action.FOGGED)
    found = {tuple(row[name] for name in ("class_name", "x1", "y1", "x2", "y2")) for row in fogged}
    return {(one.class_name, *one.xyxy) for one in regions} <= found


def unmet(images: Any, detections: Any, reported: Reported) -> list[str]:
    """Sources whose picture was published, or left as it was, without what was reported about it. Both: ``pyarrow`` tables
    of one run generation.
    """
    import pyarrow.compute as pc

    from airflow_facefog.job.trace_rows import is_in

    ids = reported.among(images)
    if not ids:
        return []
    shown = is_in(images["status"], (Status.PUBLISHED.value, Status.SKIPPED.value))
    rows = images.filter(pc.and_(shown, is_in(images["image_id"], ids))).select(["source_ref", "image_id", "status"])
    found: dict[str, list[Any]] = {}
    for row in detections.filter(is_in(detections["image_id"], ids)).to_pylist():
        found.setdefault(row["source_ref"], []).append(row)
    return [
        row["source_ref"] for row in rows.to_pylist()
        if row["status"] == Status.SKIPPED or not reported.met_by(row["image_id"], found.get(row["source_ref"], ()))
    ]  # fmt: skip


def without_unmet(tables: Tables, refs: list[str]) -> Tables:
    """Committed rows of which those of some sources say that they failed; they stand at the end."""
    import pyarrow.compute as pc

    from airflow_facefog.audit.parquet import join_compact, read_compact, to_parquet
    from airflow_facefog.job.trace_rows import is_in, without

    log.warning("%s images lack what was reported while this run was under way; the next run takes them", len(refs))
    mine = is_in(tables.images["source_ref"], refs)
    failed = [
        ImageRecord(
            **{name: row[name] for name in NAMES}, status=Status.FAILED.value, reason=Reason.REGIONS_MISSING.value
        )
        for row in tables.images.filter(mine).to_pylist()
    ]
    rows = read_compact("facefog_image", to_parquet("facefog_image", failed))
    images = join_compact(iter([tables.images.filter(pc.invert(mine)), rows]))
    detections = without(tables.detections, is_in(tables.detections["source_ref"], refs))
    return replace(tables, images=images, detections=detections)


def refuse_unmet(images: Any, detections: Any, audit: Store, keys: KeyRing) -> None:
    """Raise GateError when something was reported about a picture of a run while that was sealed."""
    refs = unmet(images, detections, Reported(audit, keys))
    if refs:
        raise GateError(
            f"regions of {len(refs)} images of this run were reported while it was sealed; repeat that `erase --refog` (it "
            "takes these rows away), then finalise again"
        )
