"""Putting one more part among those of a snapshot: what decides then, and what that changes for consumers.

A run that changes nothing makes no snapshot, yet its listing counts. ``<home>/unmerged/`` holds a note of each, named by
listing time: a run that listed earlier and finishes later reads the notes after its own time, usually none. One gap is
left: both finalise at once, and the older one looks for notes just before, and takes its number just after, the newer
one does both; its rows then hold until a run looks at the source again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.publish import parts as p
from airflow_facefog.publish.parts import Part
from airflow_facefog.publish.store import Store

IDENTITY = ("key", "sha256", "recipe_hash")
"""Rows that agree in these are the same row: publishing them again changes nothing for consumers."""


_ID = ("item_id", "change")


def apply(
    dest: Store, root: str, known: Sequence[Part], part: Part, rows: Any
) -> tuple[list[Part], Any, dict[str, int], int]:
    """Parts, delta, its counts and the number of visible rows after adding ``part`` to the ``known`` ones.

    Of all rows only ids are held; whole rows only of the items that ``rows`` mention: no other item can change.
    """
    import pyarrow as pa

    noted = [item for item in _noted_after(dest, root, part) if item not in known]
    added = [*((item, p.read_part(dest, item)) for item in noted), (part, rows)]
    items = pa.chunked_array([chunk for _, table in added for chunk in table["item_id"].chunks], pa.string())
    mine, ids = [], []
    for item in known:
        data = p.part_bytes(dest, item)
        mine.append((item, mentions(data, items)))
        ids.append((item, p.decode(data, _ID)))
    old = p.deciding_rows([table for _, table in mine])
    new = p.deciding_rows([table for _, table in _in_order([*mine, *added])])
    delta, counts = difference(*(p.visible(side).drop_columns("part") for side in (old, new)))
    after = _in_order([*ids, *((item, table.select(_ID)) for item, table in added)])
    total = p.visible(p.deciding_rows([table for _, table in after])).num_rows
    return _needed(after), delta, counts, total


def difference(old: Any, new: Any) -> tuple[Any, dict[str, int]]:
    """What items became between two visible states: rows of the delta with ``change`` set, and counts.

    Both hold only the items in question.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    was = pc.index_in(new["item_id"], value_set=old["item_id"])
    moved = pc.is_valid(was)
    same = moved
    for name in IDENTITY:
        same = pc.and_(same, pc.fill_null(pc.equal(new[name], old[name].take(was)), False))
    kinds = {
        "added": new.filter(pc.invert(moved)),
        "replaced": new.filter(pc.and_(moved, pc.invert(same))),
        p.WITHDRAWN: old.filter(pc.invert(pc.is_in(old["item_id"], value_set=new["item_id"]))),
    }
    counts = {change: rows.num_rows for change, rows in kinds.items()}
    changed = pa.concat_tables([p.with_change(rows, change) for change, rows in kinds.items()])
    return changed.sort_by("item_id").cast(p.part_schema()), counts


def mentions(data: bytes, items: Any) -> Any:
    """The rows of a part about some items."""
    import pyarrow.compute as pc

    return p.scan(data, None, lambda batch: pc.is_in(batch["item_id"], value_set=items))


def note(dest: Store, root: str, part: Part) -> None:
    """Remember a part that changed nothing."""
    if part.rows:
        key = f"{root}unmerged/{_stamp(part)}-{part.run_key}-{part.generation}.json"
        dest.create(key, json.dumps(part.to_json(dest)).encode())


def _noted_after(dest: Store, root: str, part: Part) -> list[Part]:
    """Noted parts with a newer listing. Raises ConfigurationError when a note is damaged."""
    own = _stamp(part)
    names = [key for key in dest.list(f"{root}unmerged") if key.rpartition("/")[2].partition("-")[0] >= own]
    try:
        found = [Part.from_json(json.loads(dest.read(key))) for key in names]
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError("the note of a run that changed nothing is damaged; restore the destination") from None
    return [item for item in found if item.order > part.order]


def _stamp(part: Part) -> str:
    """Listing time as digits: sorts like the time."""
    return "".join(filter(str.isdigit, part.listed_at.partition("+")[0]))


def _needed(after: Sequence[tuple[Part, Any]]) -> list[Part]:
    """Parts that still decide something among those of their own listing: a mirror must know what that one showed."""
    used: set[Part] = set()
    for listing in {part.listing_id for part, _ in after}:
        same = [(part, table) for part, table in after if part.listing_id == listing]
        deciding = p.deciding_rows([table for _, table in same])
        used.update(same[index][0] for index in deciding["part"].unique().to_pylist())
    return [part for part, _ in after if part in used]


def _in_order(pairs: Iterable[tuple[Part, Any]]) -> list[tuple[Part, Any]]:
    return sorted(pairs, key=lambda pair: pair[0].order)
