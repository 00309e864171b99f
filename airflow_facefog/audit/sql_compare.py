"""Does SQL hold exactly what the Parquet parts hold? Every value of every row, streamed run by run.

Both sides become Arrow columns of the table's own types, then one line of text per row (floats in their shortest exact
form, texts with their length, NULL apart from everything), then a keyed hash. Rows are compared as sums of hashes in
``BUCKETS`` by primary key, so that neither side is sorted or held; only rows of buckets that differ are read again. The
key is drawn for each call: nobody can make changes that cancel out.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from zlib import crc32

from airflow_facefog.audit.amendments import erasure_rows
from airflow_facefog.audit.ledger import Ledger, SealedRun
from airflow_facefog.audit.migrations import require_current
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.schema import DETECTION, ERASURE, IMAGE, INTENT, RUN, Table
from airflow_facefog.audit.sealed_rows import part_batches, run_row

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from airflow_facefog.audit.sql import SqlSink

BUCKETS = 4_096

ROWS = 20_000
"""Rows held of each side at a time; also the most that are looked at again when a run differs."""

UNNAMED = ("output_key", "run_key", "generation")
"""Not told in a difference: object names may hold source names, and the run is told anyway."""

NOT_SEALED = ("failed", "running")
"""Status of a run that has its own row alone."""

HERE_ONLY = ("manifest_uri",)
"""Columns of the run row that depend on where the audit lies."""

Batches = Callable[[], Iterator[Any]]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One table of one run in which SQL is not what the audit says. ``detail``: how many rows, and one of them."""

    run_key: str
    generation: int
    table: str
    detail: str


class WrongTypeError(Exception):
    """A column of the database holds a value that its type cannot have (SQLite takes anything)."""


def differences(audit: Objects, ledger: Ledger, sink: SqlSink) -> list[Difference]:
    """Compare all sealed runs; empty means that SQL = Parquet.

    Sources and egress have a life of their own and are not compared. A failed run has its own row alone: rows of a run that
    was not sealed, and runs that only SQL calls sealed, are differences. Reads only. Raises LedgerError for a part that is
    not what the audit names, ConfigurationError for another schema version, StoreError.
    """
    with sink.reading() as connection:
        if not require_current(connection):
            return [_missing(run) for run in ledger.runs]
        found = [one for run in ledger.runs for one in _compare_run(audit, run, connection)]
        return found + _unsealed(ledger, connection)


def _missing(run: SealedRun) -> Difference:
    return Difference(run.run_key, run.generation, RUN.name, "the run is missing in SQL; run `facefog audit load`")


def _compare_run(audit: Objects, run: SealedRun, connection: Connection) -> Iterator[Difference]:
    if not _count(connection, RUN, run):
        yield _missing(run)
        return
    parts: dict[Table, Batches] = {
        table: partial(part_batches, audit, run, table.part.removesuffix(".parquet"), ROWS)
        for table in (IMAGE, DETECTION, INTENT)
    }
    erasures = partial(_arrow, ERASURE, erasure_rows(run.amendments))
    said: dict[Table, Batches] = {RUN: partial(_arrow, RUN, [run_row(audit, run)]), **parts, ERASURE: erasures}
    for table, batches in said.items():
        detail = compare(table, batches, partial(_sql_batches, connection, table, run))
        if detail is not None:
            yield Difference(run.run_key, run.generation, table.name, detail)


