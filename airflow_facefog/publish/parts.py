"""Manifest parts: the rows that consumers see, as immutable Parquet files, and how parts make a dataset.

A run writes one part: its published rows, the rows that it saw and kept (skipped items, copied as the earlier run made
them) and, as tombstones, the items it withdraws. Parts are ordered by (listed_at, run_key, generation); for each item the
last part that mentions it decides. So merging is putting parts in order: it does not matter in which order runs finish.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow_facefog.publish.store import Store

ROW_GROUP = 100_000
"""Rows per group."""

SCAN_ROWS = 50_000
"""Rows decoded at a time where a few of many are wanted."""

PUBLISHED = "published"
KEPT = "kept"
WITHDRAWN = "withdrawn"

CONSUMER_COLUMNS = (
    "item_id", "uri", "sha256", "size", "format", "width", "height", "path", "recipe_hash", "run_key", "generation",
)  # fmt: skip
"""What ``open_dataset`` returns. No id of raw bytes, no source, no detection."""


@dataclass(frozen=True, slots=True)
class PublishedItem:
    """One published object. ``key`` relative to the destination; ``path`` in the named layout only; pixels upright."""

    item_id: str
    key: str
    sha256: str
    size: int
    format: str
    width: int
    height: int
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A part as a snapshot lists it. ``listing_id`` names the source pattern that its run listed (for mirroring).

    ``kept_from``: the (run_key, generation) that made the rows that its run kept.
    """

    key: str
    sha256: str
    rows: int
    run_key: str
    generation: int
    listed_at: str
    recipe_hash: str
    listing_id: str = ""
    kept_from: tuple[tuple[str, int], ...] = ()

    @property
    def order(self) -> tuple[str, str, int]:
        """Newest listing last; ties are broken the same way everywhere."""
        return (self.listed_at, self.run_key, self.generation)

    def to_json(self, store: Store) -> dict[str, Any]:
        """Plain values, with the URI for readers that know only the snapshot."""
        return {**asdict(self), "uri": store.uri(self.key)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Part:
        """Read back; unknown fields are ignored."""
        fields = {name: data[name] for name in cls.__slots__ if name in data}
        return cls(**{**fields, "kept_from": tuple((run, generation) for run, generation in data.get("kept_from", ()))})


def part_schema() -> Any:
    """The ``pyarrow.Schema`` of parts and deltas; ``change``: published | kept | withdrawn, or what a delta says."""
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    kinds = {"size": number, "width": number, "height": number, "generation": number}
    names = ("item_id", "change", "key", *CONSUMER_COLUMNS[1:])
    must = {"item_id", "change", "run_key", "generation"}
    return pa.schema([pa.field(name, kinds.get(name, text), nullable=name not in must) for name in names])


def item_schema() -> Any:
    """The ``pyarrow.Schema`` of published items: the fields of ``PublishedItem``."""
    import pyarrow as pa

    return pa.schema([part_schema().field(name).with_nullable(True) for name in PublishedItem.__slots__])


def make_part(
    published: Iterable[PublishedItem] | Any, withdrawn: Iterable[str] | Any, *, run_key: str, generation: int,
    recipe_hash: str, store: Store, kept: Any = None,
) -> Any:  # fmt: skip
    """Rows of one run as a table sorted by item. Raises ConfigurationError when an item is mentioned twice.

    ``published``: items, or a ``pyarrow.Table`` of ``item_schema``; ``withdrawn``: item_ids, or a column of them;
    ``kept``: rows of other parts that this run saw again; they go on naming the run that made them.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    shown, gone = _items(published), texts(withdrawn)
    shown = shown.append_column("uri", uris(store, shown["key"]))
    shown = shown.append_column("change", pa.repeat(PUBLISHED, shown.num_rows))
    lost = pa.table({"item_id": gone, "change": pa.repeat(WITHDRAWN, len(gone))})
    rows = pa.concat_tables([shown, lost], promote_options="default")
    same = {"run_key": run_key, "generation": generation, "recipe_hash": recipe_hash}
    for name, value in same.items():
        rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
    schema = part_schema()
    rows = rows.select(schema.names).cast(schema)
    if kept is not None:
        rows = pa.concat_tables([rows, _kept(kept, store)])
    if pc.count_distinct(rows["item_id"]).as_py() != rows.num_rows:
        raise ConfigurationError("an item appears twice in one run's rows; the run does not add up")
    return rows.take(pc.sort_indices(rows["item_id"]))


def _kept(rows: Any, store: Store) -> Any:
    """Copies of visible rows; only the URI follows the place, which may have moved since."""
    schema = part_schema()
    here = rows.set_column(rows.schema.get_field_index("uri"), "uri", uris(store, rows["key"]))
    return with_change(here.select(schema.names), KEPT).cast(schema)


def origins(rows: Any) -> tuple[tuple[str, int], ...]:
    """The (run_key, generation) that made the kept rows of a part, sorted."""
    import pyarrow.compute as pc

    made = ["run_key", "generation"]
    found = rows.select(made).filter(pc.equal(rows["change"], KEPT)).group_by(made).aggregate([])
    return tuple(sorted(zip(*(found[name].to_pylist() for name in made), strict=True)))


def _items(published: Iterable[PublishedItem] | Any) -> Any:
    import pyarrow as pa

    if isinstance(published, pa.Table):
        return published
    return pa.Table.from_pylist([asdict(item) for item in published], schema=item_schema())


def texts(values: Iterable[str] | Any) -> Any:
    """A column of text, from one or from plain values."""
    import pyarrow as pa

    return values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(list(values), type=pa.string())


def uris(store: Store, keys: Any) -> Any:
    """``store.uri`` of each key of a column."""
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(store.uri("x").removesuffix("x"), keys, "")


def encode(table: Any) -> bytes:
    """Parquet bytes; same table, same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), sink, compression="zstd", row_group_size=ROW_GROUP)
    return bytes(sink.getvalue())


