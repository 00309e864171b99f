"""What a query answered: plain values in rows, the same from every engine, and how it is written down."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, TextIO

Cells = tuple[Any, ...]

CHUNK = 10_000
"""Rows that are fetched and written at a time."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Columns (names made unique) and rows in chunks, to be read once and before the next question."""

    columns: tuple[str, ...]
    chunks: Iterator[list[Cells]] = field(repr=False)

    def answer(self, limit: int | None = None) -> Answer:
        """All rows, or the first ``limit`` and whether there are more."""
        rows: list[Cells] = []
        for chunk in self.chunks:
            rows += chunk
            if limit is not None and len(rows) > limit:
                return Answer(self.columns, rows[:limit], more=True)
        return Answer(self.columns, rows)


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of one query. ``more``: there are rows beyond the limit."""

    columns: tuple[str, ...]
    rows: list[Cells] = field(repr=False)
    more: bool = False

    def dicts(self) -> list[dict[str, Any]]:
        """Rows by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def stream(columns: Sequence[str], fetched: Iterable[Sequence[Sequence[Any]]]) -> Stream:
    """A stream of what a driver fetched."""
    return Stream(unique(columns), ([tuple(map(plain, row)) for row in chunk] for chunk in fetched))


def unique(columns: Sequence[str]) -> tuple[str, ...]:
    """Names of which none occurs twice: a second ``x`` becomes ``x_2``."""
    found: list[str] = []
    for name in columns:
        number, named = 2, name
        while named in found:
            named, number = f"{name}_{number}", number + 1
        found.append(named)
    return tuple(found)


def plain(value: Any) -> Any:
    """A value that JSON has: sums of PostgreSQL are decimals, those of DuckDB may be; whole ones become integers."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, default=str, sort_keys=True)
    return str(value)


def write_csv(answered: Stream, out: TextIO) -> int:
    """Header and rows as CSV; returns the number of rows. NULL is an empty field."""
    import csv

    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(answered.columns)
    count = 0
    for chunk in answered.chunks:
        writer.writerows(chunk)
        count += len(chunk)
    return count


def write_json(answered: Stream, out: TextIO) -> int:
    """One JSON object: columns, rows as objects, and their number."""
    found = answered.answer()
    rows = [{name: _finite(value) for name, value in row.items()} for row in found.dicts()]
    json.dump({"columns": list(found.columns), "rows": rows, "n": len(rows)}, out, ensure_ascii=True)
    out.write("\n")
    return len(rows)


def write_parquet(answered: Stream, path: str) -> int:
    """A Parquet file with the types that the values have; returns the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    none: list[Any] = [[] for _ in answered.columns]
    tables = [pa.table(none, names=list(answered.columns))]
    for chunk in answered.chunks:
        columns = zip(*chunk, strict=True) if chunk else none
        tables.append(pa.table([pa.array(_alike(list(column))) for column in columns], names=list(answered.columns)))
    table = pa.concat_tables(tables, promote_options="permissive")
    pq.write_table(table, path, compression="zstd")
    return int(table.num_rows)


def _alike(values: list[Any]) -> list[Any]:
    """SQLite mixes whole numbers and fractions in one column."""
    kinds = {type(value) for value in values if value is not None}
    return [None if value is None else float(value) for value in values] if kinds == {int, float} else values


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
