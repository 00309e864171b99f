"""The read-only role, on a real server: what it can read and what it cannot."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa
from sqlkit import detection, image, run_row, source

from airflow_facefog.audit import migrations
from airflow_facefog.audit.roles import role_script
from airflow_facefog.audit.schema import TABLES
from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.audit.views import VIEWS
from airflow_facefog.core.errors import ConfigurationError

NAME = "Facefog-Reader_1"


def run_script(url, script):
    """As psql does: one string of statements over a connection of its own, as the owner."""
    plain = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(script)


@pytest.fixture
def owner(pg_url):
    """The owner's sink, with rows, the script run twice; roles are of the whole server, so it is dropped at the end."""
    sink = SqlSink(pg_url)
    sink.write_run(run_row(), [image(1)], [detection(1, 0)], sources=[source(1)])
    for _ in range(2):
        run_script(pg_url, role_script(NAME))
    yield sink
    with sink.engine.begin() as connection:
        connection.exec_driver_sql(f'DROP OWNED BY "{NAME}"')
        connection.exec_driver_sql(f'DROP ROLE "{NAME}"')
    sink.close()


def as_reader(sink, statement):
    """Run one statement with the rights of the role; nothing is kept."""
    with sink.engine.connect() as connection:
        connection.exec_driver_sql(f'SET ROLE "{NAME}"')
        return connection.exec_driver_sql(statement).fetchall()


def test_the_role_reads_every_view_and_table_but_the_sources(owner):
    """All views answer, with rows; the names of source files do not."""
    for name in [*(view.name for view in VIEWS), *TABLES, "facefog_schema"]:
        if name != "facefog_source":
            as_reader(owner, f"SELECT * FROM {name}")
    assert len(as_reader(owner, "SELECT * FROM facefog_image")) == 1
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        as_reader(owner, "SELECT source_uri FROM facefog_source")


def test_sources_that_are_made_anew_stay_with_the_owner(owner, pg_url):
    """The database can be emptied and filled again; what the role may read of new tables does not reach the names of files."""
    with owner.engine.begin() as connection:
        for view in reversed(VIEWS):
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {view.name} CASCADE")
        for name in (*TABLES, "facefog_schema"):
            connection.exec_driver_sql(f"DROP TABLE {name}")
    anew = SqlSink(pg_url)
    anew.write_run(run_row(), [image(1)], [], sources=[source(1)])
    assert len(as_reader(anew, "SELECT * FROM facefog_image")) == 1
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        as_reader(anew, "SELECT source_uri FROM facefog_source")
    anew.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE facefog_image SET status = 'published' RETURNING 1", "DELETE FROM facefog_run RETURNING 1",
        "INSERT INTO facefog_schema (version) VALUES (9) RETURNING 1", "TRUNCATE facefog_detection",
        "DROP VIEW facefog_v_leaks", "COPY facefog_source TO STDOUT", "ALTER TABLE facefog_image ADD COLUMN x int",
    ],
)  # fmt: skip
def test_the_role_writes_nothing(owner, statement):
    """Neither rows nor definitions."""
    with pytest.raises(sa.exc.ProgrammingError, match=r"permission denied|must be owner"):
        as_reader(owner, statement)


def test_the_role_cannot_log_in(owner, pg_url):
    """It is granted to people's own roles; it has no password and no login."""
    url = sa.make_url(pg_url).set(username=NAME)
    with pytest.raises(sa.exc.OperationalError, match=r"not permitted to log in|password authentication failed"):
        sa.create_engine(url, poolclass=sa.NullPool).connect()


def test_views_that_an_upgrade_replaced_are_readable(owner, monkeypatch):
    """Default privileges reach what is created later."""
    monkeypatch.setattr(migrations, "VIEWS", VIEWS[:3])
    assert owner.migrate().changed
    monkeypatch.undo()
    assert owner.migrate().changed
    for view in VIEWS:
        as_reader(owner, f"SELECT * FROM {view.name}")


def test_a_writer_needs_no_right_to_create(owner, pg_url):
    """With the current version, SELECT, INSERT, DELETE and (sources) UPDATE are enough to write and replace runs."""
    grants = ["GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA public TO fog_writer",
              "GRANT UPDATE ON facefog_source TO fog_writer", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"]  # fmt: skip
    with owner.engine.begin() as connection:
        for statement in ["CREATE ROLE fog_writer", *grants]:
            connection.exec_driver_sql(statement)
    writer = SqlSink(sa.create_engine(pg_url, poolclass=sa.NullPool))
    sa.event.listen(writer.engine, "begin", lambda connection: connection.exec_driver_sql("SET LOCAL ROLE fog_writer"))
    try:
        assert writer.write_run(run_row("w"), [image(1, "w")], [], sources=[source(1), source(2)])
        assert writer.write_run(run_row("w", manifest_sha256="m2"), [image(2, "w")], [], sources=[source(2)])
        with owner.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE facefog_schema SET views_sha256 = 'old'")
        with pytest.raises(ConfigurationError, match="permissions"):
            SqlSink(writer.engine).write_run(run_row("w2"), [], [])
    finally:
        with owner.engine.begin() as connection:
            connection.exec_driver_sql("DROP OWNED BY fog_writer")
            connection.exec_driver_sql("DROP ROLE fog_writer")


def test_before_the_tables_exist_the_script_leaves_nothing(pg_url):
    """One transaction: no role, no default privileges that would later reach the sources."""
    engine = sa.create_engine(pg_url)
    with pytest.raises(psycopg.errors.UndefinedTable):
        run_script(pg_url, role_script("early_reader"))
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT count(*) FROM pg_roles WHERE rolname = 'early_reader'")
        assert found.scalar() == 0
    engine.dispose()


@pytest.mark.parametrize(
    "name",
    [
        'x"; DROP TABLE facefog_run; --',
        "x'; --",
        "a$facefog$b",
        "",
        "pg_read_all_data",
        "Public",
        "none",
        "x" * 64,
        "a\nb",
        "é",
    ],
)
@pytest.mark.parametrize("what", ["name", "schema"])
def test_names_that_are_no_plain_names_are_refused(what, name):
    """A script that a superuser runs holds nothing that somebody else wrote."""
    if what == "schema" and name in ("pg_read_all_data", "Public", "none"):
        assert f'"{name}"."facefog_run"' in role_script(schema=name)
        return
    with pytest.raises(ConfigurationError, match="cannot be the name"):
        role_script(**{what: name})