def decode(data: bytes, columns: Sequence[str] | None = None) -> Any:
    """A part or delta, or some of its columns, as a table. Raises ConfigurationError for anything else."""
    import pyarrow as pa

    file = _open(data)
    try:
        return file.read(columns=list(columns) if columns is not None else None)
    except (pa.ArrowException, OSError):
        raise ConfigurationError("a manifest part is damaged; restore the destination") from None


def scan(data: bytes, columns: Sequence[str] | None, wanted: Callable[[Any], Any]) -> Any:
    """The rows of a part for which ``wanted(batch)`` (a mask) holds; only ``SCAN_ROWS`` of it are decoded at a time."""
    import pyarrow as pa

    schema = part_schema()
    found = [schema.empty_table() if columns is None else schema.empty_table().select(list(columns))]
    for batch in _open(data).iter_batches(SCAN_ROWS, columns=list(columns) if columns is not None else None):
        found.append(pa.Table.from_batches([batch.filter(wanted(batch))]))
    return pa.concat_tables(found)


def _open(data: bytes) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        found = file.schema_arrow.equals(part_schema())
    except pa.ArrowException:
        found = False
    if not found:
        raise ConfigurationError("a manifest part is not readable as facefog Parquet; restore the destination")
    return file


def read_part(store: Store, part: Part, columns: Sequence[str] | None = None) -> Any:
    """The rows of a part. Raises ConfigurationError when it is gone or was changed."""
    return decode(part_bytes(store, part), columns)


def part_bytes(store: Store, part: Part) -> bytes:
    """The bytes of a part, their hash checked. Raises as ``read_part``."""
    data = store.get(part.key)
    if data is None or hashlib.sha256(data).hexdigest() != part.sha256:
        raise ConfigurationError(
            f"manifest part of run {part.run_key} is missing or does not hold the bytes that the snapshot names"
        )
    return data


def deciding_rows(tables: Sequence[Any]) -> Any:
    """Tables in order → one row per item: the last that mentions it, tombstones included. Has a column ``part``.

    The tables hold the same columns of ``part_schema``, ``item_id`` among them.
    """
    import numpy as np
    import pyarrow as pa

    numbered = [
        table.append_column("part", pa.array(np.full(table.num_rows, index, np.int32)))
        for index, table in enumerate(tables)
    ]
    if not numbered:
        empty = part_schema().empty_table()
        return empty.append_column("part", pa.array([], type=pa.int32()))
    table = pa.concat_tables(numbered)
    if len(tables) == 1:
        return table  # a part mentions an item once
    indexed = pa.table({"item_id": table["item_id"], "row": pa.array(np.arange(table.num_rows))})
    last = indexed.group_by("item_id").aggregate([("row", "max")])["row_max"]
    wanted = np.zeros(table.num_rows, np.bool_)
    wanted[last.to_numpy()] = True
    return table.filter(pa.array(wanted))


def visible(decided: Any) -> Any:
    """Deciding rows without tombstones."""
    import pyarrow.compute as pc

    return decided.filter(pc.not_equal(decided["change"], WITHDRAWN))


def with_change(table: Any, change: str) -> Any:
    """Rows of a part or delta, all with this ``change``."""
    import pyarrow as pa

    at = part_schema().get_field_index("change")
    return table.set_column(at, part_schema().field("change"), pa.repeat(change, table.num_rows))
