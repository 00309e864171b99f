"""The audit tables in any SQL database, for queries. The truth stays in the Parquet parts: this can be filled again.

SQLite is for one machine and a local disk (see ``sqlite_locks``); use PostgreSQL for everything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from airflow_facefog.audit.schema import DETECTION, IMAGE, INTENT, RUN, SCHEMA_VERSION, SOURCE, TABLES, Table
from airflow_facefog.audit.sqlite_locks import prepare_sqlite
from airflow_facefog.core.errors import ConfigurationError, FogError, StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData
    from sqlalchemy import Table as SqlTable

CHUNK = 5_000
"""Rows per executemany call."""

Rows = Sequence[Any] | Any
"""Mappings or records, or a ``pyarrow.Table``."""

_RUN_TABLES = (INTENT, IMAGE, DETECTION)
"""Replaced as a whole for each (run_key, generation); the run row itself is the first."""


class SqlSink:
    """Writes runs to one database. Takes an SQLAlchemy URL or an engine; creates its tables on first use.

    Raises ConfigurationError (bad URL, driver missing, another schema version) and StoreError (database unreachable,
    locked for too long, out of space). Messages hold no URL, user or password.
    """

    def __init__(self, url_or_engine: str | Engine) -> None:
        with _faults("open"):
            self._engine = _engine(url_or_engine)
            if self._engine.dialect.name == "sqlite":
                prepare_sqlite(self._engine)
        self._metadata: MetaData | None = None

    def __repr__(self) -> str:
        return f"SqlSink({self._engine.dialect.name})"

    @property
    def engine(self) -> Engine:
        """The engine. For reading, use AUTOCOMMIT: with SQLite a plain begin takes the write lock."""
        return self._engine

    def close(self) -> None:
        """Close pooled connections."""
        self._engine.dispose()

    def create_tables(self) -> None:
        """Create what is missing and check the schema version. Idempotent, also for several processes at once."""
        if self._metadata is not None:
            return
        metadata = _metadata()
        with _faults("create its tables"):
            try:
                self._create(metadata)
            except _database_error():
                self._create(metadata)  # another process created them between look and create
        self._metadata = metadata

    def write_run(
        self, run_row: Mapping[str, Any], images: Rows, detections: Rows, *, intents: Rows = (), sources: Rows = (),
    ) -> bool:  # fmt: skip
        """Write one run generation in one transaction: all of it or nothing.

        Rows are mappings or records, or a ``pyarrow.Table`` of all columns, which is taken in chunks. Writing again
        replaces the generation; when the run row says the same (equal manifest), the first writer's rows stay and this
        returns False. Rows of a ``final`` run are never replaced by those of a ``failed`` attempt. Sources are added, or
        updated by source_ref.
        """
        self.create_tables()
        rows = {INTENT: intents, IMAGE: images, DETECTION: detections}
        with _faults("write a run"), self._engine.begin() as connection:
            if not self._wanted(connection, run_row):
                return False
            key = {"run_key": run_row["run_key"], "generation": run_row["generation"]}
            for table in (*_RUN_TABLES, RUN):
                connection.execute(self._delete(table, *key), key)
            self._insert(connection, RUN, [run_row])
            for table in _RUN_TABLES:
                self._insert(connection, table, rows[table])
            self._replace_sources(connection, sources)
        return True

    def _wanted(self, connection: Connection, run_row: Mapping[str, Any]) -> bool:
        from sqlalchemy import select

        table = self._table(RUN)
        found = connection.execute(
            select(table.c.status, table.c.manifest_sha256).where(
                table.c.run_key == run_row["run_key"], table.c.generation == run_row["generation"]
            )
        ).first()
        if found is None or found.status != "final":
            return True
        same = found.manifest_sha256 is not None and found.manifest_sha256 == run_row.get("manifest_sha256")
        return not same and run_row["status"] not in ("failed", "running")

    def _replace_sources(self, connection: Connection, sources: Sequence[Any]) -> None:
        """The last of several rows of one source holds."""
        for start in range(0, len(sources), CHUNK):
            chunk = {row["source_ref"]: row for row in _rows(SOURCE, sources, start)}
            connection.execute(self._delete(SOURCE, "source_ref"), [{"source_ref": ref} for ref in chunk])
            connection.execute(self._table(SOURCE).insert(), list(chunk.values()))

    def _delete(self, table: Table, *columns: str) -> Any:
        from sqlalchemy import bindparam, delete

        target = self._table(table)
        return delete(target).where(*(target.c[name] == bindparam(name) for name in columns))

    def _insert(self, connection: Connection, table: Table, rows: Sequence[Any]) -> None:
        """executemany without RETURNING: ``values([list])`` and RETURNING are 8 to 20 times slower on psycopg 3."""
        target = self._table(table).insert()
        for start in range(0, len(rows), CHUNK):
            connection.execute(target, _rows(table, rows, start))

    def _table(self, table: Table) -> SqlTable:
        assert self._metadata is not None
        return self._metadata.tables[table.name]

    def _create(self, metadata: MetaData) -> None:
        from sqlalchemy import insert, select

        version = metadata.tables["facefog_schema"]
        with self._engine.begin() as connection:
            metadata.create_all(connection, checkfirst=True)
            found = connection.execute(select(version.c.version)).scalars().all()
            if not found:
                connection.execute(insert(version), {"version": SCHEMA_VERSION})
            elif found != [SCHEMA_VERSION]:
                raise ConfigurationError(
                    f"the SQL audit has schema version {found[0]}, this release writes {SCHEMA_VERSION}; use an empty database "
                    "and fill it from the Parquet parts"
                )


def _engine(url_or_engine: str | Engine) -> Engine:
    from sqlalchemy import create_engine

    if not isinstance(url_or_engine, str):
        return url_or_engine
    return create_engine(url_or_engine, hide_parameters=True)


def _metadata() -> MetaData:
    import sqlalchemy as sa

    kinds: dict[str, type[Any]] = {"integer": sa.BigInteger, "flag": sa.SmallInteger, "float": sa.Double}
    metadata = sa.MetaData()
    for table in TABLES.values():
        keys = table.primary_key
        columns = [
            sa.Column(
                c.name, kinds.get(c.type, sa.Text), nullable=c.nullable, primary_key=c.name in keys, autoincrement=False
            )
            for c in table.columns
        ]  # fmt: skip
        sa.Table(table.name, metadata, *columns)
    sa.Table("facefog_schema", metadata, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
    for name in (IMAGE.name, DETECTION.name):
        sa.Index(f"{name}_by_image", metadata.tables[name].c.image_id)
    return metadata


def _rows(table: Table, rows: Sequence[Any], start: int) -> list[dict[str, Any]]:
    """One chunk of rows as dicts of exactly the table's columns."""
    import pyarrow as pa

    if isinstance(rows, pa.Table):
        from airflow_facefog.audit.parquet import plain

        columns = plain(table.name, rows.slice(start, CHUNK)).columns
        values = zip(*(column.to_pylist() for column in columns), strict=True)
        return [dict(zip(table.column_names, row, strict=True)) for row in values]
    chunk = [_mapping(row) for row in rows[start : start + CHUNK]]
    _check(table, chunk)
    return [{name: row.get(name) for name in table.column_names} for row in chunk]


