"""Ask an audit in SQL: read-only, one statement, values bound. DuckDB over the Parquet parts, or a database of the audit.

SQLite is opened ``mode=ro`` with an authorizer that allows reading only; PostgreSQL runs in a READ ONLY transaction through
a cursor, with a time-out. For people, make a role that may only read: what a superuser may do, a query may do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

from airflow_facefog.audit.answer import CHUNK, Answer, Stream, stream
from airflow_facefog.audit.statement import PSYCOPG, SQLITE, bind, one_statement
from airflow_facefog.core.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from sqlalchemy import Engine as SqlAlchemyEngine

TIMEOUT_S = 300.0
"""How long one question may take."""

MESSAGE = 300
"""Characters of a database's message that are shown."""

NOT_THERE = ("08", "53", "57", "58")
"""SQLSTATE classes of PostgreSQL: connection lost, out of resources, shut down by its operator, system error."""


class Engine(Protocol):
    """What answers questions to one audit. Not thread-safe; a stream ends with the next question."""

    def stream(self, sql: str, params: Mapping[str, Any] | None = None) -> Stream:
        """Run one statement that reads; ``:name`` stands for a value of ``params``.

        Raises ConfigurationError for a statement that is wrong, does more than read or takes too long, StoreError when
        the database does not answer, LedgerError when a part of the audit cannot be read.
        """

    def ask(self, sql: str, params: Mapping[str, Any] | None = None, limit: int | None = None) -> Answer:
        """All rows, or the first ``limit``. Raises as ``stream``."""

    def runs_with(self, column: str, value: str) -> list[tuple[str, int]]:
        """(run_key, generation) of the runs with image rows in which a column of ``facefog_image`` has this value."""

    def rows_of(self, part: str, runs: Sequence[tuple[str, int]]) -> str:
        """A FROM item that holds a table's rows of these runs, perhaps more; ``part``: image, detection or intent."""

    def close(self) -> None:
        """Let go of the database."""


def open_sql(url_or_engine: str | SqlAlchemyEngine, timeout_s: float = TIMEOUT_S) -> Engine:
    """An engine over a database of the audit. Raises ConfigurationError for another kind of database or a wrong URL."""
    from sqlalchemy import create_engine, exc

    try:
        engine = create_engine(url_or_engine) if isinstance(url_or_engine, str) else url_or_engine
    except (exc.ArgumentError, exc.NoSuchModuleError, ImportError):
        raise ConfigurationError(
            "the audit's database URL or its driver is wrong; give sqlite:////folder/facefog.db or postgresql+psycopg://…"
        ) from None
    if engine.dialect.name == "sqlite":
        return Sqlite(engine.url.database, timeout_s)
    if (
        engine.dialect.name == "postgresql"
    ):  # Airflow's hook may bring another driver, whose protocol takes many statements
        mine = engine.driver == "psycopg"
        return Postgres(engine if mine else create_engine(engine.url.set(drivername="postgresql+psycopg")), timeout_s)
    raise ConfigurationError(
        f"queries know SQLite and PostgreSQL, not {engine.dialect.name}; query the Parquet audit with --audit"
    )


class Sqlite:
    """One SQLite file, opened read-only."""

    def __init__(self, path: str | None, timeout_s: float = TIMEOUT_S) -> None:
        import sqlite3
        from urllib.parse import quote

        self._timeout_s = timeout_s
        try:
            self._connection = sqlite3.connect(f"file:{quote(path or '/nonexistent')}?mode=ro", uri=True, timeout=60)
            self._connection.execute("select count(*) from sqlite_master").fetchall()
        except sqlite3.Error:
            raise ConfigurationError("there is no SQLite audit to read at this URL; check the path") from None
        self._connection.set_authorizer(_only_reading)

    def stream(self, sql: str, params: Mapping[str, Any] | None = None) -> Stream:
        """See ``Engine``."""
        text, values = bind(one_statement(sql), params or {}, SQLITE)
        with self._faults(), stops(self._connection.interrupt, self._timeout_s):
            cursor = self._connection.execute(text, values)
            first = cursor.fetchmany(CHUNK)
        return stream([column[0] for column in cursor.description], self._fetch(cursor, first))

    def ask(self, sql: str, params: Mapping[str, Any] | None = None, limit: int | None = None) -> Answer:
        """See ``Engine``."""
        return self.stream(sql, params).answer(limit)

    def runs_with(self, column: str, value: str) -> list[tuple[str, int]]:
        """See ``Engine``."""
        return runs_with(self, column, value)

    def rows_of(self, part: str, runs: Sequence[tuple[str, int]]) -> str:
        """See ``Engine``."""
        return f"facefog_{part}"

    def close(self) -> None:
        """See ``Engine``."""
        self._connection.close()

    def _fetch(self, cursor: Any, rows: list[Any]) -> Iterator[list[Any]]:
        while rows:
            yield rows
            with self._faults(), stops(self._connection.interrupt, self._timeout_s):
                rows = cursor.fetchmany(CHUNK)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        import sqlite3

        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StoreError("the SQLite audit is locked; retry when its writer is done") from None
            raise refused(error) from None
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise refused(error) from None


