"""Manifest parts: the rows that consumers see, as immutable Parquet files, and how parts make a dataset.

A run writes one part: its published rows and, as tombstones, the items it withdraws. Parts are ordered by
(listed_at, run_key, generation); for each item the last part that mentions it decides. So merging is putting parts in
order: it does not matter in which order runs finish.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow_facefog.publish.store import Store

PUBLISHED = "published"
WITHDRAWN = "withdrawn"

CONSUMER_COLUMNS = (
    "item_id", "uri", "sha256", "size", "format", "width", "height", "path", "recipe_hash", "run_key", "generation",
)  # fmt: skip
"""What ``open_dataset`` returns. No id of raw bytes, no source, no detection."""

IDENTITY = ("key", "sha256", "recipe_hash")
"""Rows that agree in these are the same row: publishing them again changes nothing for consumers."""


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
    """A part as a snapshot lists it. ``listing_id`` names the source pattern that its run listed (for mirroring)."""

    key: str
    sha256: str
    rows: int
    run_key: str
    generation: int
    listed_at: str
    recipe_hash: str
    listing_id: str = ""

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
        return cls(**{name: data[name] for name in cls.__slots__})


def part_schema() -> Any:
    """The ``pyarrow.Schema`` of parts and deltas; ``change`` is published | withdrawn, in deltas added | replaced | withdrawn."""
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    kinds = {"size": number, "width": number, "height": number, "generation": number}
    names = ("item_id", "change", "key", *CONSUMER_COLUMNS[1:])
    must = {"item_id", "change", "run_key", "generation"}
    return pa.schema([pa.field(name, kinds.get(name, text), nullable=name not in must) for name in names])


def make_part(
    published: Iterable[PublishedItem], withdrawn: Iterable[str], *, run_key: str, generation: int, recipe_hash: str,
    store: Store,
) -> Any:  # fmt: skip
    """Rows of one run as a table sorted by item. Raises ConfigurationError when an item is mentioned twice."""
    import pyarrow as pa

    run = {"run_key": run_key, "generation": generation, "recipe_hash": recipe_hash}
    rows: list[dict[str, Any]] = [
        {**asdict(item), "change": PUBLISHED, "uri": store.uri(item.key), **run} for item in published
    ]
    rows += [{"item_id": item_id, "change": WITHDRAWN, **run} for item_id in withdrawn]
    rows.sort(key=lambda row: row["item_id"])
    if len({row["item_id"] for row in rows}) != len(rows):
        raise ConfigurationError("an item appears twice in one run's rows; the run does not add up")
    schema = part_schema()
    return pa.Table.from_arrays(
        [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema], schema=schema
    )


def encode(table: Any) -> bytes:
    """Parquet bytes; same table, same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def decode(data: bytes) -> Any:
    """A part or delta as a table. Raises ConfigurationError for anything else."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(data))
    except pa.ArrowException:
        table = None
    if table is None or not table.schema.equals(part_schema()):
        raise ConfigurationError("a manifest part is not readable as facefog Parquet; restore the destination")
    return table


def read_part(store: Store, part: Part) -> Any:
    """The rows of a part, its hash checked. Raises ConfigurationError when it is gone or was changed."""
    data = store.get(part.key)
    if data is None or hashlib.sha256(data).hexdigest() != part.sha256:
        raise ConfigurationError(
            f"manifest part of run {part.run_key} is missing or does not hold the bytes that the snapshot names"
        )
    return decode(data)


def deciding_rows(tables: Sequence[Any]) -> Any:
    """Tables in order → one row per item: the last that mentions it, tombstones included. Has a column ``part``."""
    import pyarrow as pa

    numbered = [
        table.append_column("part", pa.array([index] * table.num_rows, type=pa.int32()))
        for index, table in enumerate(tables)
    ]
    if not numbered:
        empty = part_schema().empty_table()
        return empty.append_column("part", pa.array([], type=pa.int32()))
    table = pa.concat_tables(numbered).combine_chunks()
    indexed = pa.table({"item_id": table["item_id"], "row": pa.array(range(table.num_rows), type=pa.int64())})
    last = indexed.group_by("item_id").aggregate([("row", "max")])
    return table.take(last["row_max"].sort())


def visible(decided: Any) -> Any:
    """Deciding rows without tombstones."""
    import pyarrow.compute as pc

    return decided.filter(pc.equal(decided["change"], PUBLISHED))


def difference(old: Any, new: Any, rows: Any) -> tuple[Any, dict[str, int]]:
    """What the items in ``rows`` became between two visible states: rows of the delta with ``change`` set, and counts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    mine = pc.unique(rows["item_id"])
    old, new = (side.filter(pc.is_in(side["item_id"], mine)).drop_columns("part") for side in (old, new))
    was, now = _identities(old), _identities(new)
    takes = {
        "added": (new, [row for item, (row, _) in now.items() if item not in was]),
        "replaced": (new, [row for item, (row, what) in now.items() if item in was and was[item][1] != what]),
        WITHDRAWN: (old, [row for item, (row, _) in was.items() if item not in now]),
    }
    changed = [_changed(side.take(pa.array(rows, type=pa.int64())), change) for change, (side, rows) in takes.items()]
    counts = {change: len(indices) for change, (_, indices) in takes.items()}
    return pa.concat_tables(changed).sort_by("item_id").cast(part_schema()), counts


def _changed(table: Any, change: str) -> Any:
    import pyarrow as pa

    field = part_schema().field("change")
    at = part_schema().get_field_index("change")
    return table.set_column(at, field, pa.array([change] * table.num_rows, type=field.type))


def _identities(table: Any) -> dict[str, tuple[int, tuple[str, ...]]]:
    """item_id → row number and what makes a row the same."""
    values = zip(*(table[name].to_pylist() for name in IDENTITY), strict=True)
    return {
        item: (row, what) for row, (item, what) in enumerate(zip(table["item_id"].to_pylist(), values, strict=True))
    }


def items_of(
    images: Iterable[Mapping[str, Any]], item_ids: Mapping[str, str], dest: Store
) -> tuple[list[PublishedItem], list[str]]:
    """Rows of ``facefog_image`` → (published items, withdrawn item_ids) for ``commit_snapshot``.

    ``item_ids``: source_ref → ``KeyRing.item_id``. Skipped rows are in neither list.
    """
    from airflow_facefog.publish.layout import output_format, source_path

    prefix = dest.uri().rstrip("/") + "/"
    published: list[PublishedItem] = []
    refused: list[str] = []
    for row in images:
        item_id = item_ids[row["source_ref"]]
        if row["status"] in ("quarantined", "failed"):
            refused.append(item_id)
        elif row["status"] == "published":
            key = row["output_uri"].removeprefix(prefix)
            item = PublishedItem(
                item_id, key, row["output_sha256"], row["output_bytes"], output_format(key), row["width"], row["height"],
                source_path(key),
            )  # fmt: skip
            published.append(item)
    return published, refused
