"""Audit rows as Parquet bytes and back: same rows, same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from airflow_facefog.audit.arrow_rows import Row, arrow_schema, plain, to_arrow
from airflow_facefog.audit.schema import SCHEMA_VERSION
from airflow_facefog.core.errors import ConfigurationError

__all__ = [
    "arrow_schema", "empty_compact", "encode", "from_parquet", "join_compact", "open_part", "plain", "read_arrow",
    "read_batches", "read_compact", "row_groups", "to_arrow", "to_parquet",
]  # fmt: skip

ROW_GROUP = 50_000
"""Rows per group: an image look-up over compacted parts reads one group of each, and verification all of them."""

BLOOM_FPP = 0.01
"""How often a Bloom filter lets a row group be read in vain."""

_DISTINCT = {
    "facefog_image": {
        "source_ref",
        "image_id",
        "source_etag",
        "output_uri",
        "output_sha256",
        "duplicate_of",
        "pixel_id",
    },
    "facefog_detection": {"polygon"},
    "facefog_intent": {"source_ref", "image_id", "output_key", "output_sha256"},
    "facefog_source": {"source_ref", "source_uri"},
}
"""Text that hardly repeats within a table; all other text is held as codes into a dictionary by ``read_compact``."""


_IDS = {
    "image_id",
    "source_ref",
    "source_etag",
    "output_uri",
    "output_key",
    "output_sha256",
    "duplicate_of",
    "pixel_id",
}
"""Text of compacted parts that is stored without a dictionary: written faster, and a look-up need not read one."""


def to_parquet(table_name: str, rows: Sequence[Row] | Any, *, compacted: bool = False) -> bytes:
    """Encode rows of one table (may be empty), or a ``pyarrow.Table`` of its columns. Same values, same bytes.

    Deterministic for one pyarrow version, however a table is chunked or coded. ``compacted``: the part of a sealed run,
    sorted by image_id; it gets a page index and a Bloom filter on image_id, for look-ups. Raises KeyError for an unknown
    table, ValueError for an unknown, missing or wrongly typed column (named, value hidden).
    """
    import pyarrow as pa

    found = rows if isinstance(rows, pa.Table) else to_arrow(table_name, rows)
    groups = (plain(table_name, group) for group in row_groups(found))
    return encode(arrow_schema(table_name), groups, **(_look_up_options(found) if compacted else {}))


def encode(schema: Any, groups: Iterable[Any], **options: Any) -> bytes:
    """Parquet bytes with one row group for each table of ``groups``, as ``row_groups`` cuts them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, **{"compression": "zstd", **options}) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=ROW_GROUP)
    return bytes(sink.getvalue())


def row_groups(rows: Any) -> Iterator[Any]:
    """Slices of a ``pyarrow.Table``, at least one."""
    for start in range(0, max(1, rows.num_rows), ROW_GROUP):
        yield rows.slice(start, ROW_GROUP)


def _look_up_options(rows: Any) -> dict[str, Any]:
    most = max(len(group["image_id"].unique()) for group in row_groups(rows))
    return {
        "write_page_index": True, "use_dictionary": [name for name in rows.column_names if name not in _IDS],
        "bloom_filter_options": {"image_id": {"ndv": max(1, most), "fpp": BLOOM_FPP}},
    }  # fmt: skip


def from_parquet(table_name: str, data: bytes) -> list[dict[str, Any]]:
    """Decode a part into rows. Raises ConfigurationError when the bytes are no part of this table.

    Parts of every schema version up to this one are read; a column that theirs lacks is None in each row.
    """
    rows: list[dict[str, Any]] = read_arrow(table_name, data).to_pylist()
    return rows


def read_arrow(table_name: str, data: bytes, columns: Sequence[str] | None = None) -> Any:
    """Decode a part, or some of its columns, into a ``pyarrow.Table``. Raises as ``from_parquet``.

    ``facefog_schema_version`` in its schema's metadata is that of the part.
    """
    file, fields = open_part(table_name, data), _fields(table_name, columns)
    return _completed(file.read(columns=_there(file, fields)), fields)


