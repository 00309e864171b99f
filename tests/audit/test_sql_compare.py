"""SQL = Parquet: each way in which they can differ is found and named."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlkit import detection, execute, ledger, new_audit, run_row, seal_run

from airflow_facefog.audit import sql_compare
from airflow_facefog.audit.parquet import to_arrow
from airflow_facefog.audit.schema import DETECTION
from airflow_facefog.audit.sql_compare import compare, differences
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.job.record.load_audit import load


@pytest.fixture
def audit(tmp_path):
    """Two sealed runs."""
    found = new_audit(tmp_path / "audit")
    seal_run(found, "r1", 30)
    seal_run(found, "r2", 4)
    return found


@pytest.fixture
def full(audit, sink):
    """A database that holds all of them."""
    load(audit, ledger(audit), sink)
    return sink


def test_an_equal_database_has_no_difference(audit, full, monkeypatch):
    """Also when both sides are read in small pieces, in other orders."""
    assert differences(audit, ledger(audit), full) == []
    monkeypatch.setattr(sql_compare, "ROWS", 3)
    assert differences(audit, ledger(audit), full) == []


S7 = "run_key = 'r1' AND source_ref = 's7'"


@pytest.mark.parametrize(
    ("statement", "table", "detail"),
    [
        (f"DELETE FROM facefog_image WHERE {S7}", "facefog_image",
         "30 rows in the audit, 29 in SQL; first: source_ref=s7: only in the audit"),
        (f"DELETE FROM facefog_detection WHERE {S7} AND det_idx = 1", "facefog_detection",
         "60 rows in the audit, 59 in SQL; first: source_ref=s7, det_idx=1: only in the audit"),
        (f"UPDATE facefog_detection SET confidence = 0.3 WHERE {S7}", "facefog_detection",
         "60 rows in the audit, 60 in SQL; first: source_ref=s7, det_idx=0: another confidence"),
        (f"UPDATE facefog_image SET encode_mode = NULL WHERE {S7}", "facefog_image",
         "30 rows in the audit, 30 in SQL; first: source_ref=s7: another encode_mode"),
        (f"UPDATE facefog_image SET reason = '' WHERE {S7}", "facefog_image",
         "30 rows in the audit, 30 in SQL; first: source_ref=s7: another reason"),
        (f"UPDATE facefog_image SET source_ref = 's99' WHERE {S7}", "facefog_image",
         "30 rows in the audit, 30 in SQL; first: source_ref=s7: only in the audit"),
        (f"UPDATE facefog_intent SET output_sha256 = 'x' WHERE {S7}", "facefog_intent",
         "30 rows in the audit, 30 in SQL; first: source_ref=s7, attempt_id=a: another output_sha256"),
        ("UPDATE facefog_run SET published = published + 1 WHERE run_key = 'r1'", "facefog_run",
         "1 rows in the audit, 1 in SQL; first: this row: another published"),
        ("UPDATE facefog_run SET policy_json = '{ }' WHERE run_key = 'r1'", "facefog_run",
         "1 rows in the audit, 1 in SQL; first: this row: another policy_json"),
        ("INSERT INTO facefog_erasure (request_id, run_key, generation, part, reason, rows_removed, old_sha256, seq, at) "
         "VALUES ('q', 'r1', 0, 'image', 'erasure', 1, 'o', 9, 't')", "facefog_erasure",
         "0 rows in the audit, 1 in SQL; first: request_id=q, part=image, seq=9: only in SQL"),
    ],
)  # fmt: skip
def test_a_change_is_named_by_run_table_and_key(audit, full, statement, table, detail):
    """A dropped row, a changed value in its last digit, NULL for an empty text: found, and without any object's name."""
    execute(full, statement)
    (found,) = differences(audit, ledger(audit), full)
    assert (found.run_key, found.generation, found.table, found.detail) == ("r1", 0, table, detail)


def test_missing_extra_and_orphaned_runs_are_named(audit, full):
    """A run that SQL does not have, one that only SQL has, and rows that belong to none."""
    execute(full, "DELETE FROM facefog_run WHERE run_key = 'r2'")
    full.write_run(run_row("made-up"), [], [])
    full.write_run(run_row("unfinished", status="failed"), [], [])
    found = [(one.run_key, one.table, one.detail.split("; ")[0]) for one in differences(audit, ledger(audit), full)]
    assert found == [
        ("r2", "facefog_run", "the run is missing in SQL"),
        ("made-up", "facefog_run", "SQL has the run as 'final'"),
        ("r2", "facefog_image", "4 rows without a run row in SQL"),
        ("r2", "facefog_detection", "8 rows without a run row in SQL"),
        ("r2", "facefog_intent", "4 rows without a run row in SQL"),
    ]


