"""Parquet → SQL: every sealed run, as it is now, once; by COPY on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlkit import (
    amend,
    detection,
    execute,
    image,
    intent,
    ledger,
    new_audit,
    rows,
    run_row,
    seal_rows,
    seal_run,
    source,
)

from airflow_facefog.audit.schema import DETECTION, IMAGE, INTENT, RUN
from airflow_facefog.audit.sealed import LedgerError
from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.audit.sql_compare import differences
from airflow_facefog.core.errors import ConfigurationError, StoreError
from airflow_facefog.job.model import Place
from airflow_facefog.job.record.load_audit import load, load_audit


@pytest.fixture
def audit(tmp_path):
    """An empty audit."""
    return new_audit(tmp_path / "audit")


def counts(sink):
    """Rows by table."""
    return {
        table.name: rows(sink, f"SELECT count(*) FROM {table.name}")[0][0] for table in (RUN, IMAGE, DETECTION, INTENT)
    }


def test_every_sealed_run_is_loaded_once(audit, sink):
    """All values arrive exactly: NULL and empty text, quotes, line ends, other planes, tiny, negative zero, infinite."""
    seal_run(audit, "r1", 3)
    seal_run(audit, "r2", 2)
    done = load(audit, ledger(audit), sink)
    assert (done.loaded, done.present, done.images, done.detections) == (2, 0, 5, 10)
    assert counts(sink) == {"facefog_run": 2, "facefog_image": 5, "facefog_detection": 10, "facefog_intent": 5}
    assert rows(sink, "SELECT encode_mode, format, reason, outside_psnr FROM facefog_image LIMIT 1") == [
        ("", 'a "b", c\nd', None, float("inf"))
    ]
    found = rows(sink, "SELECT class_name, confidence, threshold, x1, fy2 FROM facefog_detection LIMIT 1")
    assert found == [("Gesichtß 🙂", 0.1 + 0.2, 1e-310, 0.0, 2**62)]
    assert rows(sink, "SELECT manifest_uri FROM facefog_run WHERE run_key = 'r1'") == [
        (audit.uri("runs/r1/0/manifest.json"),)
    ]
    again = load(audit, ledger(audit), sink)
    assert (again.loaded, again.present) == (0, 2)


def test_an_empty_audit_loads_nothing(audit, sink):
    """No run is no error, and the tables are there to be asked."""
    assert load(audit, ledger(audit), sink).loaded == 0
    assert counts(sink)["facefog_run"] == 0


def test_runs_can_be_chosen(audit, sink):
    """By run key and by the time of listing; an unknown key or moment is told."""
    seal_run(audit, "r1", 1, listed_at="2026-01-01T00:00:00+00:00")
    seal_run(audit, "r2", 1, listed_at="2026-02-01T00:00:00+00:00")
    assert load(audit, ledger(audit), sink, since="2026-01-15").loaded == 1
    assert rows(sink, "SELECT run_key FROM facefog_run") == [("r2",)]
    assert load(audit, ledger(audit), sink, runs=["r1"]).loaded == 1
    with pytest.raises(ConfigurationError, match="no sealed run"):
        load(audit, ledger(audit), sink, runs=["r1'; DROP TABLE facefog_run; --"])
    with pytest.raises(ConfigurationError, match="no moment"):
        load(audit, ledger(audit), sink, since="yesterday")


def test_rows_that_were_erased_disappear_and_stay_away(audit, sink):
    """An erasure takes rows and source names out of SQL, leaves its trace, and a late retry cannot bring them back."""
    seal_run(audit, "r1", 3, sources=[source(n) for n in range(3)])
    load(audit, ledger(audit), sink)
    before = ledger(audit)
    left = {"image": [image(n) for n in (0, 2)], "detection": [detection(n, k) for n in (0, 2) for k in (0, 1)]}
    amend(audit, "r1", "e" * 32, {**left, "intent": [intent(n) for n in (0, 2)]})
    audit.replace("sources/r1/0.parquet", _sources(0, 2))
    assert load(audit, ledger(audit), sink).loaded == 1
    assert rows(sink, "SELECT source_ref FROM facefog_image ORDER BY 1") == [("s0",), ("s2",)]
    assert rows(sink, "SELECT count(*) FROM facefog_detection WHERE image_id = 'i1'") == [(0,)]
    assert rows(sink, "SELECT source_ref FROM facefog_source ORDER BY 1") == [("s0",), ("s2",)]
    assert rows(sink, "SELECT part, rows_removed FROM facefog_erasure ORDER BY 1") == [
        ("detection", 2), ("image", 1), ("intent", 1),
    ]  # fmt: skip
    stale = run_row("r1", manifest_sha256=before.runs[0].manifest_sha256)
    assert sink.write_run(stale, [image(n) for n in range(3)], []) is False
    assert load(audit, ledger(audit), sink).loaded == 0
    assert differences(audit, ledger(audit), sink) == []


@pytest.mark.parametrize("between", [True, False])
def test_a_request_that_changes_a_run_twice_is_loaded_twice(audit, sink, between):
    """The same request finds more of a run later: those rows go too, whether SQL saw the first change or not."""
    seal_run(audit, "r1", 3)
    load(audit, ledger(audit), sink)
    amend(audit, "r1", "e" * 32, {"image": [image(n) for n in (1, 2)]})
    if between:
        load(audit, ledger(audit), sink)
    amend(audit, "r1", "e" * 32, {"image": [image(2)]})
    assert load(audit, ledger(audit), sink).loaded == 1
    assert rows(sink, "SELECT source_ref FROM facefog_image") == [("s2",)]
    assert rows(sink, "SELECT rows_removed, seq FROM facefog_erasure ORDER BY 2") == [(1, 2), (1, 3)]
    assert differences(audit, ledger(audit), sink) == []


def _sources(*numbers):
    from airflow_facefog.audit.parquet import to_parquet

    return to_parquet("facefog_source", [source(n) for n in numbers])


def test_a_part_that_expired_is_empty_in_sql(audit, sink):
    """Detections past their retention go; images and the run stay."""
    seal_run(audit, "r1", 3)
    load(audit, ledger(audit), sink)
    amend(audit, "r1", "d" * 32, {"detection": None})
    assert load(audit, ledger(audit), sink).loaded == 1
    assert counts(sink) == {"facefog_run": 1, "facefog_image": 3, "facefog_detection": 0, "facefog_intent": 3}


def test_sources_are_kept_until_they_expire(audit, sink):
    """Names past their day are not loaded, and those in the database go."""
    seal_run(audit, "r1", 2, sources=[source(0), source(1, "2020-01-01T00:00:00+00:00")])
    sink.write_run(run_row("other"), [], [], sources=[source(7, "2020-01-01T00:00:00+00:00")])
    load(audit, ledger(audit), sink)
    assert rows(sink, "SELECT source_ref FROM facefog_source") == [("s0",)]


def test_failed_runs_and_what_left_are_loaded_too(audit, sink):
    """The record of a gate that closed, and of pictures sent away, belongs into the same tables."""
    from airflow_facefog.audit.parquet import to_parquet
    from airflow_facefog.audit.schema import EGRESS

    values = {"text": "t", "integer": 1, "timestamp": "t"}
    sent = {c.name: values[c.type] for c in EGRESS.columns}
    audit.create("runs/bad/0/run.parquet", to_parquet("facefog_run", [run_row("bad", status="failed")]))
    audit.create("egress/r1/a/0.parquet", to_parquet("facefog_egress", [sent]))
    for _ in range(2):
        load(audit, ledger(audit), sink)
        assert rows(sink, "SELECT run_key, status FROM facefog_run") == [("bad", "failed")]
        assert rows(sink, "SELECT host FROM facefog_egress") == [("t",)]


def test_what_somebody_changed_is_repaired_on_request(audit, sink):
    """A run that is there stays as it is, unless it is asked for anew."""
    seal_run(audit, "r1", 3)
    load(audit, ledger(audit), sink)
    execute(sink, "DELETE FROM facefog_detection", "UPDATE facefog_image SET status = 'failed'")
    assert load(audit, ledger(audit), sink).loaded == 0
    assert len(differences(audit, ledger(audit), sink)) == 2
    assert load(audit, ledger(audit), sink, replace=True).loaded == 1
    assert differences(audit, ledger(audit), sink) == []


def test_an_audit_that_does_not_exist_is_no_empty_one(sink, tmp_path):
    """A mistyped folder is told; a folder without runs is fine."""
    with pytest.raises(ConfigurationError, match="no audit at that place"):
        load_audit(Place.parse(tmp_path / "typo"), sink)
    (tmp_path / "new").mkdir()
    assert load_audit(Place.parse(tmp_path / "new"), sink).loaded == 0


def test_a_damaged_part_leaves_nothing_of_its_run(audit, sink):
    """The load stops at the part and names it; runs before it are whole."""
    seal_run(audit, "r1", 2)
    seal_run(audit, "r2", 2)
    audit.replace("runs/r2/0/detection.parquet", b"PAR1")
    with pytest.raises(LedgerError, match=r"runs/r2/0/detection\.parquet"):
        load(audit, ledger(audit), sink)
    assert counts(sink) == {"facefog_run": 1, "facefog_image": 2, "facefog_detection": 4, "facefog_intent": 2}


LOADER = """
import sys
from upath import UPath
from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.job.record.load_audit import load, load_audit
from airflow_facefog.job.model import Place
from airflow_facefog.publish.store import Store
audit = Store(UPath(sys.argv[1]))
print(load(audit, open_ledger(audit), SqlSink(sys.argv[2])).loaded)
"""


def test_two_loaders_at_once_load_each_run_once(audit, sink, tmp_path):
    """Into a database that neither has made: together they wrote every run once, sources that both list included."""
    for n in range(6):
        seal_run(audit, f"r{n}", 20, sources=[source(k) for k in range(20)])
    url = sink.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", LOADER, str(tmp_path / "audit"), url]
    loaders = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [loader.communicate() for loader in loaders]
    assert sum(int(out) for out, _ in said) == 6, said
    assert counts(sink) == {"facefog_run": 6, "facefog_image": 120, "facefog_detection": 240, "facefog_intent": 120}
    assert differences(audit, ledger(audit), sink) == []


def test_a_connection_that_drops_in_the_middle_leaves_nothing(audit, pg_url):
    """The server ends the session between two pieces of the COPY: a retryable error, no row, and the retry loads all."""
    sink, other = SqlSink(pg_url), sa.create_engine(pg_url, isolation_level="AUTOCOMMIT")

    def cut():
        yield _table(IMAGE, [image(n) for n in range(50)])
        with other.connect() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE 'COPY%%'"
            )
        yield _table(IMAGE, [image(n) for n in range(50, 100)])

    with pytest.raises(StoreError, match="retry"):
        sink.write_run(run_row(), cut(), [])
    assert counts(sink) == {"facefog_run": 0, "facefog_image": 0, "facefog_detection": 0, "facefog_intent": 0}
    assert sink.write_run(run_row(), [image(n) for n in range(100)], [])
    assert counts(sink)["facefog_image"] == 100
    other.dispose()
    sink.close()


def _table(table, found):
    from airflow_facefog.audit.parquet import to_arrow

    return to_arrow(table.name, found)


def test_a_nul_character_is_told_by_column_and_nothing_is_written(audit, pg_url):
    """PostgreSQL cannot hold one; the error says which column and what to do, never the text."""
    seal_rows(audit, "r1", {"image": [image(1)], "detection": [detection(1, 0, class_name="se\0cret")], "intent": []})
    sink = SqlSink(pg_url)
    with pytest.raises(ConfigurationError, match=r"facefog_detection\.class_name: .*NUL") as caught:
        load(audit, ledger(audit), sink)
    assert "cret" not in str(caught.value)
    assert counts(sink)["facefog_run"] == 0
    sink.close()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_both_drivers_of_postgresql_copy(audit, pg_url, driver, monkeypatch):
    """psycopg 3 and 2 give equal rows, in pieces, and no row passes through executemany."""
    monkeypatch.setattr("airflow_facefog.audit.sql_copy.ROWS", 7)
    monkeypatch.setattr("airflow_facefog.audit.sql.dicts", lambda *a: pytest.fail("executemany"))
    seal_run(audit, "r1", 25, sources=[source(n) for n in range(25)])
    sink = SqlSink(pg_url.replace("+psycopg", f"+{driver}"))
    assert load(audit, ledger(audit), sink).loaded == 1
    assert differences(audit, ledger(audit), sink) == []
    assert rows(sink, "SELECT count(*) FROM facefog_source") == [(25,)]
    sink.close()


@pytest.mark.parametrize(
    "hostile",
    ["'; DROP TABLE facefog_run; --", '"; DELETE FROM facefog_image; --', "%s %(x)s :x $1 {0}", "\\N", "\\.", "''"],
)
def test_text_is_data_never_a_statement(audit, sink, hostile):
    """SQL in names, and what CSV or COPY would read as NULL or as the end, arrive as the text that they are."""
    key = "r" + hostile.replace("\\", "")
    seal_rows(audit, key, {"image": [image(1, key, reason=hostile)], "detection": [], "intent": [intent(1, key)]})
    load(audit, ledger(audit), sink)
    assert rows(sink, "SELECT run_key, reason FROM facefog_image") == [(key, hostile)]
    assert rows(sink, "SELECT count(*) FROM facefog_run WHERE run_key = :key", key=key) == [(1,)]
    assert differences(audit, ledger(audit), sink) == []


def test_an_integer_beyond_64_bits_is_refused_by_column(sink):
    """Before the database sees it."""
    with pytest.raises(ValueError, match=r"facefog_image\.output_bytes"):
        sink.write_run(run_row(), [image(1, output_bytes=2**63)], [])
    assert sink.write_run(run_row(), [image(1, output_bytes=2**63 - 1)], [])
    assert rows(sink, "SELECT output_bytes FROM facefog_image") == [(2**63 - 1,)]


def test_a_missing_sqlite_file_is_not_made_by_reading(tmp_path):
    """Comparing with a mistyped path says so and leaves no empty database behind."""
    sink = SqlSink(f"sqlite:///{tmp_path / 'typo.db'}")
    with pytest.raises(ConfigurationError, match="no SQLite database"), sink.reading():
        pass
    assert list(Path(tmp_path).glob("typo*")) == []
