"""The audit tables in any SQL database, for queries. The truth stays in the Parquet parts: this can be filled again.

SQLite is for one machine and a local disk (see ``sqlite_locks``); use PostgreSQL for everything else: it is filled by COPY.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_facefog.audit.migrations import Outcome, migrate
from airflow_facefog.audit.schema import DETECTION, EGRESS, ERASURE, IMAGE, INTENT, RUN, SOURCE, Table
from airflow_facefog.audit.sql_copy import can_copy, copy_rows, upsert_sources
from airflow_facefog.audit.sql_faults import sql_faults
from airflow_facefog.audit.sql_tables import Rows, arrow_batches, checked, dicts, metadata
from airflow_facefog.audit.sqlite_locks import prepare_sqlite
from airflow_facefog.core.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy import Table as SqlTable

CHUNK = 5_000
"""Rows per executemany call."""

_RUN_TABLES = (INTENT, IMAGE, DETECTION, ERASURE)
"""Replaced as a whole for each (run_key, generation); the run row itself is the first."""


class SqlSink:
    """Writes runs to one database. Takes an SQLAlchemy URL or an engine; creates or migrates its tables on first use.

    Raises ConfigurationError (bad URL, driver missing, newer schema version) and StoreError (database unreachable,
    locked for too long, out of space). Messages hold no URL, user or password.
    """

    def __init__(self, url_or_engine: str | Engine) -> None:
        with sql_faults("open"):
            self._engine = _engine(url_or_engine)
            if self._engine.dialect.name == "sqlite":
                prepare_sqlite(self._engine)
        self._tables: Mapping[str, SqlTable] | None = None

    def __repr__(self) -> str:
        return f"SqlSink({self._engine.dialect.name})"

    @property
    def engine(self) -> Engine:
        """The engine. For reading, use ``reading``: with SQLite a plain begin takes the write lock."""
        return self._engine

    def close(self) -> None:
        """Close pooled connections."""
        self._engine.dispose()

    def migrate(self) -> Outcome:
        """Create or migrate tables, indexes and views (see ``migrations``). Idempotent, also for several processes at once."""
        with sql_faults("create or migrate its tables"), self._engine.begin() as connection:
            outcome = migrate(connection)
        self._tables = metadata().tables
        return outcome

    def create_tables(self) -> None:
        """``migrate``, once for this sink."""
        if self._tables is not None:
            return
        try:
            self.migrate()
        except StoreError:  # where no lock holds: another process created them between look and create
            self.migrate()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one moment of the database and keeps no writer waiting. Creates nothing."""
        _must_exist(self._engine)
        options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "stream_results": True}
        if self._engine.dialect.name == "postgresql":
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        elif self._engine.dialect.name in ("mysql", "mariadb"):
            options["isolation_level"] = "REPEATABLE READ"
        with sql_faults("read"), self._engine.connect().execution_options(**options) as connection:
            if self._engine.dialect.name != "sqlite":
                yield connection
                return
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.exec_driver_sql("ROLLBACK")

    def write_run(
        self, run_row: Mapping[str, Any], images: Rows, detections: Rows, *, intents: Rows = (), sources: Rows = (),
        erasures: Sequence[Mapping[str, Any]] = (), replace: bool = False,
    ) -> bool:  # fmt: skip
        """Write one run generation in one transaction: all of it or nothing.

        Rows are mappings or records, a ``pyarrow.Table`` of all columns, or an iterator of such tables. Writing again
        replaces the generation. When the run row says the same (equal manifest) and ``erasures`` (rows of
        ``facefog_erasure``) tell of no amendment that the database has not seen, its rows stay and this returns False:
        a late retry cannot bring erased rows back. Rows of a ``final`` run are never replaced by those of a ``failed``
        attempt. ``replace`` writes in any case. Sources are added, or updated by source_ref; those that an amendment
        removed go with it.
        """
        self.create_tables()
        run_row = checked(RUN, run_row)
        key = {"run_key": run_row["run_key"], "generation": run_row["generation"]}
        with sql_faults("write a run"), self._engine.begin() as connection:
            self._one_at_a_time(connection, key)
            found = self._found(connection, key)
            if found is not None and not replace and not self._wanted(connection, found, run_row, erasures):
                return False
            before = self._source_refs(connection, key) if found is not None and erasures else set()
            if found is not None:
                self._delete_run(connection, key)
            rows = {INTENT: intents, IMAGE: images, DETECTION: detections, ERASURE: erasures}
            for table in (RUN, *_RUN_TABLES):
                self._insert(connection, table, [run_row] if table is RUN else rows[table])
            self._replace_sources(connection, sources)
            if before:
                self._forget_sources(connection, before - self._source_refs(connection, key))
        return True

    def has_run(self, run_row: Mapping[str, Any], erasures: Sequence[Mapping[str, Any]] = ()) -> bool:
        """Whether ``write_run`` would leave things as they are."""
        self.create_tables()
        key = {"run_key": run_row["run_key"], "generation": run_row["generation"]}
        with self.reading() as connection:
            found = self._found(connection, key)
            return found is not None and not self._wanted(connection, found, run_row, erasures)

    def replace_egress(self, rows: Rows) -> None:
        """Make ``facefog_egress`` hold exactly these rows: its files belong to attempts, not to sealed runs."""
        import sqlalchemy as sa

        self.create_tables()
        with sql_faults("write what left"), self._engine.begin() as connection:
            self._one_at_a_time(connection, {"run_key": EGRESS.name, "generation": 0})
            connection.execute(sa.delete(self._table(EGRESS)))
            self._insert(connection, EGRESS, rows)

    def _one_at_a_time(self, connection: Connection, key: Mapping[str, Any]) -> None:
        """Writers of one run wait for each other on PostgreSQL; SQLite's begin is exclusive already."""
        import sqlalchemy as sa

        if self._engine.dialect.name == "postgresql":
            name = f"{key['run_key']}/{key['generation']}"
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})

    def _found(self, connection: Connection, key: Mapping[str, Any]) -> Any:
        from sqlalchemy import select

        table = self._table(RUN)
        return connection.execute(
            select(table.c.status, table.c.manifest_sha256, table.c.run_key, table.c.generation).where(
                table.c.run_key == key["run_key"], table.c.generation == key["generation"]
            )
        ).first()

    def _wanted(
        self, connection: Connection, found: Any, run_row: Mapping[str, Any], erasures: Sequence[Mapping[str, Any]]
    ) -> bool:
        if found.status in ("failed", "running"):
            return True
        if run_row["status"] in ("failed", "running"):
            return False
        if found.manifest_sha256 is None or found.manifest_sha256 != run_row.get("manifest_sha256"):
            return True
        return not {(row["part"], row["seq"]) for row in erasures} <= self._erasures(connection, found)

    def _erasures(self, connection: Connection, run: Any) -> set[tuple[str, int]]:
        """(part, seq) of the amendments that are there: one request may change a part several times."""
        from sqlalchemy import select

        table = self._table(ERASURE)
        rows = connection.execute(
            select(table.c.part, table.c.seq).where(
                table.c.run_key == run.run_key, table.c.generation == run.generation
            )
        )
        return {(row.part, row.seq) for row in rows}

    def _source_refs(self, connection: Connection, key: Mapping[str, Any]) -> set[str]:
        from sqlalchemy import select

        table = self._table(IMAGE)
        where = (table.c.run_key == key["run_key"], table.c.generation == key["generation"])
        return set(connection.execute(select(table.c.source_ref).where(*where)).scalars())

    def _forget_sources(self, connection: Connection, refs: set[str]) -> None:
        """What no run lists any more has no name here either."""
        from sqlalchemy import bindparam, delete, exists

        source, image = self._table(SOURCE), self._table(IMAGE)
        gone: Any = bindparam("ref")
        statement = delete(source).where(source.c.source_ref == gone, ~exists().where(image.c.source_ref == gone))
        if refs:
            connection.execute(statement, [{"ref": ref} for ref in sorted(refs)])

    def _delete_run(self, connection: Connection, key: Mapping[str, Any]) -> None:
        for table in (*_RUN_TABLES, RUN):
            connection.execute(self._delete(table, *key), key)

    def _delete(self, table: Table, *columns: str) -> Any:
        from sqlalchemy import bindparam, delete

        target = self._table(table)
        return delete(target).where(*(target.c[name] == bindparam(name) for name in columns))

    def _insert(self, connection: Connection, table: Table, rows: Rows) -> None:
        """executemany without RETURNING: ``values([list])`` and RETURNING are 8 to 20 times slower on psycopg 3."""
        if can_copy(connection):
            copy_rows(connection, table, rows)
            return
        target = self._table(table).insert()
        for batch in arrow_batches(table, rows, CHUNK):
            connection.execute(target, dicts(table, batch))

    def _replace_sources(self, connection: Connection, sources: Rows) -> None:
        """The last of several rows of one source holds."""
        if can_copy(connection):
            upsert_sources(connection, sources)
            return
        for batch in arrow_batches(SOURCE, sources, CHUNK):
            chunk = {row["source_ref"]: row for row in dicts(SOURCE, batch)}
            connection.execute(self._delete(SOURCE, "source_ref"), [{"source_ref": ref} for ref in chunk])
            connection.execute(self._table(SOURCE).insert(), list(chunk.values()))

    def _table(self, table: Table) -> SqlTable:
        return (self._tables or metadata().tables)[table.name]


def _engine(url_or_engine: str | Engine) -> Engine:
    from sqlalchemy import create_engine

    if not isinstance(url_or_engine, str):
        return url_or_engine
    return create_engine(url_or_engine, hide_parameters=True)


def _must_exist(engine: Engine) -> None:
    """SQLite makes an empty file of any name that it is asked to read."""
    file = engine.url.database
    named = bool(file) and file != ":memory:" and not str(file).startswith("file:")
    if engine.dialect.name == "sqlite" and named and not Path(str(file)).exists():
        raise ConfigurationError("there is no SQLite database at that place; fill one with `facefog audit load`")