def test_a_failed_run_is_no_place_for_rows(audit, full):
    """Rows beside a failed run's row would be in every report and in no part: images, detections and erasures are named."""
    full.write_run(run_row("refused", status="failed"), [], [])
    assert differences(audit, ledger(audit), full) == []
    for table in ("facefog_image", "facefog_detection"):
        execute(full, f"UPDATE {table} SET run_key = 'refused' WHERE run_key = 'r1' AND source_ref = 's7'")
    execute(full, "INSERT INTO facefog_erasure (request_id, run_key, generation, part, reason, rows_removed, old_sha256, seq, "
                  "at) VALUES ('q', 'refused', 0, 'image', 'erasure', 1, 'x', 1, 'now')")  # fmt: skip
    found = {(one.run_key, one.table): one.detail for one in differences(audit, ledger(audit), full)}
    assert found[("refused", "facefog_image")] == "1 rows of a run that was never sealed"
    assert {table for run, table in found if run == "refused"} == {
        "facefog_image",
        "facefog_detection",
        "facefog_erasure",
    }
    assert {table for run, table in found if run == "r1"} == {"facefog_image", "facefog_detection"}


@pytest.mark.parametrize(("column", "value"), [("x1", "'many'"), ("n_members", "1.5"), ("class_name", "x'ff'")])
def test_a_value_of_another_type_is_named_by_its_column(audit, tmp_path, column, value):
    """SQLite lets a text stand in a column of numbers, and a fraction in one of whole ones."""
    from airflow_facefog.audit.sql import SqlSink

    sink = SqlSink(f"sqlite:///{tmp_path / 'typed.db'}")
    load(audit, ledger(audit), sink)
    execute(sink, f"UPDATE facefog_detection SET {column} = {value} WHERE {S7}")
    (found,) = differences(audit, ledger(audit), sink)
    assert found.detail == f"SQL holds a value of another type in column {column}"
    sink.close()


def test_an_empty_database_lacks_every_run_and_is_not_changed(audit, sink):
    """Comparing makes no tables; a database of another version is refused."""
    sink.engine.connect().close()
    assert [one.run_key for one in differences(audit, ledger(audit), sink)] == ["r1", "r2"]
    assert differences(audit, ledger(new_audit(audit.root / "none")), sink) == []
    sink.migrate()
    execute(sink, "UPDATE facefog_schema SET version = 1")
    with pytest.raises(ConfigurationError, match="facefog audit migrate"):
        differences(audit, ledger(audit), sink)


def pieces(found):
    """Rows as one side of a comparison."""
    return lambda: iter([to_arrow("facefog_detection", found)])


ROW = st.builds(
    lambda n, index, **changes: detection(n, index, **changes),
    st.integers(0, 5),
    st.integers(0, 3),
    class_name=st.text(alphabet="a\x1f1é", max_size=4),
    confidence=st.floats(allow_nan=False),
    reason=st.none() | st.text(alphabet="a\x1f1é", max_size=4),
    fx1=st.none() | st.integers(-(2**63), 2**63 - 1),
)
ROWS = st.lists(ROW, max_size=6, unique_by=lambda row: (row["source_ref"], row["det_idx"]))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ROWS, ROWS, st.randoms(use_true_random=False))
def test_equal_means_the_same_rows_in_any_order(one, other, random):
    """Two sides are equal exactly when their rows are, whatever separators, NULLs and floats they hold."""
    shuffled = random.sample(one, len(one))
    assert compare(DETECTION, pieces(one), pieces(shuffled)) is None
    order = lambda rows: sorted(rows, key=lambda row: (row["source_ref"], row["det_idx"]))  # noqa: E731
    assert (compare(DETECTION, pieces(one), pieces(other)) is None) == (order(one) == order(other))


def test_a_doubled_row_is_a_difference():
    """A table without its key could hold one twice."""
    row = detection(1, 0)
    assert (
        compare(DETECTION, pieces([row]), pieces([row, row])) == "1 rows in the audit, 2 in SQL; a row is there twice"
    )


def test_only_some_rows_are_looked_at_again(monkeypatch):
    """When everything differs, no more rows are held than a piece has; one of them is named."""
    monkeypatch.setattr(sql_compare, "ROWS", 100)
    held = []
    rows_in = sql_compare._rows_in
    monkeypatch.setattr(sql_compare, "_rows_in", lambda *a: (held.append(row) or row for row in rows_in(*a)))
    many = [detection(n, 0) for n in range(5000)]
    found = compare(DETECTION, pieces(many), pieces([{**row, "x1": 7.0} for row in many]))
    assert found is not None
    assert found.endswith("another x1")
    assert 0 < len(held) < 1000