def _only_reading(action: int, first: str | None, second: str | None, *_: object) -> int:
    import sqlite3

    allowed = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
    reads = action in allowed or (action == sqlite3.SQLITE_FUNCTION and second != "load_extension")
    return sqlite3.SQLITE_OK if reads else sqlite3.SQLITE_DENY


class Postgres:
    """One PostgreSQL database through psycopg 3."""

    def __init__(self, engine: SqlAlchemyEngine, timeout_s: float = TIMEOUT_S) -> None:
        self._engine, self._timeout_ms = engine, int(timeout_s * 1000)
        self._connect()

    def _connect(self) -> None:
        import psycopg
        from sqlalchemy import exc

        try:
            self._pooled = self._engine.raw_connection()
        except (exc.SQLAlchemyError, psycopg.Error) as error:
            name = type(getattr(error, "orig", None) or error).__name__
            raise StoreError(
                f"the audit's database does not answer: {name}; check the URL, retry when it is up"
            ) from None
        self._connection: Any = cast(Any, self._pooled.driver_connection)
        self._connection.rollback()
        self._connection.read_only = True

    def stream(self, sql: str, params: Mapping[str, Any] | None = None) -> Stream:
        """See ``Engine``. A cursor takes only a SELECT, in the extended protocol, which takes only one.

        A connection that was lost is made anew: a person at a shell goes on asking.
        """
        text, values = bind(one_statement(sql), params or {}, PSYCOPG)
        if self._connection.closed:
            self._pooled.invalidate()
            self._connect()
        with self._faults():
            self._connection.rollback()
            self._connection.execute(f"set local statement_timeout = {self._timeout_ms}")
            cursor = self._connection.cursor(name="facefog_query")
            cursor.itersize = CHUNK
            cursor.execute(text, values or None)
            first = cursor.fetchmany(CHUNK)
        return stream([column.name for column in cursor.description], self._fetch(cursor, first))

    def ask(self, sql: str, params: Mapping[str, Any] | None = None, limit: int | None = None) -> Answer:
        """See ``Engine``."""
        return self.stream(sql, params).answer(limit)

    def runs_with(self, column: str, value: str) -> list[tuple[str, int]]:
        """See ``Engine``."""
        return runs_with(self, column, value)

    def rows_of(self, part: str, runs: Sequence[tuple[str, int]]) -> str:
        """See ``Engine``."""
        return f"facefog_{part}"

    def close(self) -> None:
        """See ``Engine``. The connection goes back to its pool as it came, and the pool is emptied."""
        if self._connection.closed:
            self._pooled.invalidate()  # the pool would try to roll back, and print how that fails
        else:
            self._connection.rollback()
            self._connection.read_only = None
            self._pooled.close()
        self._engine.dispose()

    def _fetch(self, cursor: Any, rows: list[Any]) -> Iterator[list[Any]]:
        while rows:
            yield rows
            with self._faults():
                rows = cursor.fetchmany(CHUNK)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.errors.QueryCanceled:
            self._connection.rollback()
            raise too_long(self._timeout_ms / 1000) from None
        except psycopg.Error as error:
            if self._connection.closed or (error.sqlstate or "08")[:2] in NOT_THERE:
                name = type(error).__name__
                raise StoreError(f"the audit's database does not answer: {name}; retry when it is up") from None
            self._connection.rollback()
            raise refused(error.diag.message_primary or type(error).__name__) from None


def runs_with(engine: Engine, column: str, value: str, source: str = "facefog_image") -> list[tuple[str, int]]:
    """``Engine.runs_with`` over a FROM item. ``column`` and ``source`` are names of ours."""
    sql = f"select distinct run_key, generation from {source} where {column} = :value"  # noqa: S608
    return sorted((row[0], row[1]) for row in engine.ask(sql, {"value": value}).rows)


@contextmanager
def stops(interrupt: Callable[[], None], timeout_s: float) -> Iterator[None]:
    """Interrupt what the block runs after a time. Raises ConfigurationError then."""
    fired = threading.Event()

    def stop() -> None:
        fired.set()
        interrupt()

    timer = threading.Timer(timeout_s, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    except BaseException:
        if fired.is_set():
            raise too_long(timeout_s) from None
        raise
    finally:
        timer.cancel()


def refused(error: object) -> ConfigurationError:
    """One short line of what a database said about a statement."""
    line = " ".join(str(error).split("\n\n")[0].split())
    return ConfigurationError(f"the query was refused: {''.join(c for c in line if c.isprintable())[:MESSAGE]}")


def too_long(timeout_s: float) -> ConfigurationError:
    """Said when a question was stopped."""
    return ConfigurationError(
        f"the query took longer than {timeout_s:g} s and was stopped; narrow it or raise --timeout"
    )
