"""Take items out of a dataset for good: out of what it shows now, and out of every older version.

Order, each step a function of what is there, so that a second call finishes what a first one began: note the rows
(``erased``), write the parts without them, take the next snapshot number (its delta withdraws), let older snapshots, notes
and deltas name and hold what is left, delete the old parts. Runs that finalise meanwhile lose the number or read the note.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_facefog.publish import erased as e
from airflow_facefog.publish import merging, snapshots
from airflow_facefog.publish import parts as p
from airflow_facefog.publish.cutting import Cut, Targets, cut, cut_file, is_delta, mentioned, tables
from airflow_facefog.publish.dataset import home
from airflow_facefog.publish.erased import Erased
from airflow_facefog.publish.parts import Part
from airflow_facefog.publish.store import Store


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What happened. ``seq``: the snapshot that shows the items no more (None: no snapshot ever did)."""

    seq: int | None
    delta_uri: str | None
    withdrawn: int
    files_changed: int


@dataclass(frozen=True, slots=True)
class _Left:
    """What is left of a part. ``before``, ``after``: its rows of the items in question; ``ids``: of all items."""

    part: Part
    changed: bool
    before: Any
    after: Any
    ids: Any


def withdraw(dest: Store, dataset: str, targets: Targets, request_id: str) -> Withdrawal:
    """Take ``targets`` out of one dataset of a destination. Doing it again moves nothing.

    Raises ConfigurationError when a part or snapshot is damaged, StoreError when the store is down.
    """
    root = home(dataset)
    found = mentioned(dest, dataset, targets)
    if found:
        note = _note(dest, found, targets)
        name = e.write_note(dest, root, request_id, note)
        _show_no_more(dest, dataset, targets, request_id, name, note)
        _rewrite_history(dest, dataset, targets)
        _rewrite_tables(dest, dataset, targets)
    return _finished(dest, dataset, request_id, len(found))


def _note(dest: Store, found: Iterable[str], targets: Targets) -> Erased:
    rows = set(targets.rows)
    for key in found:
        cut = cut_file(dest, key, targets)
        few = cut.rows.select(["item_id", "run_key", "generation"]).filter(cut.dropped).to_pylist()
        rows.update((row["item_id"], row["run_key"], row["generation"]) for row in few)
    return Erased(
        e.digests(row for row in rows if row[0] in targets.gone),
        e.digests(row for row in rows if row[0] not in targets.gone),
    )


def _show_no_more(dest: Store, dataset: str, targets: Targets, request_id: str, name: str, note: Erased) -> None:
    """Make the snapshot without the rows. One that was made with such a note before is enough."""
    while True:
        seq = snapshots.newest_seq(dest, dataset)
        if seq is None:
            return
        left = [_left(dest, part, targets) for part in snapshots.read_snapshot(dest, dataset, seq).parts]
        if not any(one.changed for one in left) and _fenced(dest, dataset, request_id, note):
            return
        before = p.visible(p.deciding_rows([one.before for one in left]))
        after = p.visible(p.deciding_rows([one.after for one in left]))
        total = p.visible(p.deciding_rows([one.ids for one in left])).num_rows
        body = _body(dest, dataset, seq + 1, request_id, name, _delta(before, after, request_id))
        body |= {"rows": total, "parts": [one.part.to_json(dest) for one in left]}
        if dest.create(_key(dataset, seq + 1), json.dumps(body, indent=1).encode()):
            dest.replace(f"{home(dataset)}latest.json", json.dumps({"seq": seq + 1}).encode())
            return


def _left(dest: Store, part: Part, targets: Targets) -> _Left:
    """Write a part without the rows, and keep of it what a snapshot needs: a dataset does not fit into memory."""
    import pyarrow.compute as pc

    found = cut(p.part_bytes(dest, part), targets)
    before, after = (
        rows.filter(pc.is_in(rows["item_id"], value_set=targets.items)) for rows in (found.rows, found.left)
    )
    ids = found.left.select(["item_id", "change"])
    return _Left(_replaced(dest, part, found), found.hits > 0, before, after, ids)


def _fenced(dest: Store, dataset: str, request_id: str, note: Erased) -> bool:
    """Whether a snapshot followed a note of this request with these rows: every run that merges later has read it."""
    made = [body["erased"] for _, body in _listings(dest, dataset) if body.get("run_key") == request_id]
    known = [e.read_note(dest, f"{home(dataset)}erased/{name}.json") for name in made]
    return any(note.dropped <= found.dropped and note.withdrawn <= found.withdrawn for found in known)


