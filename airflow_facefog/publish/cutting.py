"""What of a dataset's files an erasure takes away: which rows, in which parts and deltas, and who still names an object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from airflow_facefog.publish import erased as e
from airflow_facefog.publish import parts as p
from airflow_facefog.publish.dataset import DEFAULT, home
from airflow_facefog.publish.erased import Row
from airflow_facefog.publish.store import Store


@dataclass(frozen=True, slots=True)
class Targets:
    """What to take out. ``rows``: (item_id, run_key, generation) whose picture is erased; ``gone``: items of which no
    other picture is recorded, so that nothing about them stays."""

    rows: frozenset[Row] = field(repr=False)
    gone: frozenset[str] = field(repr=False)

    @property
    def items(self) -> Any:
        """Every item, as a ``pyarrow`` array."""
        import pyarrow as pa

        return pa.array(sorted({item for item, _, _ in self.rows} | self.gone), pa.string())


@dataclass(frozen=True, slots=True)
class Cut:
    """A table and what is to become of it."""

    rows: Any
    dropped: Any
    bared: Any

    @property
    def hit(self) -> Any:
        """Mask of the rows that change."""
        import pyarrow.compute as pc

        return pc.or_(self.dropped, self.bared)

    @property
    def hits(self) -> int:
        """How many rows change."""
        import pyarrow.compute as pc

        return int(pc.sum(self.hit).as_py() or 0)

    @property
    def left(self) -> Any:
        """The rows as they are to be."""
        return e.without(self.rows, self.dropped, self.bared)


def mentioned(dest: Store, dataset: str, targets: Targets) -> list[str]:
    """Keys of the dataset's files that ``withdraw`` would change."""
    return [key for key in tables(dest, home(dataset)) if _hits(dest.read(key), targets, delta=is_delta(key))]


def keys_of(dest: Store, dataset: str, targets: Targets) -> set[str]:
    """Object keys that the rows to take out name."""
    found: set[str] = set()
    for key in mentioned(dest, dataset, targets):
        made = cut_file(dest, key, targets)
        found.update(made.rows["key"].filter(made.hit).drop_null().to_pylist())
    return found


def datasets(dest: Store) -> list[str]:
    """Names of the datasets in a destination."""
    found = [DEFAULT] if dest.exists(f"{home(DEFAULT)}dataset.json") else []
    names = dest.list("_facefog/datasets")
    return found + sorted({key.split("/")[2] for key in names if key.endswith("/dataset.json") and key.count("/") == 3})


def still_named(dest: Store, keys: Iterable[str]) -> set[str]:
    """Those of some object keys that a row of any dataset still names."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(sorted(keys), pa.string())
    found: set[str] = set()
    for key in (key for name in datasets(dest) for key in tables(dest, home(name))):
        rows = p.scan(dest.read(key), ("key",), lambda batch: pc.is_in(batch["key"], value_set=wanted))
        found.update(rows["key"].to_pylist())
    return found


def tables(dest: Store, root: str) -> list[str]:
    """Every part and delta of a dataset's runs, also of those in no snapshot.

    The deltas of erasures lie elsewhere: they name an item and nothing else, for consumers that hold a copy.
    """
    return [key for key in dest.list(f"{root}runs") if key.endswith(".parquet")]


def is_delta(key: str) -> bool:
    """Whether a table is a delta, by its name."""
    return key.rpartition("/")[2].startswith("delta-")


def _hits(data: bytes, targets: Targets, *, delta: bool) -> int:
    """``Cut.hits``; most tables say nothing of the items, and only their ids are decoded."""
    import pyarrow.compute as pc

    about = pc.is_in(p.decode(data, ["item_id"])["item_id"], value_set=targets.items)
    return cut(data, targets, delta=delta).hits if pc.any(about).as_py() else 0


def cut_file(dest: Store, key: str, targets: Targets) -> Cut:
    """``cut`` of a stored table."""
    return cut(dest.read(key), targets, delta=is_delta(key))


def cut(data: bytes, targets: Targets, *, delta: bool = False) -> Cut:
    """Rows of gone items are dropped; of other items the picture goes and its withdrawal stays.

    A delta tells what became of an item: only withdrawals stay there, the rest is dropped.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = p.decode(data)
    ours = pc.is_in(rows["item_id"], value_set=targets.items).combine_chunks()
    at = pc.indices_nonzero(ours).to_pylist()
    few = rows.take(pa.array(at, pa.int64())).to_pylist()
    dropped, bared = [False] * rows.num_rows, [False] * rows.num_rows
    for index, row in zip(at, few, strict=True):
        if row["item_id"] in targets.gone:
            dropped[index] = True
        elif (row["item_id"], row["run_key"], row["generation"]) in targets.rows and row["key"] is not None:
            dropped[index] = delta and row["change"] != p.WITHDRAWN
            bared[index] = not dropped[index]
    return Cut(rows, pa.array(dropped, pa.bool_()), pa.array(bared, pa.bool_()))
