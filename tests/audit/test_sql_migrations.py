"""Migrations: from a database that an older release made, with its rows, on both databases."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlkit import detection, execute, image, rows, run_row

from airflow_facefog.audit import migrations
from airflow_facefog.audit.schema import DETECTION, IMAGE, RUN, SCHEMA_VERSION, SOURCE, TABLES
from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.audit.sql_tables import metadata
from airflow_facefog.audit.views import VIEWS
from airflow_facefog.core.errors import ConfigurationError

OLD = Path(__file__).with_name("schema_v1.sql").read_text()
NEW_COLUMNS = {"pixel_id", "leaf_idx"}


def old_database(sink: SqlSink) -> dict[str, list[tuple[object, ...]]]:
    """Make a database as version 1 made it, with rows; return them by table."""
    sqlite = sink.engine.dialect.name == "sqlite"
    text = OLD.replace("DOUBLE PRECISION", "DOUBLE") if sqlite else OLD
    statements = [part for part in text.partition("\n")[2].split(";\n") if part.strip()]
    source = {"source_ref": "s1", "source_uri": "u", "bytes": None, "expires_at": "2999"}
    said = {RUN: [run_row()], IMAGE: [image(n) for n in range(5)], DETECTION: [detection(n, 0) for n in range(5)],
            SOURCE: [source]}  # fmt: skip
    with sink.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        for table, found in said.items():
            names = [name for name in table.column_names if name not in NEW_COLUMNS]
            target = sa.table(table.name, *map(sa.column, names))
            connection.execute(target.insert(), [{name: row.get(name) for name in names} for row in found])
    return {table.name: rows(sink, f"SELECT * FROM {table.name} ORDER BY 1, 2, 3") for table in said}


def shape(sink: SqlSink) -> dict[str, object]:
    """Everything that a database says of its tables, indexes and views."""
    found = sa.inspect(sink.engine)
    tables = {
        name: (
            {(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(name)},
            found.get_pk_constraint(name)["constrained_columns"],
            sorted((index["name"], tuple(index["column_names"])) for index in found.get_indexes(name)),
        )
        for name in found.get_table_names()
    }  # fmt: skip
    return {"tables": tables, "views": sorted(found.get_view_names())}


def test_an_older_database_keeps_every_row_and_gets_the_shape_of_a_new_one(sink, tmp_path, request):
    """Version 1 with rows becomes what a fresh database is, in columns, keys, indexes and views, and loses nothing."""
    before = old_database(sink)
    outcome = sink.migrate()
    assert (outcome.found, outcome.version, outcome.changed) == (1, SCHEMA_VERSION, True)
    for table, found in before.items():
        assert [row[: len(found[0])] for row in rows(sink, f"SELECT * FROM {table} ORDER BY 1, 2, 3")] == found
    assert rows(sink, "SELECT count(pixel_id), count(leaf_idx) FROM facefog_image") == [(0, 0)]
    with fresh(sink, tmp_path, request) as other:
        assert shape(sink) == shape(other)


@contextmanager
def fresh(sink: SqlSink, tmp_path, request):
    """A new database of the same kind, migrated from nothing."""
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'fresh.db'}"
        if sink.engine.dialect.name != "sqlite":
            url = stack.enter_context(request.getfixturevalue("pg_server").database())
        other = SqlSink(url)
        stack.callback(other.close)
        other.migrate()
        yield other


def test_migrating_again_changes_nothing(sink):
    """The second time nothing is created or replaced, so that a role without such rights can write."""
    old_database(sink)
    assert sink.migrate().changed
    assert not sink.migrate().changed
    assert not SqlSink(sink.engine).migrate().changed


def test_writing_into_an_older_database_migrates_it(sink):
    """A finalise after an upgrade waits for nobody, and the new columns are there for it."""
    old_database(sink)
    assert sink.write_run(run_row("r2"), [image(1, "r2", pixel_id="p", leaf_idx=7)], [])
    assert rows(sink, "SELECT pixel_id, leaf_idx FROM facefog_image WHERE run_key = 'r2'") == [("p", 7)]
    assert rows(sink, "SELECT count(*) FROM facefog_image") == [(6,)]


def test_reading_an_older_database_changes_nothing(sink):
    """A reader is told to migrate; it does not do it."""
    old_database(sink)
    with sink.reading() as connection, pytest.raises(ConfigurationError, match="facefog audit migrate"):
        migrations.require_current(connection)
    assert rows(sink, "SELECT version FROM facefog_schema") == [(1,)]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (f"UPDATE facefog_schema SET version = {SCHEMA_VERSION + 1}", "upgrade airflow-facefog"),
        ("UPDATE facefog_schema SET version = -1", "one version number"),
        ("INSERT INTO facefog_schema (version) VALUES (1)", "one version number"),
    ],
)
def test_what_is_no_older_version_is_refused_untouched(sink, statement, message):
    """A newer database, or one that does not say which it is, is neither written nor changed."""
    sink.migrate()
    execute(sink, statement)
    before = rows(sink, "SELECT version FROM facefog_schema ORDER BY 1")
    with pytest.raises(ConfigurationError, match=message):
        SqlSink(sink.engine).write_run(run_row(), [], [])
    assert rows(sink, "SELECT version FROM facefog_schema ORDER BY 1") == before


def test_a_step_that_fails_leaves_the_older_database(sink, monkeypatch):
    """All steps are one transaction: half a migration does not exist."""
    before = old_database(sink)

    def broken(connection):
        connection.exec_driver_sql("ALTER TABLE facefog_image ADD COLUMN later TEXT")
        raise ConfigurationError("no")

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, migrations.Migration(3, broken)))
    with pytest.raises(ConfigurationError):
        sink.migrate()
    assert rows(sink, "SELECT * FROM facefog_image ORDER BY 1, 2, 3") == before["facefog_image"]
    assert rows(sink, "SELECT version FROM facefog_schema") == [(1,)]


MIGRATOR = "import sys; from airflow_facefog.audit.sql import SqlSink; print(SqlSink(sys.argv[1]).migrate().changed)"


def test_processes_that_migrate_at_once_do_it_once(sink):
    """Three at the same moment: one does it, the others find it done."""
    old_database(sink)
    url = sink.engine.url.render_as_string(hide_password=False)
    started = [
        subprocess.Popen([sys.executable, "-c", MIGRATOR, url], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert sorted(process.communicate()[0].strip() for process in started) == ["False", "False", "True"]
    assert rows(sink, "SELECT count(*) FROM facefog_image") == [(5,)]


def test_views_are_replaced_when_their_text_changed(sink, monkeypatch):
    """Another release's views go, ours come, and somebody's table of a similar name stays."""
    sink.migrate()
    execute(sink, "CREATE VIEW facefog_v_old AS SELECT run_key FROM facefog_v_run_summary",
            "CREATE TABLE my_facefog_v_table (x INTEGER)")  # fmt: skip
    monkeypatch.setattr(migrations, "VIEWS", VIEWS[:1])
    assert sink.migrate().changed
    assert sa.inspect(sink.engine).get_view_names() == [VIEWS[0].name]
    monkeypatch.undo()
    assert sink.migrate().changed
    assert set(sa.inspect(sink.engine).get_view_names()) == {view.name for view in VIEWS}
    assert "my_facefog_v_table" in sa.inspect(sink.engine).get_table_names()


def test_every_view_answers_on_an_empty_database(sink):
    """Empty tables give empty or zero answers, with the columns that the view says."""
    sink.migrate()
    with sink.reading() as connection:
        for view in VIEWS:
            found = connection.exec_driver_sql(f"SELECT * FROM {view.name}")
            assert tuple(found.keys()) == view.columns, view.name
            found.fetchall()


def test_a_users_view_over_ours_is_not_dropped(pg_url, monkeypatch):
    """PostgreSQL would drop it with CASCADE; the owner is told instead, and everything stays."""
    sink = SqlSink(pg_url)
    sink.migrate()
    execute(sink, f"CREATE VIEW mine AS SELECT * FROM {VIEWS[0].name}")
    monkeypatch.setattr(migrations, "VIEWS", VIEWS[:1])
    with pytest.raises(ConfigurationError, match="of your own"):
        sink.migrate()
    assert len(sa.inspect(sink.engine).get_view_names()) == len(VIEWS) + 1
    sink.close()


def test_the_tables_compile_for_mysql():
    """MySQL cannot index text without a length: every key and index column has one, 3072 bytes at most a key."""
    from sqlalchemy.dialects import mysql
    from sqlalchemy.schema import CreateIndex, CreateTable

    for table in metadata().tables.values():
        text = str(CreateTable(table).compile(dialect=mysql.dialect()))
        keys = [table.primary_key.columns, *(index.columns for index in table.indexes)]
        for columns in keys:
            kinds = [column.type.dialect_impl(mysql.dialect()) for column in columns]
            lengths = [getattr(kind, "length", 8) for kind in kinds]
            assert None not in lengths, table.name
            assert sum(lengths) <= 3072, table.name
        assert text.count("PRIMARY KEY") == 1
        assert all(str(CreateIndex(index).compile(dialect=mysql.dialect())) for index in table.indexes)
    assert set(TABLES) < set(metadata().tables)
