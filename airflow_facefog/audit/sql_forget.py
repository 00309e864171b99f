"""Delete from the SQL audit what the Parquet audit no longer holds, and say in ``facefog_erasure`` that it was done.

SQLite keeps deleted bytes in free pages and its log: ``wipe`` overwrites them. PostgreSQL keeps them until VACUUM, and in
its own log and backups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_facefog.audit.schema import DETECTION, EGRESS, ERASURE, IMAGE, INTENT, SOURCE, TABLES, Table
from airflow_facefog.audit.sql_faults import sql_faults

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from airflow_facefog.audit.sql import SqlSink

ABOUT_IMAGES = (DETECTION, INTENT, EGRESS, IMAGE)
CHUNK = 1_000


def forget_images(
    sink: SqlSink, *, image_ids: Iterable[str], sources: Iterable[str], unread: Iterable[str], names: Iterable[str]
) -> int:
    """Delete all rows of these pictures, all rows of ``sources``, rows without a picture of ``unread`` sources, and the
    URIs of ``names``; return how many rows there were. Raises StoreError, ConfigurationError.
    """
    sink.create_tables()
    with sql_faults("forget an image"), sink.engine.begin() as connection:
        done = sum(
            _delete(connection, table, column, values)
            for table in ABOUT_IMAGES
            for column, values in (("image_id", image_ids), ("source_ref", sources))
        )
        done += _delete(connection, IMAGE, "source_ref", unread, where_null="image_id")
        return done + _delete(connection, SOURCE, "source_ref", names)


def forget_outputs(
    sink: SqlSink, image_id: str, *, kept_runs: Sequence[tuple[str, int]], kept_outputs: Iterable[str]
) -> int:
    """Delete the rows of a picture but those of these runs (run_key, generation), and its intents but those of these
    outputs (sha256); return how many rows there were. Raises StoreError, ConfigurationError.
    """
    import sqlalchemy as sa

    sink.create_tables()
    done = 0
    with sql_faults("forget outputs of an image"), sink.engine.begin() as connection:
        for table in (DETECTION, IMAGE, INTENT):
            target = _table(table)
            runs = [sa.and_(target.c.run_key == key, target.c.generation == number) for key, number in kept_runs]
            stays = sa.or_(sa.false(), *runs)
            if table is INTENT:
                stays = sa.and_(stays, target.c.output_sha256.in_(sorted(kept_outputs)))
            mine = sa.and_(target.c.image_id == image_id, sa.not_(stays))
            done += connection.execute(sa.delete(target).where(mine)).rowcount
    return done


def forget_runs(sink: SqlSink, runs: Iterable[tuple[str, str, int]]) -> int:
    """Delete the rows of (part, run_key, generation), part being ``image``, ``detection`` or ``intent``."""
    import sqlalchemy as sa

    sink.create_tables()
    done = 0
    with sql_faults("forget a run"), sink.engine.begin() as connection:
        for part, run_key, generation in runs:
            target = _table(TABLES[f"facefog_{part}"])
            mine = sa.and_(target.c.run_key == run_key, target.c.generation == generation)
            done += connection.execute(sa.delete(target).where(mine)).rowcount
    return done


def forget_sources(sink: SqlSink, before: str) -> int:
    """Delete source rows that expired before this moment (UTC, ISO-8601 as they were written)."""
    import sqlalchemy as sa

    sink.create_tables()
    target = _table(SOURCE)
    with sql_faults("forget sources"), sink.engine.begin() as connection:
        return int(connection.execute(sa.delete(target).where(target.c.expires_at < before)).rowcount)


def record_erasures(sink: SqlSink, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of ``facefog_erasure``; the same row again replaces itself."""
    import sqlalchemy as sa

    sink.create_tables()
    target = _table(ERASURE)
    with sql_faults("record an erasure"), sink.engine.begin() as connection:
        for row in rows:
            mine = [target.c[name] == row[name] for name in ERASURE.primary_key]
            connection.execute(sa.delete(target).where(*mine))
            connection.execute(target.insert(), dict(row))


def wipe(sink: SqlSink) -> None:
    """SQLite only: write the database anew without what was deleted, and empty its log."""
    if sink.engine.dialect.name != "sqlite":
        return
    with sql_faults("wipe deleted rows"), sink.engine.connect() as connection:
        found = connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in ("PRAGMA secure_delete=ON", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
            found.exec_driver_sql(statement)


def _delete(
    connection: Connection, table: Table, column: str, values: Iterable[str], where_null: str | None = None
) -> int:
    import sqlalchemy as sa

    target = _table(table)
    wanted = sorted(values)
    done = 0
    for start in range(0, len(wanted), CHUNK):
        mine = target.c[column].in_(wanted[start : start + CHUNK])
        if where_null:
            mine = sa.and_(mine, target.c[where_null].is_(None))
        done += connection.execute(sa.delete(target).where(mine)).rowcount
    return done


def _table(table: Table) -> Any:
    import sqlalchemy as sa

    return sa.table(table.name, *(sa.column(name) for name in table.column_names))