def _delta(old: Any, new: Any, request_id: str) -> Any:
    """The withdrawals, by item only: where the picture lay and what it was called is not repeated."""
    import pyarrow as pa

    rows, _ = merging.difference(*(side.drop_columns("part") for side in (old, new)))
    named = [
        {"item_id": item, "change": p.WITHDRAWN, "run_key": request_id, "generation": 0}
        for item in rows["item_id"].to_pylist()
    ]
    return pa.Table.from_pylist(named, schema=p.part_schema())


def _body(dest: Store, dataset: str, seq: int, request_id: str, note: str, delta: Any) -> dict[str, Any]:
    key = f"{home(dataset)}withdrawals/{request_id}/delta-{seq:010d}.parquet"
    data = p.encode(delta)
    if not dest.create(key, data) and dest.read(key) != data:
        dest.replace(key, data)  # of a number that another run took
    counts = {"added": 0, "replaced": 0, p.WITHDRAWN: delta.num_rows}
    return {
        "format": snapshots.FORMAT, "seq": seq, "dataset": dataset, "created_at": datetime.now(UTC).isoformat(),
        "run_key": request_id, "generation": 0, "erased": note,
        "delta": {"key": key, "uri": dest.uri(key), "counts": counts},
    }  # fmt: skip


def _replaced(dest: Store, part: Part, cut: Cut) -> Part:
    if not cut.hits:
        return part
    return e.write_part(dest, f"{part.key.rpartition('/')[0]}/", part, cut.left)


def _rewrite_history(dest: Store, dataset: str, targets: Targets) -> None:
    """Let older snapshots and notes name the parts that are left."""
    made: dict[str, Part] = {}
    for key, body in _listings(dest, dataset):
        listed = [Part.from_json(part) for part in body.get("parts", [body])]
        changed = [_renamed(dest, part, targets, made) for part in listed]
        if changed != listed:
            parts = [part.to_json(dest) for part in changed]
            left = {**body, "parts": parts} if "parts" in body else parts[0]
            dest.replace(key, json.dumps(left, indent=1).encode())


def _renamed(dest: Store, part: Part, targets: Targets, made: dict[str, Part]) -> Part:
    """The part without the rows."""
    if part.key not in made:
        made[part.key] = _replaced(dest, part, cut(p.part_bytes(dest, part), targets))
    return made[part.key]


def _rewrite_tables(dest: Store, dataset: str, targets: Targets) -> None:
    """Deltas in place; parts that nothing names are deleted: old ones, and what a run wrote and could not merge yet."""
    named = _named(dest, dataset)
    for key in tables(dest, home(dataset)):
        cut = cut_file(dest, key, targets)
        if cut.hits and is_delta(key):
            dest.replace(key, p.encode(cut.left))
        elif cut.hits and key not in named:
            dest.delete(key)


def _named(dest: Store, dataset: str) -> set[str]:
    """Keys of all parts that a snapshot or note names."""
    bodies = [body for _, body in _listings(dest, dataset)]
    return {part["key"] for body in bodies for part in body.get("parts", [body])}


def _listings(dest: Store, dataset: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything that names parts: all snapshots, and the notes of runs that changed nothing."""
    for seq in range(1, (snapshots.newest_seq(dest, dataset) or 0) + 1):
        yield _key(dataset, seq), _read(dest, dataset, seq)
    for key in dest.list(f"{home(dataset)}unmerged"):
        yield key, json.loads(dest.read(key))


def _read(dest: Store, dataset: str, seq: int) -> dict[str, Any]:
    snapshots.read_snapshot(dest, dataset, seq)
    return dict(json.loads(dest.read(_key(dataset, seq))))


def _key(dataset: str, seq: int) -> str:
    return f"{home(dataset)}snapshots/{seq:010d}.json"


def _finished(dest: Store, dataset: str, request_id: str, files: int) -> Withdrawal:
    """What this and earlier calls of the request did."""
    newest = snapshots.newest_seq(dest, dataset) or 0
    made = [found for seq in range(1, newest + 1) if (found := _read(dest, dataset, seq))["run_key"] == request_id]
    if not made:
        return Withdrawal(None, None, 0, files)
    withdrawn = sum(body["delta"]["counts"][p.WITHDRAWN] for body in made)
    return Withdrawal(made[-1]["seq"], dest.uri(made[-1]["delta"]["key"]), withdrawn, files)