def read_batches(table_name: str, data: bytes, columns: Sequence[str], rows: int) -> Iterator[Any]:
    """Some columns of a part as ``pyarrow.Table``s of at most ``rows`` rows. Raises as ``from_parquet``."""
    import pyarrow as pa

    file, fields = open_part(table_name, data), _fields(table_name, columns)
    for batch in file.iter_batches(rows, columns=_there(file, fields)):
        yield _completed(pa.Table.from_batches([batch]), fields)


def open_part(table_name: str, data: bytes) -> Any:
    """A part as a ``pyarrow.parquet.ParquetFile``, with the columns that it has. Raises as ``from_parquet``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        found = _is_part(table_name, file.schema_arrow)
    except pa.ArrowException:
        raise ConfigurationError(f"an audit part of {table_name} is not readable Parquet; restore the audit") from None
    if not found:
        raise ConfigurationError(
            f"an audit part is not {table_name} of schema version {SCHEMA_VERSION} or older; use the version that wrote it"
        )
    return file


def _is_part(table_name: str, found: Any) -> bool:
    """Whether a file's schema is this table's, or that of an older release: then nullable columns may be missing."""
    import pyarrow as pa

    said = found.metadata or {}
    version = said.get(b"facefog_schema_version", b"")
    if said.get(b"facefog_table") != table_name.encode() or not version.isdigit():
        return False
    known, older = 1 <= int(version) <= SCHEMA_VERSION, int(version) < SCHEMA_VERSION
    there = set(found.names)
    fields = [f for f in arrow_schema(table_name) if f.name in there or not (older and f.nullable)]
    return known and bool(found.equals(pa.schema(fields)))


def _fields(table_name: str, columns: Sequence[str] | None) -> list[Any]:
    schema = arrow_schema(table_name)
    return [schema.field(name) for name in (schema.names if columns is None else columns)]


def _there(file: Any, fields: Sequence[Any]) -> list[str]:
    names = set(file.schema_arrow.names)  # made anew each time it is asked for
    return [field.name for field in fields if field.name in names]


def _completed(found: Any, fields: Sequence[Any]) -> Any:
    """These columns in this order; what an older release did not write is null."""
    import pyarrow as pa

    for field in fields:
        if field.name not in found.column_names:
            found = found.append_column(field, pa.nulls(found.num_rows, field.type))
    return found.select([field.name for field in fields])


def read_compact(table_name: str, data: bytes) -> Any:
    """Decode a part in the form that holds millions of rows: repeated text as codes, other text with 64-bit offsets.

    A detection row takes about 170 bytes so, and 450 as plain text. Raises as ``from_parquet``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = list(_compact_schema(table_name))
    part = open_part(table_name, data)
    there = set(_there(part, fields))
    coded = [field.name for field in fields if field.name in there and pa.types.is_dictionary(field.type)]
    found = pq.ParquetFile(pa.BufferReader(data), metadata=part.metadata, read_dictionary=coded).read()
    return _completed(found, fields).cast(pa.schema(fields, metadata=found.schema.metadata))


def empty_compact(table_name: str) -> Any:
    """No rows, in the form of ``read_compact``."""
    return _compact_schema(table_name).empty_table()


@cache
def _compact_schema(table_name: str) -> Any:
    import pyarrow as pa

    schema = arrow_schema(table_name)
    return pa.schema([f.with_type(_compact_type(table_name, f)) for f in schema], metadata=schema.metadata)


def _compact_type(table_name: str, field: Any) -> Any:
    import pyarrow as pa

    if field.type != pa.string():
        return field.type
    distinct = field.name in _DISTINCT.get(table_name, ())
    return pa.large_string() if distinct else pa.dictionary(pa.int32(), pa.string())


def join_compact(parts: Iterable[Any]) -> Any:
    """One table of one chunk from what ``read_compact`` returned, in order; at least one part.

    Given an iterator that keeps nothing, the parts are freed column by column while the table grows.
    """
    import pyarrow as pa

    schema, columns = None, []
    for part in parts:
        schema = schema or part.schema
        columns.append(part.columns)
        del part
    assert schema is not None
    joined = []
    for index, field in enumerate(schema):
        chunks = [chunk for found in columns for chunk in found[index].chunks]
        joined.append(pa.chunked_array(chunks, type=field.type).unify_dictionaries().combine_chunks())
        del chunks
        for found in columns:
            found[index] = None
    return pa.Table.from_arrays(joined, schema=schema)
