"""The record as one thing to ask: is this hash in it, under which key, and what is it to its dataset?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from airflow_facefog.publish.prove.index import NONE, DigestIndex, Rows, from_bytes
from airflow_facefog.publish.prove.known import Known
from airflow_facefog.publish.prove.model import Hashed, State
from airflow_facefog.publish.prove.shown import Expected, Shown
from airflow_facefog.publish.prove.tally import Run

OTHER_KEY = "recorded under another key"


@dataclass(frozen=True, slots=True)
class Proven:
    """Objects whose bytes were recorded, with their rows and a word where the key is not the recorded one."""

    items: list[Hashed] = field(repr=False)
    rows: Rows = field(repr=False)
    details: list[str] = field(repr=False)

    def only(self, wanted: npt.NDArray[np.bool_]) -> Proven:
        """Those of a mask."""
        at = np.nonzero(wanted)[0].tolist()
        return Proven([self.items[n] for n in at], self.rows[wanted], [self.details[n] for n in at])


class Book:
    """What is known and what the snapshots show of it."""

    def __init__(self, known: Known, shown: Sequence[Shown]) -> None:
        self.known = known
        self.expected = Expected(known, shown)
        self._runs: list[Run] = [(run.run_key, run.generation) for run in known.runs]
        self._covered = np.array([self._is_covered(number) for number in range(len(known.runs))], np.bool_)

    def _is_covered(self, number: int) -> bool:
        sealed = self.known.runs[number].sealed
        return (
            sealed is not None and (str(sealed.row["destination"]), str(sealed.row["dataset"])) in self.expected.covered
        )

    def look_up(self, items: Sequence[Hashed]) -> tuple[Proven, list[Hashed]]:
        """(proven, the rest). Recorded bytes under a key that is recorded for other bytes are not proven."""
        rows = self.known.outputs.find(from_bytes(b"".join(item.digest for item in items)))
        keys = self.known.keys.take(np.maximum(rows, 0)).to_pylist() if len(self.known) else [None] * len(items)
        details = [""] * len(items)
        for at, (item, key) in enumerate(zip(items, keys, strict=True)):
            if rows[at] != NONE and item.key != key:
                rows[at], details[at] = self._other_key(item, int(rows[at]))
        good = np.nonzero(rows != NONE)[0].tolist()
        rest = [items[at] for at in np.nonzero(rows == NONE)[0].tolist()]
        return Proven([items[at] for at in good], rows[good], [details[at] for at in good]), rest

    def _other_key(self, item: Hashed, row: int) -> tuple[int, str]:
        under_key = self.known.by_key.find_all(item.key)
        for candidate in under_key:
            if self.known.outputs.digests[candidate].tobytes() == item.digest:
                return candidate, ""
        return (NONE, "") if under_key else (row, OTHER_KEY)

    def claim(self, item: Hashed) -> tuple[str, int | None]:
        """What is wrong with an object that is not proven, given its key alone: ("", None) for a key nobody recorded.

        With the row whose bytes it holds, when they are another object's.
        """
        if not self.known.by_key.find_all(item.key):
            return "", None
        other = int(self.known.outputs.find(from_bytes(item.digest))[0]) if item.digest else NONE
        if other == NONE:
            return "other bytes than were recorded under this key", None
        return "the bytes of another recorded object lie under this key", other

    def states(self, rows: Rows) -> list[State]:
        """What proven rows are to their datasets."""
        sealed, current = self.known.sealed[rows], self.expected.current[rows]
        covered = self._covered[self.known.run[rows]] if len(rows) else np.empty(0, np.bool_)
        codes = np.select([~sealed, current, covered], [0, 1, 2], 3)
        words = (State.UNCOMMITTED, State.CURRENT, State.SUPERSEDED, State.PUBLISHED)
        return [words[code] for code in codes.tolist()]

    def runs(self, rows: Rows) -> list[Run]:
        """(run_key, generation) of rows."""
        return [self._runs[number] for number in self.known.run[rows].tolist()]

    def among(self, digests: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which rows have one of these hashes (n, 32)."""
        return np.asarray(DigestIndex(digests).find(self.known.outputs.digests) >= 0, np.bool_)
