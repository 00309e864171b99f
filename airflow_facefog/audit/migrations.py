"""From any older schema version to this one, in one transaction; and the views, whenever their text changed.

A list of our own and not Alembic: each step is a few statements that add something, the version is one row in the user's
database (which may hold Airflow's own ``alembic_version``), and finalise must be able to run it inside its own engine.
Steps are frozen text: what a step did never changes with the column list. New tables and indexes that no older version
had are made from the column list after all steps, and a test holds that both ways end in the same database.

It runs by itself when the package opens a database to write, because every step only adds: nothing that was there is
changed, and a finalise after an upgrade must not wait for a person. With the current version and views nothing is created,
so that the writing role needs no right to create. A newer database is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_facefog.audit.schema import SCHEMA_VERSION, SOURCE
from airflow_facefog.audit.sql_tables import VERSION_TABLE, metadata
from airflow_facefog.audit.views import PREFIX, VIEWS
from airflow_facefog.core.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import Connection

LOCK = 0x_FACE_F06
"""Advisory lock of PostgreSQL: one migration at a time. SQLite's begin is exclusive already."""

VIEW_DIALECTS = ("sqlite", "postgresql")
"""Where the views' text is tested; elsewhere only tables are made."""


KEEP_SOURCES = f"""
DO $facefog$
DECLARE reader text;
BEGIN
  FOR reader IN SELECT DISTINCT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) END
      FROM pg_class, aclexplode(relacl) acl WHERE oid = '{SOURCE.name}'::regclass AND acl.grantee <> relowner
  LOOP EXECUTE 'REVOKE ALL ON {SOURCE.name} FROM ' || reader; END LOOP;
END
$facefog$"""  # noqa: S608
"""A new table has what the owner's default privileges grant (``audit.roles`` sets some): not this one, which names files."""


@dataclass(frozen=True, slots=True)
class Migration:
    """What leads to ``version`` from the one before."""

    version: int
    run: Callable[[Connection], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What ``migrate`` did. ``found``: the version before, 0 for an empty database. ``changed``: anything at all. ``views``:
    how many there are now.
    """

    found: int
    version: int
    changed: bool
    views: int


def _to_2(connection: Connection) -> None:
    """Salted leaves, pixel ids and erasures."""
    for statement in (
        "ALTER TABLE facefog_image ADD COLUMN pixel_id TEXT",
        "ALTER TABLE facefog_image ADD COLUMN leaf_idx BIGINT",
        f"ALTER TABLE {VERSION_TABLE} ADD COLUMN views_sha256 TEXT",
        "CREATE TABLE facefog_erasure (request_id TEXT NOT NULL, run_key TEXT NOT NULL, generation BIGINT NOT NULL, "
        "part TEXT NOT NULL, reason TEXT NOT NULL, rows_removed BIGINT NOT NULL, old_sha256 TEXT NOT NULL, new_sha256 TEXT, "
        "seq BIGINT NOT NULL, at TEXT NOT NULL, actor TEXT, PRIMARY KEY (request_id, run_key, generation, part, seq))",
    ):
        connection.exec_driver_sql(statement)


MIGRATIONS: Sequence[Migration] = (Migration(2, _to_2),)


def migrate(connection: Connection) -> Outcome:
    """Bring the database up to this release, within the connection's transaction. Idempotent, safe for several at once.

    Raises ConfigurationError for a newer database, for tables of other origin, and when a view of somebody else reads
    one of ours that must be replaced.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
    found, installed = read_version(connection)
    views = len(VIEWS) if connection.dialect.name in VIEW_DIALECTS else 0
    if found == SCHEMA_VERSION and installed == _wanted_views(connection):
        return Outcome(found, SCHEMA_VERSION, False, views)
    for step in MIGRATIONS:
        if found and step.version > found:
            step.run(connection)
    _create_missing(connection)
    _install_views(connection)
    _write_version(connection)
    return Outcome(found, SCHEMA_VERSION, True, views)


def read_version(connection: Connection) -> tuple[int, str | None]:
    """(schema version, fingerprint of the installed views); (0, None) for a database without our tables.

    Raises ConfigurationError when the version is newer than this release, or not one number.
    """
    import sqlalchemy as sa

    inspector = sa.inspect(connection)
    if not inspector.has_table(VERSION_TABLE):
        return 0, None
    rows = connection.exec_driver_sql(f"SELECT * FROM {VERSION_TABLE}").mappings().all()  # noqa: S608
    if not rows:
        return 0, None
    version = rows[0]["version"]
    if len(rows) != 1 or not isinstance(version, int) or version < 1:
        raise ConfigurationError(f"{VERSION_TABLE} does not hold one version number; restore the database, or empty it")
    if version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"the SQL audit has schema version {version}, this release knows {SCHEMA_VERSION} and older; "
            "upgrade airflow-facefog on this machine"
        )
    return version, rows[0].get("views_sha256")


def require_current(connection: Connection) -> bool:
    """For readers: True when the tables are of this version, False when there are none.

    Raises ConfigurationError for any other version: reading changes nothing.
    """
    found, _ = read_version(connection)
    if found not in (0, SCHEMA_VERSION):
        raise ConfigurationError(
            f"the SQL audit has schema version {found}, this release reads {SCHEMA_VERSION}; run `facefog audit migrate`"
        )
    return found != 0


def _create_missing(connection: Connection) -> None:
    import sqlalchemy as sa

    found = metadata()
    restricted = not sa.inspect(connection).has_table(SOURCE.name)
    found.create_all(connection, checkfirst=True)
    if restricted and connection.dialect.name == "postgresql":
        _run(connection, KEEP_SOURCES)
    for table in found.tables.values():
        for index in table.indexes:
            index.create(connection, checkfirst=True)


def _install_views(connection: Connection) -> None:
    import sqlalchemy as sa

    if connection.dialect.name not in VIEW_DIALECTS:
        return
    old = [name for name in sa.inspect(connection).get_view_names() if name.startswith(PREFIX)]
    _drop_views(connection, old)
    for view in VIEWS:
        _run(connection, view.create_sql)


def _drop_views(connection: Connection, names: Sequence[str]) -> None:
    """PostgreSQL sorts out what reads what when it is told all names at once."""
    from sqlalchemy.exc import InternalError, NotSupportedError, OperationalError

    quote = connection.dialect.identifier_preparer.quote
    together = connection.dialect.name == "postgresql"
    groups: list[Sequence[str]] = ([names] if names else []) if together else [[name] for name in names]
    try:
        for group in groups:
            _run(connection, f"DROP VIEW {', '.join(map(quote, group))}")
    except (InternalError, NotSupportedError, OperationalError) as error:
        if getattr(error.orig, "sqlstate", None) != "2BP01":
            raise
        raise ConfigurationError(
            "a view of your own reads an audit view that must be replaced; drop it, run `facefog audit migrate`, create it again"
        ) from None


def _run(connection: Connection, statement: str) -> None:
    """Without parameters: a driver that formats with percent signs finds none in the text."""
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _wanted_views(connection: Connection) -> str | None:
    if connection.dialect.name not in VIEW_DIALECTS:
        return None
    return hashlib.sha256("\0".join(view.create_sql for view in VIEWS).encode()).hexdigest()


def _write_version(connection: Connection) -> None:
    import sqlalchemy as sa

    table: Any = metadata().tables[VERSION_TABLE]
    connection.execute(sa.delete(table))
    connection.execute(sa.insert(table), {"version": SCHEMA_VERSION, "views_sha256": _wanted_views(connection)})
