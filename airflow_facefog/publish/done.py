"""What need not be done again: outputs of the pinned snapshot, and images that this recipe refused before.

Consumers' rows hold no id of raw bytes (that would be a membership oracle), so the match is made on the audit side: the
image parts of the runs that the snapshot refers to. A row that cannot be matched with certainty is processed again.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.publish import snapshots
from airflow_facefog.publish.parts import visible
from airflow_facefog.publish.store import Store

_COLUMNS = ("status", "image_id", "source_ref", "output_uri", "output_sha256")


@dataclass(frozen=True, slots=True)
class DoneHit:
    """The run that did it, and its output."""

    run_key: str
    output_uri: str
    output_sha256: str


@dataclass(frozen=True, slots=True)
class _Run:
    """Rows of one run that the snapshot still shows; ``table`` has the columns of ``_COLUMNS``."""

    run_key: str
    recipe_hash: str
    table: Any


class DoneIndex:
    """Answers "done?" and "refused?" for one pinned snapshot. Safe from several threads.

    Holds about 400 bytes for each shown row: columns, and a table of 16-byte digests.
    """

    def __init__(self, audit: Store, runs: Sequence[_Run]) -> None:
        self._audit = audit
        self._runs = runs
        self._rows: dict[bool, dict[bytes, tuple[int, int]]] = {}
        self._refused: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"DoneIndex({sum(run.table.num_rows for run in self._runs)} rows)"

    @classmethod
    def load(cls, dest: Store, audit: Store, dataset: str, seq: int | None) -> DoneIndex:
        """Read snapshot ``seq`` and the audit parts behind it (None: nothing was ever published).

        Raises ConfigurationError when a part is missing or damaged, StoreError when a store is down.
        """
        if seq is None:
            return cls(audit, ())
        table = visible(snapshots.resolve(dest, snapshots.read_snapshot(dest, dataset, seq)))
        shown: dict[tuple[str, int, str], Counter[tuple[str, str]]] = {}
        names = ("run_key", "generation", "recipe_hash", "key", "sha256")
        for run_key, generation, recipe, key, sha in zip(*(table[n].to_pylist() for n in names), strict=True):
            shown.setdefault((run_key, generation, recipe), Counter())[(dest.uri(key), sha)] += 1
        return cls(
            audit,
            [
                _Run(run_key, recipe, _still_shown(_image_rows(audit, run_key, generation), outputs))
                for (run_key, generation, recipe), outputs in shown.items()
            ],
        )

    def find(self, recipe_hash: str, image_id: str, source_ref: str | None) -> DoneHit | None:
        """The output of these raw bytes under this recipe. ``source_ref`` must be equal too; None: any (content layout)."""
        place = self._digests(source_ref is not None).get(_digest(recipe_hash, image_id, source_ref or ""))
        if place is None:
            return None
        run = self._runs[place[0]]
        return DoneHit(run.run_key, *(run.table[name][place[1]].as_py() for name in ("output_uri", "output_sha256")))

    def quarantined(self, recipe_hash: str, image_id: str) -> bool:
        """Whether a sealed run refused these raw bytes under this recipe."""
        with self._lock:
            if recipe_hash not in self._refused:
                self._refused[recipe_hash] = _refused_images(self._audit, recipe_hash)
            return image_id in self._refused[recipe_hash]

    def _digests(self, with_source: bool) -> dict[bytes, tuple[int, int]]:
        with self._lock:
            if with_source not in self._rows:
                self._rows[with_source] = {
                    _digest(run.recipe_hash, image_id, source_ref if with_source else ""): (number, row)
                    for number, run in enumerate(self._runs)
                    for row, (image_id, source_ref) in enumerate(
                        zip(run.table["image_id"].to_pylist(), run.table["source_ref"].to_pylist(), strict=True)
                    )
                }
            return self._rows[with_source]


def record_refusals(
    audit: Store, *, recipe_hash: str, run_key: str, generation: int, images: Iterable[Mapping[str, Any]]
) -> None:
    """Note that a sealed run refused images, so that ``quarantined`` finds it. Call after its image part is written.

    Only new refusals are noted (not ``already_quarantined``): the first run's rows go on telling.
    """
    if any(row["status"] == "quarantined" and row["reason"] != "already_quarantined" for row in images):
        audit.create(f"refusals/{recipe_hash}/{run_key}-{generation}", b"")


def _digest(recipe_hash: str, image_id: str, source_ref: str) -> bytes:
    return hashlib.blake2b(f"{recipe_hash}\0{image_id}\0{source_ref}".encode(), digest_size=16).digest()


def _refused_images(audit: Store, recipe_hash: str) -> frozenset[str]:
    import pyarrow.compute as pc

    found: set[str] = set()
    for key in audit.list(f"refusals/{recipe_hash}"):
        run_key, _, generation = key.rpartition("/")[2].rpartition("-")
        rows = _image_rows(audit, run_key, int(generation))
        found.update(rows.filter(pc.equal(rows["status"], "quarantined"))["image_id"].drop_null().to_pylist())
    return frozenset(found)


def _image_rows(audit: Store, run_key: str, generation: int) -> Any:
    from airflow_facefog.audit.parquet import read_arrow

    data = audit.get(f"runs/{run_key}/{generation}/image.parquet")
    if data is None:
        raise ConfigurationError(f"the audit of run {run_key} generation {generation} is missing; restore the audit")
    return read_arrow("facefog_image", data, _COLUMNS)


def _still_shown(rows: Any, shown: Counter[tuple[str, str]]) -> Any:
    """Published rows of one run that the snapshot still shows.

    Where items share an object and one of them was withdrawn, nothing here says which: none of them counts as done.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = rows.filter(pc.equal(rows["status"], "published")).combine_chunks()
    outputs = list(zip(rows["output_uri"].to_pylist(), rows["output_sha256"].to_pylist(), strict=True))
    written = Counter(outputs)
    return rows.filter(pa.array([shown[output] == written[output] for output in outputs], type=pa.bool_()))
