"""What the newest snapshots show, and which parts any snapshot names: read from the destination, believed in nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.publish import parts as p
from airflow_facefog.publish.dataset import DEFAULT
from airflow_facefog.publish.prove.index import DigestIndex, Digests, Rows, from_hex
from airflow_facefog.publish.prove.known import BATCH, Known
from airflow_facefog.publish.snapshots import newest_seq, read_snapshot
from airflow_facefog.publish.store import Store

FOLDER = "_facefog/"
HEX64 = r"^[0-9a-f]{64}$"
_DATASET = re.compile(r"_facefog/(?:datasets/([A-Za-z0-9][A-Za-z0-9_-]{0,63})/)?(dataset\.json|snapshots/\d{10}\.json)")


@dataclass(frozen=True, slots=True)
class Shown:
    """One dataset's newest snapshot. ``rows``: its objects (``key``, ``sha256``); ``problem``: why it cannot be read."""

    dataset: str
    seq: int | None
    runs: frozenset[tuple[str, int]] = field(repr=False, default=frozenset())
    rows: Any = field(repr=False, compare=False, default=None)
    problem: str | None = None


def read_shown(store: Store) -> list[Shown]:
    """Every dataset of a destination, by name; none when the store is no destination."""
    return [_read(store, name) for name in datasets_in(store.list(FOLDER.rstrip("/")))]


def datasets_in(keys: Iterable[str]) -> list[str]:
    """Names of the datasets that have a ``dataset.json`` or a snapshot among these keys."""
    found = (_DATASET.fullmatch(key) for key in keys)
    return sorted({match[1] or DEFAULT for match in found if match})


def _read(store: Store, dataset: str) -> Shown:
    seq = None
    try:
        seq = newest_seq(store, dataset)
        if seq is None:
            return Shown(dataset, None)
        snapshot = read_snapshot(store, dataset, seq)
        decided = [p.read_part(store, part, ("item_id", "change", "key", "sha256")) for part in snapshot.parts]
        rows = p.visible(p.deciding_rows(decided))
        if not _is_named(rows):
            raise ConfigurationError(f"snapshot {seq} shows rows without a key or a sha256; it was forged")
    except ConfigurationError as error:
        return Shown(dataset, seq, problem=str(error))
    return Shown(dataset, seq, frozenset(snapshot.sources), rows)


def _is_named(rows: Any) -> bool:
    import pyarrow.compute as pc

    hashed = pc.fill_null(pc.match_substring_regex(rows["sha256"], HEX64), False)
    return bool(pc.all(pc.and_(hashed, pc.is_valid(rows["key"]))).as_py() is not False)


class Expected:
    """Which recorded rows the snapshots show, and what they show that nobody recorded."""

    def __init__(self, known: Known, shown: Iterable[Shown]) -> None:
        self.current: npt.NDArray[np.bool_] = np.zeros(len(known), np.bool_)
        self.strangers: list[tuple[Shown, str]] = []
        self.rows: Rows = np.empty(0, np.int64)
        self.covered: set[tuple[str, str]] = set()
        digests = [np.empty((0, 32), np.uint8)]
        for item in shown:
            for start in range(0, 0 if item.rows is None else item.rows.num_rows, BATCH):
                rows = item.rows.slice(start, BATCH)
                digests.append(from_hex(rows["sha256"]))
                self._match(known, item, rows["key"].to_pylist(), digests[-1])
            self.covered |= _places(known, item)
        self.rows = np.unique(self.rows)
        if len(known):
            self.current = DigestIndex(np.concatenate(digests)).find(known.outputs.digests) >= 0

    def _match(self, known: Known, item: Shown, keys: list[str], digests: Digests) -> None:
        rows = known.outputs.find(digests)
        same = known.keys.take(np.maximum(rows, 0)).to_pylist() if len(known) else [None] * len(keys)
        untold = any(
            run.expired for run in known.runs
        )  # then what nobody recorded may have been published: it is an orphan
        for at, (key, here) in enumerate(zip(keys, same, strict=True)):
            if rows[at] >= 0 and key != here:  # equal bytes under another name
                others = [row for row in known.outputs.find_all(digests[at]) if known.key_of(row) == key]
                rows[at] = others[0] if others else -1
            if not (untold if rows[at] < 0 else known.vouched[rows[at]]):
                self.strangers.append((item, key))
        self.rows = np.concatenate([self.rows, rows[rows >= 0]])


def _places(known: Known, item: Shown) -> set[tuple[str, str]]:
    """(destination, dataset) of the runs that the snapshot names: for these it tells what is current."""
    return {
        (str(run.sealed.row["destination"]), str(run.sealed.row["dataset"]))
        for run in known.runs
        if run.sealed is not None and (run.run_key, run.generation) in item.runs
    }


def named_parts(data: bytes | None, named: dict[str, set[str]]) -> None:
    """Add what a snapshot or note names: part key → hashes. Nothing for a file that does not parse."""
    try:
        body = json.loads(data or b"")
        for part in body.get("parts", [body]):
            named.setdefault(str(part["key"]), set()).add(str(part["sha256"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
