"""What need not be done again: outputs of the pinned snapshot, and images that this recipe refused before.

Consumers' rows hold no id of raw bytes (that would be a membership oracle), so the match is made on the audit side: the
image parts of the runs that the snapshot refers to. A row that cannot be matched with certainty is processed again.

Every batch task loads an index, so it reads columns and keeps what can matter to the batch: one recipe, its own sources.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_facefog.audit.ledger import CurrentParts
from airflow_facefog.publish import parts as p
from airflow_facefog.publish import snapshots
from airflow_facefog.publish.items import keys
from airflow_facefog.publish.parts import Part
from airflow_facefog.publish.store import Store

_OUTPUTS = ("item_id", "change", "key", "sha256", "run_key", "generation")
_IMAGES = ("status", "image_id", "source_ref", "output_uri", "output_sha256")


@dataclass(frozen=True, slots=True)
class DoneHit:
    """The run that did it."""

    run_key: str


class DoneIndex:
    """Answers "done?" and "refused?" for one pinned snapshot, one recipe and some sources. Safe from several threads.

    ``done``: (image_id, source_ref) → run_key.
    """

    def __init__(self, audit: Store, recipe_hash: str, done: Mapping[tuple[str, str], str]) -> None:
        self._audit = audit
        self._recipe_hash = recipe_hash
        self._done = done
        self._refused: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"DoneIndex({len(self._done)} rows)"

    @classmethod
    def load(
        cls, dest: Store, audit: Store, dataset: str, seq: int | None, *, recipe_hash: str, source_refs: Collection[str]
    ) -> DoneIndex:
        """Read what snapshot ``seq`` shows of one recipe and some sources, and the audit behind it (None: nothing yet).

        Raises ConfigurationError when the snapshot or a part of it is missing or damaged, LedgerError when the audit of
        one of its runs is, StoreError when a store is down.
        """
        parts = snapshots.read_snapshot(dest, dataset, seq).parts if seq is not None else ()
        done: dict[tuple[str, str], str] = {}
        for run_key, rows in _done_rows(dest, audit, parts, recipe_hash, source_refs):
            names = zip(rows["image_id"].to_pylist(), rows["source_ref"].to_pylist(), strict=True)
            done.update(dict.fromkeys(names, run_key))
        return cls(audit, recipe_hash, done)

    def find(self, recipe_hash: str, image_id: str, source_ref: str) -> DoneHit | None:
        """The run that did these raw bytes of this source under this recipe."""
        run_key = self._done.get((image_id, source_ref)) if recipe_hash == self._recipe_hash else None
        return None if run_key is None else DoneHit(run_key)

    def quarantined(self, recipe_hash: str, image_id: str) -> bool:
        """Whether a sealed run refused these raw bytes under this recipe."""
        with self._lock:
            if recipe_hash not in self._refused:
                self._refused[recipe_hash] = _refused_images(self._audit, recipe_hash)
            return image_id in self._refused[recipe_hash]


def record_refusals(audit: Store, *, recipe_hash: str, run_key: str, generation: int, images: Any) -> None:
    """Note which images a sealed run refused, for ``quarantined``. ``images``: its rows as a ``pyarrow.Table``.

    Nothing is noted when there are no new refusals (only ``already_quarantined``, or ``erased``, which tombstones tell): the
    first run's note goes on telling.
    """
    import pyarrow.compute as pc

    refused = images.select(["image_id", "reason"]).filter(pc.equal(images["status"], "quarantined"))
    if set(refused["reason"].unique().to_pylist()) - {"already_quarantined", "erased"}:
        ids = sorted(refused["image_id"].drop_null().unique().to_pylist())
        audit.create(f"refusals/{recipe_hash}/{run_key}-{generation}", "\n".join(ids).encode())


def _refused_images(audit: Store, recipe_hash: str) -> frozenset[str]:
    notes = audit.list(f"refusals/{recipe_hash}")
    return frozenset(image_id for note in notes for image_id in audit.read(note).decode().splitlines())


def _done_rows(
    dest: Store, audit: Store, parts: Sequence[Part], recipe_hash: str, source_refs: Collection[str]
) -> Iterator[tuple[str, Any]]:
    """For each run of the recipe its run_key and the audit rows that count as done."""
    import pyarrow as pa
    import pyarrow.compute as pc

    of_recipe = [part for part in parts if part.recipe_hash == recipe_hash]
    runs = {run: None for part in of_recipe for run in ((part.run_key, part.generation), *part.kept_from)}
    current = CurrentParts(audit)
    asked = {run: _published(current.read(*run, "image"), source_refs) for run in runs}
    outputs = [chunk for rows, _ in asked.values() for chunk in keys(rows["output_uri"], dest).chunks]
    tables = _mentions(dest, parts, pa.chunked_array(outputs, type=pa.string()))
    decided = p.visible(p.deciding_rows(tables))
    for (run_key, generation), (rows, uris) in asked.items():
        own = pc.and_(pc.equal(decided["run_key"], run_key), pc.equal(decided["generation"], generation))
        yield run_key, _written(rows, _certain(decided.filter(own), keys(uris, dest)), dest)


def _published(part: bytes | None, source_refs: Collection[str]) -> tuple[Any, Any]:
    """Published rows of some sources in a run, and the URI of each of its outputs that is one of theirs.

    ``part``: its image rows. None: they have expired, so none of them counts as done.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(list(source_refs), type=pa.string())
    rows = _published_where(part, _IMAGES, "source_ref", wanted)
    outputs = _published_where(part, ("status", "output_uri"), "output_uri", pc.unique(rows["output_uri"]))
    return rows, outputs["output_uri"]


