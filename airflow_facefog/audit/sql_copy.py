"""Arrow → PostgreSQL by COPY: no Python object per row. Everything else takes ``executemany``.

CSV is written by ``pyarrow.csv``: floats in their shortest exact form, every text quoted, NULL as nothing between commas,
which is how PostgreSQL reads it.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from airflow_facefog.audit.schema import SOURCE, Table
from airflow_facefog.audit.sql_tables import Rows, arrow_batches, quoted
from airflow_facefog.core.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import Connection

ROWS = 20_000
"""Rows of one piece of CSV: about 5 MB of detections."""

STAGE = "facefog_source_stage"


def can_copy(connection: Connection) -> bool:
    """Whether this is PostgreSQL through psycopg (3 or 2)."""
    return connection.dialect.name == "postgresql" and connection.dialect.driver in ("psycopg", "psycopg2")


def copy_rows(connection: Connection, table: Table, rows: Rows) -> int:
    """Append rows to a table within the connection's transaction; return how many.

    Raises ValueError as ``arrow_batches``, ConfigurationError for a NUL character, and SQLAlchemy's errors.
    """
    return _copy(connection, f"{table.name} ({quoted(table.column_names)})", table, rows)


def upsert_sources(connection: Connection, rows: Rows) -> None:
    """Add sources, or replace those of equal source_ref; the last of several rows of one source holds."""
    names = SOURCE.column_names
    connection.exec_driver_sql(
        f"CREATE TEMPORARY TABLE {STAGE} (LIKE {SOURCE.name}, n BIGINT GENERATED ALWAYS AS IDENTITY) ON COMMIT DROP"
    )
    _copy(connection, f"{STAGE} ({quoted(names)})", SOURCE, rows)
    updates = ", ".join(f"{name} = excluded.{name}" for name in names if name not in SOURCE.primary_key)
    connection.exec_driver_sql(
        f"INSERT INTO {SOURCE.name} ({quoted(names)}) SELECT DISTINCT ON (source_ref) {quoted(names)} FROM {STAGE} "  # noqa: S608
        f"ORDER BY source_ref, n DESC ON CONFLICT (source_ref) DO UPDATE SET {updates}"
    )
    connection.exec_driver_sql(f"DROP TABLE {STAGE}")


def _copy(connection: Connection, target: str, table: Table, rows: Rows) -> int:
    count = 0

    def pieces() -> Iterator[bytes]:
        nonlocal count
        for batch in arrow_batches(table, rows, ROWS):
            count += batch.num_rows
            yield csv(table, batch)

    statement = f"COPY {target} FROM STDIN (FORMAT csv)"
    raw: Any = connection.connection.driver_connection
    with _driver_errors(connection), raw.cursor() as cursor, closing(_ahead(pieces())) as coming:
        if connection.dialect.driver == "psycopg2":
            cursor.copy_expert(statement, _Reader(coming))
        else:
            with cursor.copy(statement) as copy:
                for piece in coming:
                    copy.write(piece)
    return count


def _ahead(pieces: Iterator[bytes]) -> Generator[bytes]:
    """The same pieces; the next one is made in a thread while PostgreSQL reads this one."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = pool.submit(next, pieces, None)
            yield piece


def csv(table: Table, batch: Any) -> bytes:
    """One piece of CSV without a header. Raises ConfigurationError that names the column of a NUL character."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    sink = pa.BufferOutputStream()
    pa_csv.write_csv(batch, sink, pa_csv.WriteOptions(include_header=False))
    data: bytes = sink.getvalue().to_pybytes()
    if b"\0" in data:
        raise ConfigurationError(
            f"{table.name}.{_nul_column(batch)}: a text holds a NUL character, which PostgreSQL cannot store; nothing of this "
            "run was written. Its Parquet parts are complete: query them with DuckDB, or use SQLite"
        )
    return data


def _nul_column(batch: Any) -> str:
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, column in zip(batch.column_names, batch.columns, strict=True):
        if pa.types.is_string(column.type) and pc.any(pc.match_substring(column, "\0")).as_py():
            return str(name)
    return "?"


class _Reader(io.RawIOBase):
    """What psycopg2 reads from: an iterator of bytes as a file."""

    def __init__(self, pieces: Iterator[Any]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; empty at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)


@contextmanager
def _driver_errors(connection: Connection) -> Iterator[None]:
    """The driver's errors as SQLAlchemy's, which it raises everywhere else."""
    from sqlalchemy.exc import DBAPIError

    dbapi = connection.dialect.dbapi
    assert dbapi is not None
    try:
        yield
    except dbapi.Error as error:
        raised = DBAPIError.instance(None, None, error, dbapi.Error, hide_parameters=True, dialect=connection.dialect)
        raise raised from None
