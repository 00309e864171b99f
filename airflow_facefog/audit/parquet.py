"""Audit rows as Parquet bytes: same rows, same bytes. Built column by column (row dicts cost eight times as much)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from airflow_facefog.audit.schema import SCHEMA_VERSION, Table, table
from airflow_facefog.core.errors import ConfigurationError

Row = Mapping[str, Any] | Any
"""A mapping of column names, or a record of ``core.records``."""

ROW_GROUP = 100_000
"""Rows per group: an image look-up over compacted parts reads one group of each."""


def to_parquet(table_name: str, rows: Sequence[Row]) -> bytes:
    """Encode rows of one table (may be empty). Deterministic for one pyarrow version.

    Raises KeyError for an unknown table, ValueError for an unknown, missing or wrongly typed column (named, value hidden).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(to_arrow(table_name, rows), sink, compression="zstd", row_group_size=ROW_GROUP)
    return bytes(sink.getvalue())


def from_parquet(table_name: str, data: bytes) -> list[dict[str, Any]]:
    """Decode a part into rows. Raises ConfigurationError when the bytes are no part of this table and version."""
    rows: list[dict[str, Any]] = read_arrow(table_name, data).to_pylist()
    return rows


def read_arrow(table_name: str, data: bytes, columns: Sequence[str] | None = None) -> Any:
    """Decode a part, or some of its columns, into a ``pyarrow.Table``. Raises as ``from_parquet``."""
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
    return file.read(columns=list(columns) if columns is not None else None)


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
        if array.null_count and not column.nullable:
            raise ValueError(f"{table_name}.{column.name}: a row has no value and the column is not nullable")
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=schema)


def arrow_schema(table_name: str) -> Any:
    """The ``pyarrow.Schema`` of a table, with its name and the schema version in the metadata."""
    import pyarrow as pa

    kinds = {"integer": pa.int64(), "flag": pa.int8(), "float": pa.float64()}
    fields = [pa.field(c.name, kinds.get(c.type, pa.string()), nullable=c.nullable) for c in table(table_name).columns]
    return pa.schema(fields, metadata={"facefog_table": table_name, "facefog_schema_version": str(SCHEMA_VERSION)})


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
