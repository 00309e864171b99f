"""Audit rows as ``pyarrow.Table``s of a table's own types. Built column by column: row dicts cost eight times as much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import Any

from airflow_facefog.audit.schema import SCHEMA_VERSION, Table, table

Row = Mapping[str, Any] | Any
"""A mapping of column names, or a record of ``core.records``."""


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


@cache
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
