"""The audit tables as SQLAlchemy sees them, made from ``schema``; and rows as Arrow tables on their way there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_facefog.audit.schema import DETECTION, IMAGE, TABLES, Column, Table

if TYPE_CHECKING:
    from sqlalchemy import MetaData

Rows = Any
"""A sequence of mappings or records, a ``pyarrow.Table``, or an iterator of ``pyarrow.Table``s."""

VERSION_TABLE = "facefog_schema"

INDEXES: Mapping[str, tuple[str, str]] = {
    "facefog_image_by_image": (IMAGE.name, "image_id"),
    "facefog_image_by_output": (IMAGE.name, "output_sha256"),
    "facefog_image_by_source": (IMAGE.name, "source_ref"),
    "facefog_detection_by_image": (DETECTION.name, "image_id"),
}
"""Name → (table, column). A run's rows are found by the primary keys, which begin with run_key and generation."""

MYSQL_KEY_LENGTHS: Mapping[str, int] = {"output_key": 2048}
"""MySQL cannot index text without a length; ids are ASCII, 128 characters at most, and an index row 3072 bytes."""


@cache
def metadata() -> MetaData:
    """All tables, with ``facefog_schema`` (its one row: the schema version, and which views are installed).

    Made once, because it takes 6 ms: nobody changes it.
    """
    import sqlalchemy as sa

    found = sa.MetaData()
    for table in TABLES.values():
        indexed = {*table.primary_key, *(column for name, column in INDEXES.values() if name == table.name)}
        columns = [_column(column, table, indexed) for column in table.columns]
        made = sa.Table(table.name, found, *columns)
        for name, (owner, column) in INDEXES.items():
            if owner == table.name:
                sa.Index(name, made.c[column])
    version = sa.Column("version", sa.Integer, primary_key=True, autoincrement=False)
    sa.Table(VERSION_TABLE, found, version, sa.Column("views_sha256", sa.Text))
    return found


def _column(column: Column, table: Table, indexed: Iterable[str]) -> Any:
    import sqlalchemy as sa

    kinds: dict[str, type[Any]] = {"integer": sa.BigInteger, "flag": sa.SmallInteger, "float": sa.Double}
    kind = kinds[column.type]() if column.type in kinds else _text(column, column.name in indexed)
    key = column.name in table.primary_key
    return sa.Column(column.name, kind, nullable=column.nullable, primary_key=key, autoincrement=False)


def _text(column: Column, indexed: bool) -> Any:
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql

    if not indexed:
        return sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
    length = MYSQL_KEY_LENGTHS.get(column.name, 128)
    return sa.Text().with_variant(mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")


def arrow_batches(table: Table, rows: Rows, size: int) -> Iterator[Any]:
    """``rows`` as ``pyarrow.Table``s of at most ``size`` rows with the table's own types, each checked when it is made.

    Raises ValueError that names the column when one is unknown, missing or of another type.
    """
    import pyarrow as pa

    from airflow_facefog.audit.parquet import plain, to_arrow

    for found in _tables(rows):
        if isinstance(found, pa.Table):
            for start in range(0, found.num_rows, size):
                yield plain(table.name, found.slice(start, size))
        else:
            for start in range(0, len(found), size):
                yield to_arrow(table.name, [_mapping(row) for row in found[start : start + size]])


def _tables(rows: Rows) -> Iterable[Any]:
    return rows if isinstance(rows, Iterator) else (rows,)


def dicts(table: Table, batch: Any) -> list[dict[str, Any]]:
    """Rows of one ``pyarrow.Table``, for executemany."""
    values = zip(*(column.to_pylist() for column in batch.columns), strict=True)
    return [dict(zip(table.column_names, row, strict=True)) for row in values]


def checked(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """One row with exactly the table's columns. Raises ValueError as ``arrow_batches``."""
    (batch,) = arrow_batches(table, [row], 1)
    return dicts(table, batch)[0]


def _mapping(row: Any) -> Mapping[str, Any]:
    if is_dataclass(row) and not isinstance(row, type):
        return asdict(row)
    found: Mapping[str, Any] = row
    return found


def quoted(columns: Sequence[str]) -> str:
    """Column names of our own tables for a statement; none needs quotes."""
    return ", ".join(columns)