def _published_where(part: bytes | None, columns: Sequence[str], name: str, wanted: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    from airflow_facefog.audit.parquet import read_batches

    found = [pa.table({column: pa.array([], pa.string()) for column in columns})]
    for batch in read_batches("facefog_image", part, columns, p.SCAN_ROWS) if part and len(wanted) else ():
        rows = batch.filter(pc.is_in(batch[name], value_set=wanted))
        rows = rows.filter(pc.equal(rows["status"], "published"))
        found.append(pa.table({column: rows[column] for column in columns}))
    return pa.concat_tables(found)


def _mentions(dest: Store, parts: Sequence[Part], outputs: Any) -> list[Any]:
    """Of each part the rows of some outputs, and later mentions of the same items."""
    import pyarrow as pa

    items = pa.chunked_array([], type=pa.string())
    tables = []
    for part in parts if len(outputs) else ():
        here = p.scan(p.part_bytes(dest, part), _OUTPUTS, _one_of(outputs, items))
        tables.append(here)
        items = pa.chunked_array([*items.chunks, *here["item_id"].chunks], type=pa.string())
    return tables


def _one_of(outputs: Any, items: Any) -> Callable[[Any], Any]:
    import pyarrow.compute as pc

    return lambda rows: pc.or_(pc.is_in(rows["key"], value_set=outputs), pc.is_in(rows["item_id"], value_set=items))


def _certain(shown: Any, written: Any) -> Any:
    """Rows that are shown of a run whose output is shown for as many items as it was ``written`` for.

    Where items share an object and one of them was withdrawn, nothing here says which: none of them counts as done.
    """
    import pyarrow.compute as pc

    seen, wrote = (pc.value_counts(side) for side in (shown["key"], written))
    at = pc.index_in(seen.field("values"), value_set=wrote.field("values"))
    whole = pc.equal(seen.field("counts"), wrote.field("counts").take(at))
    return shown.filter(pc.is_in(shown["key"], value_set=seen.field("values").filter(whole)))


def _written(rows: Any, certain: Any, dest: Store) -> Any:
    """Audit rows whose output, by key and hash, is among the certain ones."""
    import pyarrow.compute as pc

    at = pc.index_in(keys(rows["output_uri"], dest), value_set=certain["key"])
    same = pc.equal(certain["sha256"].take(at), rows["output_sha256"])
    return rows.filter(pc.fill_null(same, False))
