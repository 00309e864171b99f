"""The SQL form of the audit, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import sqlalchemy as sa

from airflow_facefog.audit.parquet import join_compact, read_compact, to_arrow, to_parquet
from airflow_facefog.audit.schema import RUN, SCHEMA_VERSION, TABLES
from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.core.errors import ConfigurationError, StoreError
from airflow_facefog.core.records import DetectionRecord, ImageRecord, IntentRecord
from airflow_facefog.testing import AuditSinkContract

VALUES = {"text": "t", "json": "{}", "timestamp": "2026-01-01T00:00:00+00:00", "integer": 1, "flag": 1, "float": 0.5}


def run_row(run_key: str = "r1", **changes: object) -> dict[str, object]:
    """A final run."""
    row = {c.name: VALUES[c.type] for c in RUN.columns}
    return {**row, "run_key": run_key, "generation": 0, "status": "final", "manifest_sha256": "m1", **changes}


def image(n: int, run_key: str = "r1", **changes: object) -> ImageRecord:
    """An image row."""
    row = ImageRecord(
        run_key, 0, f"s{n}", "published", "b", "a", image_id=f"i{n}", outside_psnr=float("inf"), n_fogged=1
    )
    return replace(row, **changes)


def detection(n: int, index: int, run_key: str = "r1") -> DetectionRecord:
    """A detection row."""
    return DetectionRecord(run_key, 0, f"s{n}", f"i{n}", index, "d", "face", 0.9, 0.25, 0.5, 1.25, 2.0, 3.0, 1, None, "fogged",
                           None, "fog", "p", 0, 0, 8, 8, 1)  # fmt: skip


def intent(n: int, attempt: str = "a", run_key: str = "r1") -> IntentRecord:
    """An intent row."""
    return IntentRecord(run_key, 0, f"s{n}", f"i{n}", attempt, "b", f"data/{'x' * 600}{n}.png", "h", "t")


def rows(sink: SqlSink, statement: str) -> list[tuple[object, ...]]:
    """What a query sees."""
    with sink.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


class TestSqlSink(AuditSinkContract):
    """The SQL sink holds the contract that is offered to users' own sinks."""

    @pytest.fixture
    def read_rows(self, sink):
        """All rows of a table, as mappings."""

        def read(name: str) -> list[dict[str, object]]:
            with sink.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                return [dict(row) for row in connection.execute(sa.text(f"SELECT * FROM {name}")).mappings()]

        return read


def test_a_run_is_written_whole(sink):
    """Run, images, detections, intents and sources arrive, and the plain sums of portable SQL work on them."""
    source = {"source_ref": "s1", "source_uri": "s3://b/k", "bytes": 5, "expires_at": "2026-04-01"}
    wrote = sink.write_run(
        run_row(),
        [image(1), image(2, n_fogged=0)],
        [detection(1, 0), detection(1, 1)],
        intents=[intent(1)],
        sources=[source],
    )
    assert wrote is True
    assert rows(sink, "SELECT run_key, status FROM facefog_run") == [("r1", "final")]
    assert rows(sink, "SELECT count(*), sum(n_fogged) FROM facefog_image") == [(2, 1)]
    assert rows(sink, "SELECT x1, y1, irreversible, source FROM facefog_detection WHERE det_idx = 1") == [
        (0.5, 1.25, 1, "model")
    ]
    assert rows(sink, "SELECT count(*) FROM facefog_intent") == [(1,)]
    assert rows(sink, "SELECT source_uri FROM facefog_source") == [("s3://b/k",)]
    assert rows(sink, "SELECT outside_psnr FROM facefog_image WHERE source_ref = 's1'") == [(float("inf"),)]


def test_writing_again_changes_nothing(sink):
    """A retried finalise finds its run there: the first writer's rows stay."""
    sink.write_run(run_row(), [image(1)], [detection(1, 0)])
    assert sink.write_run(run_row(), [image(1, reason="late")], []) is False
    assert rows(sink, "SELECT reason FROM facefog_image") == [(None,)]
    assert rows(sink, "SELECT count(*) FROM facefog_detection") == [(1,)]


def test_a_failed_run_is_replaced_by_its_final_form(sink):
    """A run row left by a failed gate gives way to the final one, and never the other way round."""
    assert sink.write_run(run_row(status="failed", manifest_sha256=None), [], [])
    assert sink.write_run(run_row(), [image(1)], [])
    assert sink.write_run(run_row(status="failed", manifest_sha256=None), [], []) is False
    assert rows(sink, "SELECT status FROM facefog_run") == [("final",)]
    assert rows(sink, "SELECT count(*) FROM facefog_image") == [(1,)]


