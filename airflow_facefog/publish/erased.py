"""Rows that a dataset must never show again: what an erasure left behind for runs that were in flight.

``<home>/erased/<request>-<hash>.json`` lists rows as hashes of (item_id, run_key, generation), so that it
names nothing to whoever does not know the item already. A run that puts its part among those of a snapshot reads these
notes first, before each number that it tries to take: an erasure writes its note, then takes a number, so one sees the
other. Only the rows of those runs are meant: the same source may be published again with another picture.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.publish import parts as p
from airflow_facefog.publish.parts import Part
from airflow_facefog.publish.store import Store

FORMAT = "facefog-erased/1"

SHOWN = ("key", "uri", "sha256", "size", "format", "width", "height", "path")
"""Columns that a row loses when only its withdrawal stays."""

Row = tuple[str, str, int]
"""item_id, run_key, generation."""


@dataclass(frozen=True, slots=True)
class Erased:
    """Hashes of rows to drop, and of rows of which the withdrawal stays (an older picture of the item must not return)."""

    dropped: frozenset[str] = field(default=frozenset(), repr=False)
    withdrawn: frozenset[str] = field(default=frozenset(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.dropped or self.withdrawn)

    def to_json(self) -> bytes:
        """Bytes of a note; equal rows, equal bytes."""
        body = {"format": FORMAT, "dropped": sorted(self.dropped), "withdrawn": sorted(self.withdrawn)}
        return json.dumps(body).encode()


def digests(rows: Iterable[Row]) -> frozenset[str]:
    """64 hex digits for each (item_id, run_key, generation)."""
    return frozenset(map(_digest, rows))


def write_note(dest: Store, root: str, request_id: str, erased: Erased) -> str:
    """Write a note and return its name."""
    data = erased.to_json()
    name = f"{request_id}-{hashlib.sha256(data).hexdigest()[:12]}"
    dest.create(f"{root}erased/{name}.json", data)
    return name


def read_notes(dest: Store, root: str) -> Erased:
    """All notes of a dataset as one. Raises ConfigurationError when one is damaged: what it forbids is not known."""
    notes = [read_note(dest, key) for key in dest.list(f"{root}erased")]
    return Erased(
        frozenset().union(*(note.dropped for note in notes)), frozenset().union(*(note.withdrawn for note in notes))
    )


def read_note(dest: Store, key: str) -> Erased:
    """One note. Raises as ``read_notes``."""
    try:
        body = json.loads(dest.read(key))
        if body["format"] != FORMAT:
            raise KeyError(FORMAT)
        return Erased(frozenset(body["dropped"]), frozenset(body["withdrawn"]))
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError("the note of an erasure is damaged; restore the destination") from None


def allowed(dest: Store, root: str, folder: str, part: Part, rows: Any) -> tuple[Part, Any]:
    """A part and its rows without what was erased meanwhile: the same ones when nothing was."""
    erased = read_notes(dest, root)
    if not erased:
        return part, rows
    names = list(zip(*(rows[name].to_pylist() for name in ("item_id", "run_key", "generation")), strict=True))
    hashes = [_digest(name) for name in names]
    left = without(
        rows, [h in erased.dropped for h in hashes], [h in erased.withdrawn for h in hashes]
    )  # fmt: skip
    if left.equals(rows):
        return part, rows
    return write_part(dest, folder, part, left), left


def drop_first(dest: Store, folder: str, part: Part) -> None:
    """Remove what a run wrote first, once a snapshot names its changed part: nobody else can take a number with it."""
    first = f"{folder}part.parquet"
    if part.key != first:
        dest.delete(first)


def without(rows: Any, dropped: Any, withdrawn: Any) -> Any:
    """Rows of a part where the mask ``dropped`` is false; those of ``withdrawn`` say nothing but that."""
    import pyarrow as pa
    import pyarrow.compute as pc

    schema = p.part_schema()
    bare = pa.array(withdrawn, pa.bool_()) if isinstance(withdrawn, list) else withdrawn
    columns = []
    for field_ in schema:
        column = rows[field_.name]
        if field_.name == "change":
            column = pc.if_else(bare, p.WITHDRAWN, column)
        elif field_.name in SHOWN:
            column = pc.if_else(bare, pa.scalar(None, field_.type), column)
        columns.append(column)
    keep = pc.invert(pa.array(dropped, pa.bool_()) if isinstance(dropped, list) else dropped)
    return pa.Table.from_arrays(columns, schema=schema).filter(keep)


def write_part(dest: Store, folder: str, part: Part, rows: Any) -> Part:
    """Write changed rows of a part beside it, named by content, and return how snapshots list them."""
    data = p.encode(rows)
    sha256 = hashlib.sha256(data).hexdigest()
    key = f"{folder}part-{sha256[:16]}.parquet"
    dest.create(key, data)
    return replace(part, key=key, sha256=sha256, rows=rows.num_rows, kept_from=p.origins(rows))


def _digest(row: Row) -> str:
    item_id, run_key, generation = row
    return hashlib.sha256(f"facefog/erased-row/1\0{item_id}\0{run_key}\0{generation}".encode()).hexdigest()
