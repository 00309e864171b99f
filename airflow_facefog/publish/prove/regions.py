"""Which regions of published pictures were fogged, for some of them at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.parquet import read_batches
from airflow_facefog.core.records import Action, IntXYXY
from airflow_facefog.publish.prove.index import Rows
from airflow_facefog.publish.prove.known import BATCH, Known, read_part

SLAB = 20_000
"""Pictures whose regions are held at a time."""

COLUMNS = ("source_ref", "action", "fx1", "fy1", "fx2", "fy2")

Boxes = tuple[IntXYXY, ...]


def with_regions(audit: Objects, known: Known, rows: Rows) -> Iterator[dict[int, Boxes]]:
    """Slabs of row → fogged regions (xyxy px of the upright picture, may be none), a run at a time.

    Raises LedgerError when a run's detections are damaged. Rows of a run whose detections expired are left out: without
    regions nothing can be said about their inside.
    """
    for number in np.unique(known.run[rows]):
        mine = rows[known.run[rows] == number]
        sealed = known.runs[int(number)].sealed
        part = None if sealed is None else sealed.parts.get("detection")
        if part is not None:
            data = read_part(audit, part)
            for start in range(0, len(mine), SLAB):
                yield _regions(data, known, [int(row) for row in mine[start : start + SLAB]])


def _regions(data: bytes, known: Known, rows: Sequence[int]) -> dict[int, Boxes]:
    refs = {known.refs[row].tobytes().hex(): row for row in rows}
    found: dict[int, list[IntXYXY]] = {row: [] for row in rows}
    wanted = pa.array(list(refs), pa.string())
    for batch in read_batches("facefog_detection", data, COLUMNS, BATCH):
        fogged = pc.and_(pc.equal(batch["action"], Action.FOGGED.value), pc.is_valid(batch["fx1"]))
        here = batch.filter(pc.and_(fogged, pc.is_in(batch["source_ref"], value_set=wanted)))
        columns = [here[name].to_pylist() for name in ("source_ref", "fx1", "fy1", "fx2", "fy2")]
        for ref, x1, y1, x2, y2 in zip(*columns, strict=True):
            found[refs[ref]].append((x1, y1, x2, y2))
    return {row: tuple(boxes) for row, boxes in found.items()}