def test_an_amended_manifest_replaces_the_rows(sink):
    """After an erasure the generation is written again, with another manifest and fewer rows."""
    sink.write_run(run_row(), [image(1), image(2)], [detection(1, 0)])
    assert sink.write_run(run_row(manifest_sha256="m2", status="erased"), [image(2)], [])
    assert rows(sink, "SELECT source_ref FROM facefog_image") == [("s2",)]
    assert rows(sink, "SELECT count(*) FROM facefog_detection") == [(0,)]


def test_other_runs_and_generations_stay(sink):
    """Replacing one generation touches no other."""
    sink.write_run(run_row("r1"), [image(1)], [])
    sink.write_run(run_row("r1", generation=1), [image(1, generation=1)], [])
    sink.write_run(run_row("r2"), [image(1, "r2")], [])
    sink.write_run(run_row("r2", manifest_sha256="m2"), [image(2, "r2")], [])
    found = rows(sink, "SELECT run_key, generation, source_ref FROM facefog_image ORDER BY 1, 2")
    assert found == [("r1", 0, "s1"), ("r1", 1, "s1"), ("r2", 0, "s2")]


def test_all_or_nothing(sink):
    """A bad row in the middle leaves the database as it was."""
    sink.write_run(run_row(), [image(1)], [])
    with pytest.raises(StoreError):
        sink.write_run(run_row(manifest_sha256="m2"), [image(2), image(2)], [])
    assert rows(sink, "SELECT source_ref FROM facefog_image") == [("s1",)]
    assert rows(sink, "SELECT manifest_sha256 FROM facefog_run") == [("m1",)]


def test_wrong_rows_are_named_by_column(sink):
    """An unknown or missing column is named before the database sees it."""
    with pytest.raises(ValueError, match="no column 'crop'"):
        sink.write_run({**run_row(), "crop": 1}, [], [])
    with pytest.raises(ValueError, match=r"facefog_image\.status"):
        sink.write_run(run_row(), [image(1, status=None)], [])
    assert rows(sink, "SELECT count(*) FROM facefog_run") == [(0,)]


def test_sources_are_updated(sink):
    """A source listed again gets a new expiry, not a second row; the same one twice in a call is one row."""
    source = {"source_ref": "s1", "source_uri": "u", "bytes": 5, "expires_at": "2026-04-01"}
    sink.write_run(run_row("r1"), [], [], sources=[source, source])
    sink.write_run(run_row("r2"), [], [], sources=[{**source, "expires_at": "2026-05-01"}])
    assert rows(sink, "SELECT expires_at FROM facefog_source") == [("2026-05-01",)]


def test_many_rows_need_several_calls(sink, monkeypatch):
    """More rows than one executemany takes arrive all the same."""
    monkeypatch.setattr("airflow_facefog.audit.sql.CHUNK", 7)
    sources = [{"source_ref": f"s{n}", "source_uri": "u", "bytes": None, "expires_at": "t"} for n in range(15)]
    sink.write_run(run_row(), [image(n) for n in range(20)], [], sources=sources)
    assert rows(sink, "SELECT count(*) FROM facefog_image") == [(20,)]
    assert rows(sink, "SELECT count(*) FROM facefog_source") == [(15,)]


def test_columns_and_rows_are_written_alike(sink, monkeypatch):
    """Arrow tables, plain or compact, arrive in chunks and look as the same rows do; a bad one leaves nothing."""
    monkeypatch.setattr("airflow_facefog.audit.sql.CHUNK", 3)
    source = {"source_ref": "s1", "source_uri": "u", "bytes": 5, "expires_at": "t"}
    sources = to_arrow("facefog_source", [source, {**source, "expires_at": "later"}])

    def tables(run_key: str):
        images = to_arrow("facefog_image", [image(n, run_key) for n in range(7)])
        found = [detection(n, 0, run_key) for n in range(7)]
        return images, join_compact([read_compact("facefog_detection", to_parquet("facefog_detection", found))])

    assert sink.write_run(run_row("r1"), [image(n) for n in range(7)], [detection(n, 0) for n in range(7)])
    assert sink.write_run(run_row("r2"), *tables("r2"), intents=to_arrow("facefog_intent", []), sources=sources)
    for name in ("image", "detection"):
        columns = ", ".join(c.name for c in TABLES[f"facefog_{name}"].columns if c.name != "run_key")
        select = f"SELECT {columns} FROM facefog_{name} WHERE run_key = '{{}}' ORDER BY source_ref"
        assert len(rows(sink, select.format("r1"))) == 7
        assert rows(sink, select.format("r1")) == rows(sink, select.format("r2"))
    assert rows(sink, "SELECT expires_at FROM facefog_source") == [("later",)]
    with pytest.raises(ValueError, match="has the columns"):
        sink.write_run(run_row("r3"), tables("r3")[0].drop_columns("status"), [])
    assert rows(sink, "SELECT count(*) FROM facefog_run") == [(2,)]