def compare(table: Table, said: Batches, there: Batches) -> str | None:
    """None when both sides hold the same rows, else what differs. Each is called once, and once more when they differ."""
    key = secrets.token_bytes(32)
    try:
        ours, theirs = _sums(table, said(), key), _sums(table, there(), key)
    except WrongTypeError as error:
        return f"SQL holds a value of another type in column {error}"
    if ours == theirs:
        return None
    suspects = [n for n in range(BUCKETS) if ours.buckets[n] != theirs.buckets[n]]
    most = max(1, ROWS * BUCKETS // max(ours.rows, theirs.rows, 1))
    looked_at = set(suspects[:most])
    first = _first(table, *(dict(_rows_in(table, side(), looked_at)) for side in (said, there)))
    return f"{ours.rows} rows in the audit, {theirs.rows} in SQL; {first}"


@dataclass(slots=True)
class _Sums:
    rows: int
    buckets: list[int]


def _sums(table: Table, batches: Iterator[Any], key: bytes) -> _Sums:
    sums = _Sums(0, [0] * BUCKETS)
    for batch in batches:
        sums.rows += batch.num_rows
        for number, line in zip(_bucket_numbers(table, batch), _lines(batch, batch.column_names), strict=True):
            sums.buckets[number] += int.from_bytes(blake2b(line, key=key, digest_size=16).digest())
    return sums


def _rows_in(table: Table, batches: Iterator[Any], buckets: set[int]) -> Iterator[tuple[tuple[Any, ...], Row]]:
    """(primary key, row) of the rows in some buckets. A doubled key keeps its last row: only one has such rows."""
    import pyarrow as pa

    for batch in batches:
        mask = pa.array([number in buckets for number in _bucket_numbers(table, batch)], pa.bool_())
        for row in batch.filter(mask).to_pylist():
            yield tuple(row[name] for name in table.primary_key), row


def _first(table: Table, said: Mapping[tuple[Any, ...], Row], there: Mapping[tuple[Any, ...], Row]) -> str:
    """The smallest primary key that differs, without names of objects or files, and how."""
    for key in sorted({*said, *there}):
        ours, theirs = said.get(key), there.get(key)
        if ours is not None and theirs is not None:
            columns = [name for name in ours if _text(ours[name]) != _text(theirs[name])]
            if not columns:
                continue
        how = (
            "only in the audit"
            if theirs is None
            else "only in SQL"
            if ours is None
            else f"another {', '.join(columns)}"
        )
        named = zip(table.primary_key, key, strict=True)
        return f"first: {', '.join(f'{name}={value}' for name, value in named if name not in UNNAMED) or 'this row'}: {how}"
    return "a row is there twice"


def _text(value: Any) -> str:
    return repr(value + 0.0 if isinstance(value, float) else value)


def _bucket_numbers(table: Table, batch: Any) -> Iterator[int]:
    """Where each row's sum goes. No secret: a row's own hash covers its key, too."""
    return (crc32(line) % BUCKETS for line in _lines(batch, table.primary_key))


def _lines(batch: Any, names: Sequence[str]) -> list[bytes]:
    """One text per row that no other row has: value and length of each column; NULL has no length."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = []
    for name in names:
        values = batch[name]
        if pa.types.is_floating(values.type):
            values = pc.add(values, 0.0)  # SQLite keeps no sign of zero
        text = values.cast(pa.large_string())
        columns += [pc.binary_length(text).cast(pa.large_string()), text]
    separator = pa.scalar("\x1f", pa.large_string())
    joined = pc.binary_join_element_wise(*columns, separator, null_handling="replace", null_replacement="")
    found: list[bytes] = joined.cast(pa.large_binary()).to_pylist()
    return found


def _sql_batches(connection: Connection, table: Table, run: SealedRun) -> Iterator[Any]:
    import pyarrow as pa
    import sqlalchemy as sa

    from airflow_facefog.audit.parquet import arrow_schema

    names = [name for name in table.column_names if not (table is RUN and name in HERE_ONLY)]
    schema = arrow_schema(table.name)
    where = "run_key = :run_key AND generation = :generation"
    statement = sa.text(f"SELECT {', '.join(names)} FROM {table.name} WHERE {where}")  # noqa: S608
    key = {"run_key": run.run_key, "generation": run.generation}
    found = connection.execute(statement, key, execution_options={"yield_per": ROWS})
    for rows in found.partitions(ROWS):
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        yield pa.table({name: _array(name, values, schema.field(name).type) for name, values in columns.items()})


def _array(name: str, values: Sequence[Any], kind: Any) -> Any:
    import pyarrow as pa

    found = set(map(type, values)) - {type(None)}
    if bytes in found or (pa.types.is_integer(kind) and found - {int}):  # pyarrow would take 1.5 for 1
        raise WrongTypeError(name)
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, UnicodeError, OverflowError):
        raise WrongTypeError(name) from None


def _arrow(table: Table, rows: Sequence[Row]) -> Iterator[Any]:
    from airflow_facefog.audit.parquet import to_arrow

    found = to_arrow(table.name, rows)
    yield found.drop_columns(list(HERE_ONLY)) if table is RUN else found


def _count(connection: Connection, table: Table, run: SealedRun) -> int:
    import sqlalchemy as sa

    where = "run_key = :run_key AND generation = :generation"
    statement = sa.text(f"SELECT count(*) FROM {table.name} WHERE {where}")  # noqa: S608
    return int(connection.execute(statement, {"run_key": run.run_key, "generation": run.generation}).scalar() or 0)


def _unsealed(ledger: Ledger, connection: Connection) -> list[Difference]:
    """Runs that only SQL calls sealed, and rows of runs that have none: there is nothing that they could be equal to."""
    import sqlalchemy as sa

    sealed = {(run.run_key, run.generation) for run in ledger.runs}
    rows = connection.execute(sa.text(f"SELECT run_key, generation, status FROM {RUN.name}")).all()  # noqa: S608
    there = {(row.run_key, row.generation): str(row.status) for row in rows}
    claimed = {run for run, status in there.items() if status not in NOT_SEALED} - sealed
    said = "SQL has the run as {!r}; the audit has no such run"
    found = [Difference(*run, RUN.name, said.format(there[run])) for run in there if run in claimed]
    for table in (IMAGE, DETECTION, INTENT, ERASURE):
        counted = f"SELECT run_key, generation, count(*) AS n FROM {table.name} GROUP BY 1, 2 ORDER BY 1, 2"  # noqa: S608
        for row in connection.execute(sa.text(counted)).all():
            run = (row.run_key, row.generation)
            if run not in there:
                found.append(Difference(*run, table.name, f"{row.n} rows without a run row in SQL"))
            elif run not in sealed | claimed:
                found.append(Difference(*run, table.name, f"{row.n} rows of a run that was never sealed"))
    return found
