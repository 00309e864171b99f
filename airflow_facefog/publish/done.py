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

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.publish import parts as p
from airflow_facefog.publish import snapshots
from airflow_facefog.publish.items import keys
from airflow_facefog.publish.parts import Part
from airflow_facefog.publish.store import Store

_OUTPUTS = ("item_id", "change", "key", "sha256")
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

        Raises ConfigurationError when a part is missing or damaged, StoreError when a store is down.
        """
        parts = snapshots.read_snapshot(dest, dataset, seq).parts if seq is not None else ()
        done: dict[tuple[str, str], str] = {}
        for part, rows in _done_rows(dest, audit, parts, recipe_hash, source_refs):
            names = zip(rows["image_id"].to_pylist(), rows["source_ref"].to_pylist(), strict=True)
            done.update(dict.fromkeys(names, part.run_key))
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

    Nothing is noted when there are no new refusals (only ``already_quarantined``): the first run's note goes on telling.
    """
    import pyarrow.compute as pc

    refused = images.select(["image_id", "reason"]).filter(pc.equal(images["status"], "quarantined"))
    if set(refused["reason"].unique().to_pylist()) - {"already_quarantined"}:
        ids = sorted(refused["image_id"].drop_null().unique().to_pylist())
        audit.create(f"refusals/{recipe_hash}/{run_key}-{generation}", "\n".join(ids).encode())


def _refused_images(audit: Store, recipe_hash: str) -> frozenset[str]:
    notes = audit.list(f"refusals/{recipe_hash}")
    return frozenset(image_id for note in notes for image_id in audit.read(note).decode().splitlines())


def _done_rows(
    dest: Store, audit: Store, parts: Sequence[Part], recipe_hash: str, source_refs: Collection[str]
) -> Iterator[tuple[Part, Any]]:
    """For each part of the recipe the audit rows that count as done."""
    asked = {
        number: _published(audit, part, source_refs)
        for number, part in enumerate(parts)
        if part.recipe_hash == recipe_hash
    }
    tables = _mentions(dest, parts, asked)
    decided = p.visible(p.deciding_rows(tables))
    for number, rows in asked.items():
        yield parts[number], _written(rows, _certain(tables[number], decided, number), dest)


def _published(audit: Store, part: Part, source_refs: Collection[str]) -> Any:
    """Published rows of some sources in the run behind a part."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(list(source_refs), type=pa.string())
    found = [pa.table({name: pa.array([], pa.string()) for name in _IMAGES})]
    for batch in _image_part(audit, part).iter_batches(p.SCAN_ROWS, columns=list(_IMAGES)):
        rows = batch.filter(pc.is_in(batch["source_ref"], value_set=wanted))
        rows = rows.filter(pc.equal(rows["status"], "published"))
        found.append(pa.table({name: rows[name] for name in _IMAGES}))
    return pa.concat_tables(found)


def _image_part(audit: Store, part: Part) -> Any:
    from airflow_facefog.audit.parquet import open_part

    data = audit.get(f"runs/{part.run_key}/{part.generation}/image.parquet")
    if data is None:
        raise ConfigurationError(
            f"the audit of run {part.run_key} generation {part.generation} is missing; restore the audit"
        )
    return open_part("facefog_image", data)


def _mentions(dest: Store, parts: Sequence[Part], asked: Mapping[int, Any]) -> list[Any]:
    """Of each part the rows of the outputs that are asked for, and later mentions of the same items."""
    import pyarrow as pa

    items = pa.chunked_array([], type=pa.string())
    tables = []
    for number, part in enumerate(parts):
        own = keys(asked[number]["output_uri"], dest) if number in asked else items.slice(0, 0)
        if not len(own) and not len(items):
            tables.append(p.part_schema().empty_table().select(_OUTPUTS))
            continue
        here = p.scan(p.part_bytes(dest, part), _OUTPUTS, _one_of(own, items))
        tables.append(here)
        items = pa.chunked_array([*items.chunks, *here["item_id"].chunks], type=pa.string())
    return tables


def _one_of(outputs: Any, items: Any) -> Callable[[Any], Any]:
    import pyarrow.compute as pc

    return lambda rows: pc.or_(pc.is_in(rows["key"], value_set=outputs), pc.is_in(rows["item_id"], value_set=items))


def _certain(table: Any, decided: Any, number: int) -> Any:
    """Outputs of one part (``table``) that the snapshot still shows for every item that has them.

    Where items share an object and one of them was withdrawn, nothing here says which: none of them counts as done.
    """
    import pyarrow.compute as pc

    written = p.visible(table)
    shown = decided.filter(pc.equal(decided["part"], number))
    if shown.num_rows == written.num_rows:
        return written
    hidden = written.filter(pc.invert(pc.is_in(written["item_id"], value_set=shown["item_id"])))
    return shown.filter(pc.invert(pc.is_in(shown["key"], value_set=hidden["key"])))


def _written(rows: Any, certain: Any, dest: Store) -> Any:
    """Audit rows whose output, by key and hash, is among the certain ones."""
    import pyarrow.compute as pc

    at = pc.index_in(keys(rows["output_uri"], dest), value_set=certain["key"])
    same = pc.equal(certain["sha256"].take(at), rows["output_sha256"])
    return rows.filter(pc.fill_null(same, False))