def test_tables_are_made_once(sink):
    """Creating the tables again, by this sink or by another one on the same engine, changes nothing."""
    sink.create_tables()
    sink.create_tables()
    again = SqlSink(sink.engine)
    assert again.write_run(run_row(), [image(1)], [])
    assert rows(sink, "SELECT version FROM facefog_schema") == [(SCHEMA_VERSION,)]


def test_another_schema_version_is_refused(sink):
    """A database of another release is not written into."""
    sink.create_tables()
    with sink.engine.begin() as connection:
        connection.execute(sa.text("UPDATE facefog_schema SET version = 99"))
    with pytest.raises(ConfigurationError, match="version 99"):
        SqlSink(sink.engine).create_tables()


WRITER = """
import sys
from airflow_facefog.audit.schema import RUN
from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.core.records import ImageRecord
url, name = sys.argv[1:]
values = {"text": "t", "json": "{}", "timestamp": "t", "integer": 1, "flag": 1, "float": 0.5}
sink = SqlSink(url)
for n in range(15):
    key = f"{name}-{n}"
    row = {c.name: values[c.type] for c in RUN.columns} | {"run_key": key, "generation": 0, "status": "final"}
    sink.write_run(row, [ImageRecord(key, 0, f"s{i}", "published", "b", "a") for i in range(40)], [])
"""


def test_four_writing_processes_lose_nothing(sink):
    """Processes that write at once, into a database that none of them has made yet, all succeed."""
    url = sink.engine.url.render_as_string(hide_password=False)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, url, f"w{n}"], stderr=subprocess.PIPE) for n in range(4)]
    errors = [writer.communicate()[1].decode() for writer in writers]
    assert [(writer.returncode, error) for writer, error in zip(writers, errors, strict=True)] == [(0, "")] * 4
    assert rows(sink, "SELECT count(*) FROM facefog_run") == [(60,)]
    assert rows(sink, "SELECT count(*) FROM facefog_image") == [(2400,)]


def test_sqlite_takes_the_write_lock_at_begin(tmp_path):
    """WAL and BEGIN IMMEDIATE: a second writer waits at the start instead of failing in the middle."""
    sink = SqlSink(f"sqlite:///{tmp_path / 'a.db'}")
    sink.create_tables()
    assert rows(sink, "PRAGMA journal_mode") == [("wal",)]
    assert rows(sink, "PRAGMA busy_timeout") == [(60000,)]
    with sink.engine.begin(), sink.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        assert other.execute(sa.text("SELECT count(*) FROM facefog_run")).scalar() == 0
        other.execute(sa.text("PRAGMA busy_timeout=1"))
        with pytest.raises(sa.exc.OperationalError, match="locked"):
            other.execute(sa.text("BEGIN IMMEDIATE"))


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("postgresql+psycopg://anna:hunter22@127.0.0.1:1/audit", StoreError),
        ("nosuchdb://anna:hunter22@127.0.0.1/audit", ConfigurationError),
        ("hunter22 is not a url", ConfigurationError),
        ("sqlite:////nosuchfolder-hunter22/audit.db", StoreError),
    ],
)
def test_errors_tell_no_secret(url, error):
    """Unreachable or wrong databases are told without URL, user or password."""
    with pytest.raises(error) as caught:
        SqlSink(url).create_tables()
    assert "hunter22" not in str(caught.value) + repr(caught.value.__cause__)
    assert caught.value.__suppress_context__


def test_repr_tells_no_secret():
    """The sink prints its dialect only."""
    assert repr(SqlSink("sqlite:////secret.db")) == "SqlSink(sqlite)"
