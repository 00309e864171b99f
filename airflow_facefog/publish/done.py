"""What need not be done again: outputs of the pinned snapshot, and images that this recipe refused before.

Consumers' rows hold no id of raw bytes (that would be a membership oracle), so the match is made on the audit side: the
image parts of the runs that the snapshot refers to. A row that cannot be matched with certainty is processed again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

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


class DoneIndex:
    """Answers "done?" and "refused?" for one pinned snapshot. Immutable once loaded; safe from several threads."""

    def __init__(self, audit: Store, by_image: Mapping[tuple[str, str], Mapping[str, DoneHit]]) -> None:
        self._audit = audit
        self._by_image = by_image
        self._refused: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"DoneIndex({len(self._by_image)} images)"

    @classmethod
    def load(cls, dest: Store, audit: Store, dataset: str, seq: int | None) -> DoneIndex:
        """Read snapshot ``seq`` and the audit parts behind it (None: nothing was ever published).

        Raises ConfigurationError when a part is missing or damaged, StoreError when a store is down.
        """
        if seq is None:
            return cls(audit, {})
        table = visible(snapshots.resolve(dest, snapshots.read_snapshot(dest, dataset, seq)))
        runs: dict[tuple[str, int, str], Counter[tuple[str, str]]] = {}
        names = ("run_key", "generation", "recipe_hash", "key", "sha256")
        for run_key, generation, recipe, key, sha in zip(*(table[n].to_pylist() for n in names), strict=True):
            runs.setdefault((run_key, generation, recipe), Counter())[(dest.uri(key), sha)] += 1
        index: dict[tuple[str, str], dict[str, DoneHit]] = {}
        for (run_key, generation, recipe), shown in runs.items():
            _index_run(index, _image_rows(audit, run_key, generation), run_key, recipe, shown)
        return cls(audit, index)

    def find(self, recipe_hash: str, image_id: str, source_ref: str | None) -> DoneHit | None:
        """The output of these raw bytes under this recipe. ``source_ref`` must be equal too; None: any (content layout)."""
        hits = self._by_image.get((recipe_hash, image_id), {})
        return next(iter(hits.values()), None) if source_ref is None else hits.get(source_ref)

    def quarantined(self, recipe_hash: str, image_id: str) -> bool:
        """Whether a sealed run refused these raw bytes under this recipe."""
        with self._lock:
            if recipe_hash not in self._refused:
                self._refused[recipe_hash] = _refused_images(self._audit, recipe_hash)
            return image_id in self._refused[recipe_hash]


def record_refusals(
    audit: Store, *, recipe_hash: str, run_key: str, generation: int, images: Iterable[Mapping[str, Any]]
) -> None:
    """Note that a sealed run refused images, so that ``quarantined`` finds it. Call after its image part is written.

    Only new refusals are noted (not ``already_quarantined``): the first run's rows go on telling.
    """
    if any(row["status"] == "quarantined" and row["reason"] != "already_quarantined" for row in images):
        audit.create(f"refusals/{recipe_hash}/{run_key}-{generation}", b"")


def _refused_images(audit: Store, recipe_hash: str) -> frozenset[str]:
    found: set[str] = set()
    for key in audit.list(f"refusals/{recipe_hash}"):
        run_key, _, generation = key.rpartition("/")[2].rpartition("-")
        rows = _image_rows(audit, run_key, int(generation))
        found.update(row["image_id"] for row in rows if row["status"] == "quarantined" and row["image_id"])
    return frozenset(found)


def _image_rows(audit: Store, run_key: str, generation: int) -> list[dict[str, Any]]:
    from airflow_facefog.audit.parquet import read_arrow
    from airflow_facefog.core.errors import ConfigurationError

    data = audit.get(f"runs/{run_key}/{generation}/image.parquet")
    if data is None:
        raise ConfigurationError(f"the audit of run {run_key} generation {generation} is missing; restore the audit")
    rows: list[dict[str, Any]] = read_arrow("facefog_image", data, _COLUMNS).to_pylist()
    return rows


def _index_run(
    index: dict[tuple[str, str], dict[str, DoneHit]], rows: list[dict[str, Any]], run_key: str, recipe: str,
    shown: Counter[tuple[str, str]],
) -> None:  # fmt: skip
    """Add what the snapshot still shows of one run.

    Where items share an object and one of them was withdrawn, nothing here says which: none of them counts as done.
    """
    rows = [row for row in rows if row["status"] == "published"]
    written = Counter((row["output_uri"], row["output_sha256"]) for row in rows)
    for row in rows:
        output = (row["output_uri"], row["output_sha256"])
        if shown[output] == written[output]:
            hit = DoneHit(run_key, *output)
            index.setdefault((recipe, row["image_id"]), {})[row["source_ref"]] = hit