def _mapping(row: Any) -> Mapping[str, Any]:
    if is_dataclass(row) and not isinstance(row, type):
        return asdict(row)
    found: Mapping[str, Any] = row
    return found


def _check(table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Databases name a bad row by its values; this names the column."""
    known, needed = set(table.column_names), [c.name for c in table.columns if not c.nullable]
    for row in rows:
        if not known.issuperset(row):
            raise ValueError(f"{table.name} has no column {sorted(set(row) - known)[0]!r}")
        missing = [name for name in needed if row.get(name) is None]
        if missing:
            raise ValueError(f"{table.name}.{missing[0]}: a row has no value and the column is not nullable")


def _database_error() -> type[Exception]:
    from sqlalchemy.exc import DBAPIError

    return DBAPIError


@contextmanager
def _faults(verb: str) -> Iterator[None]:
    """Turn database errors into ours; foreign messages quote URLs, statements and values, so they are dropped."""
    from sqlalchemy import exc

    try:
        yield
    except (FogError, ValueError):
        raise
    except (exc.ArgumentError, exc.NoSuchModuleError, ImportError):
        raise ConfigurationError(
            "the SQL audit's URL or driver is wrong; check the connection (PostgreSQL: install airflow-facefog[postgres])"
        ) from None
    except (exc.OperationalError, exc.InterfaceError, exc.IntegrityError, exc.TimeoutError) as error:
        raise StoreError(
            f"cannot {verb} in the SQL audit: {_name(error)}; retry when the database is reachable"
        ) from None
    except exc.SQLAlchemyError as error:
        raise ConfigurationError(
            f"cannot {verb} in the SQL audit: {_name(error)}; check the database's tables and permissions"
        ) from None


def _name(error: Exception) -> str:
    return type(getattr(error, "orig", None) or error).__name__
