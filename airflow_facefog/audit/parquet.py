"""Audit rows as Parquet bytes: same rows, same bytes. Built column by column (row dicts cost eight times as much)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from airflow_facefog.audit.schema import SCHEMA_VERSION, Table, table
from airflow_facefog.core.errors import ConfigurationError

Row = Mapping[str, Any] | Any
"""A mapping of column names, or a record of ``core.records``."""

ROW_GROUP = 100_000
"""Rows per group: an image look-up over compacted parts reads one group of each."""

_DISTINCT = {
    "facefog_image": {"source_ref", "image_id", "source_etag", "output_uri", "output_sha256", "duplicate_of"},
    "facefog_detection": {"polygon"},
    "facefog_intent": {"source_ref", "image_id", "output_key", "output_sha256"},
    "facefog_source": {"source_ref", "source_uri"},
}
"""Text that hardly repeats within a table; all other text is held as codes into a dictionary by ``read_compact``."""


def to_parquet(table_name: str, rows: Sequence[Row] | Any) -> bytes:
    """Encode rows of one table (may be empty), or a ``pyarrow.Table`` of its columns. Same values, same bytes.

    Deterministic for one pyarrow version, however a table is chunked or coded. Raises KeyError for an unknown table,
    ValueError for an unknown, missing or wrongly typed column (named, value hidden).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = rows if isinstance(rows, pa.Table) else to_arrow(table_name, rows)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, arrow_schema(table_name), compression="zstd") as writer:
        for start in range(0, max(1, found.num_rows), ROW_GROUP):
            writer.write_table(plain(table_name, found.slice(start, ROW_GROUP)), row_group_size=ROW_GROUP)
    return bytes(sink.getvalue())


def from_parquet(table_name: str, data: bytes) -> list[dict[str, Any]]:
    """Decode a part into rows. Raises ConfigurationError when the bytes are no part of this table and version."""
    rows: list[dict[str, Any]] = read_arrow(table_name, data).to_pylist()
    return rows


def read_arrow(table_name: str, data: bytes, columns: Sequence[str] | None = None) -> Any:
    """Decode a part, or some of its columns, into a ``pyarrow.Table``. Raises as ``from_parquet``."""
    return open_part(table_name, data).read(columns=list(columns) if columns is not None else None)


def open_part(table_name: str, data: bytes) -> Any:
    """A part as a ``pyarrow.parquet.ParquetFile``, to read it by row groups. Raises as ``from_parquet``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        found = file.schema_arrow.equals(arrow_schema(table_name), check_metadata=True)
    except pa.ArrowException:
        raise ConfigurationError(f"an audit part of {table_name} is not readable Parquet; restore the audit") from None
    if not found:
        raise ConfigurationError(
            f"an audit part is not {table_name} of schema version {SCHEMA_VERSION}; use the version that wrote it"
        )
    return file


def read_compact(table_name: str, data: bytes) -> Any:
    """Decode a part in the form that holds millions of rows: repeated text as codes, other text with 64-bit offsets.

    A detection row takes about 170 bytes so, and 450 as plain text. Raises as ``from_parquet``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    distinct = _DISTINCT.get(table_name, set())
    schema = arrow_schema(table_name)
    coded = [field.name for field in schema if field.type == pa.string() and field.name not in distinct]
    metadata = open_part(table_name, data).metadata
    found = pq.ParquetFile(pa.BufferReader(data), metadata=metadata, read_dictionary=coded).read()
    for name in distinct:
        index = schema.get_field_index(name)
        found = found.set_column(index, pa.field(name, pa.large_string()), found[name].cast(pa.large_string()))
    return found


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


def plain(table_name: str, rows: Any) -> Any:
    """A ``pyarrow.Table`` with the table's own types, in one chunk. Raises ValueError as ``to_parquet``."""
    import pyarrow as pa

    schema = arrow_schema(table_name)
    if rows.column_names != schema.names:
        raise ValueError(f"{table_name} has the columns {', '.join(schema.names)}, in this order")
    arrays = []
    for column, field in zip(rows.columns, schema, strict=True):
        try:
            arrays.append(column.cast(field.type).combine_chunks())
        except pa.ArrowException:
            raise ValueError(f"{table_name}.{field.name}: a value is not {field.type}") from None
        _refuse_gaps(table_name, field, column)
    return pa.Table.from_arrays(arrays, schema=schema)


def to_arrow(table_name: str, rows: Sequence[Row]) -> Any:
    """Rows as a ``pyarrow.Table`` with the table's schema. Raises as ``to_parquet``."""
    import pyarrow as pa

    described = table(table_name)
    schema = arrow_schema(table_name)
    arrays = []
    for column, field in zip(described.columns, schema, strict=True):
        values = _values(described, column.name, rows)
        try:
            array = pa.array(values, type=field.type)
        except (pa.ArrowException, TypeError, UnicodeError, OverflowError):
            raise ValueError(f"{table_name}.{column.name}: a value is not {column.type}") from None
        _refuse_gaps(table_name, field, array)
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=schema)


def arrow_schema(table_name: str) -> Any:
    """The ``pyarrow.Schema`` of a table, with its name and the schema version in the metadata."""
    import pyarrow as pa

    kinds = {"integer": pa.int64(), "flag": pa.int8(), "float": pa.float64()}
    fields = [pa.field(c.name, kinds.get(c.type, pa.string()), nullable=c.nullable) for c in table(table_name).columns]
    return pa.schema(fields, metadata={"facefog_table": table_name, "facefog_schema_version": str(SCHEMA_VERSION)})


def _refuse_gaps(table_name: str, field: Any, values: Any) -> None:
    if values.null_count and not field.nullable:
        raise ValueError(f"{table_name}.{field.name}: a row has no value and the column is not nullable")


def _values(described: Table, name: str, rows: Sequence[Row]) -> list[Any]:
    if not rows or not isinstance(rows[0], Mapping):
        return list(map(attrgetter(name), rows))
    _refuse_unknown(described, rows)
    return [row.get(name) for row in rows]


def _refuse_unknown(described: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    known = set(described.column_names)
    for row in rows:
        if not known.issuperset(row):
            raise ValueError(f"{described.name} has no column {sorted(set(row) - known)[0]!r}")
