"""Asking in SQL: only reading, only the audit, one statement, values bound, short errors; remote and damaged audits."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import askkit
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from airflow_facefog.audit import answer, statement
from airflow_facefog.audit.duck import open_duck
from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.audit.parquet import arrow_schema
from airflow_facefog.audit.query import Engine, open_sql
from airflow_facefog.audit.reports import REPORTS, report_named, run_report, utc
from airflow_facefog.audit.schema import TABLES
from airflow_facefog.audit.sealed import LedgerError
from airflow_facefog.audit.views import VIEWS
from airflow_facefog.core.errors import ConfigurationError, StoreError
from airflow_facefog.publish.store import Store

ENGINES = ("duckdb", "sqlite", "postgresql")

WRITES = [
    "insert into facefog_run select * from facefog_run", "delete from facefog_image", "drop table facefog_run",
    "create table x (a int)", "update facefog_run set status = 'final'", "copy facefog_run to '/tmp/facefog-x.csv'",
    "attach '/tmp/facefog-x.db' as y", "install httpfs", "load httpfs", "pragma database_list", "set threads = 1",
    "export database '/tmp/facefog-x'", "vacuum", "begin", "explain analyze delete from facefog_run",
    "select 1; drop table facefog_run", "select 1; select 2", "/* x */ delete from facefog_run", "", " ; ", "-- nothing",
    "with x as (select 1) insert into facefog_run select * from facefog_run",
    "with x as (select 1) delete from facefog_image", "call x()", "(delete from facefog_run)",
]  # fmt: skip

REACHES = [
    "select * from read_csv('/etc/passwd')", "select * from read_text('/etc/passwd')", "select * from '/etc/passwd'",
    "select * from read_parquet('s3://bucket/x.parquet')", "select * from glob('/etc/*')",
    "select * from read_parquet('/etc/*.parquet')", "select * from 'https://example.org/x.csv'",
    "from query('create table x (a int)')", "select * from sqlite_scan('/tmp/x', 'y')", "select getenv('HOME')",
    "select load_extension('/tmp/x.so')", "select writefile('/tmp/facefog-x', 'x')", "select * from engines",
    "select set_config('transaction_read_only', 'off', false)",
    "select nextval('x')", "select * from duckdb_secrets()",
]  # fmt: skip


def ask(engine: Engine, sql: str, **params: Any) -> list[tuple[Any, ...]]:
    """Rows."""
    return engine.ask(sql, params).rows


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("sql", WRITES)
def test_nothing_is_written(engines: Mapping[str, Engine], name: str, sql: str) -> None:
    """Whatever does more than read, or is more than one statement, is a usage error, and the audit is as it was."""
    before = ask(engines[name], "select count(*) from facefog_run")
    with pytest.raises(ConfigurationError):
        ask(engines[name], sql)
    assert ask(engines[name], "select count(*) from facefog_run") == before


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("sql", REACHES)
def test_nothing_else_is_read(engines: Mapping[str, Engine], name: str, sql: str) -> None:
    """Files, the network, extensions and Python's variables are out of reach; the error quotes no path."""
    with pytest.raises(ConfigurationError) as caught:
        ask(engines[name], sql)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ENGINES)
def test_values_are_bound(engines: Mapping[str, Engine], name: str) -> None:
    """A value that looks like SQL is a value; text and comments that look like parameters are not."""
    evil = "x' or '1'='1"
    assert ask(engines[name], "select count(*) from facefog_run where run_key = :key", key=evil) == [(0,)]
    assert ask(engines[name], "select ':key' as a, '100%' as b /* :no */ -- :neither", key=evil) == [(":key", "100%")]
    key = askkit.run_key("first")
    rows = ask(engines[name], "select '50%', run_id from facefog_run where run_key = :key;", key=key)
    assert rows == [("50%", "run first")]
    with pytest.raises(ConfigurationError, match=":missing"):
        ask(engines[name], "select :missing")


@pytest.mark.parametrize("name", ENGINES)
def test_errors_are_short(engines: Mapping[str, Engine], name: str) -> None:
    """A wrong column or syntax is one line for the user."""
    for sql in ("select nope from facefog_run", "select * from (", "select * from nope"):
        with pytest.raises(ConfigurationError) as caught:
            ask(engines[name], sql)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ENGINES)
def test_a_question_that_takes_too_long_is_stopped(
    planted: Store, engines: Mapping[str, Engine], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine answers again afterwards."""
    engine: Any = engines[name]
    field = "_timeout_ms" if name == "postgresql" else "_timeout_s"
    monkeypatch.setattr(engine, field, 200 if name == "postgresql" else 0.2)
    with pytest.raises(ConfigurationError, match="longer than"):
        ask(
            engine,
            "select count(*) from facefog_detection a, facefog_detection b, facefog_detection c"
            " where a.x1 + b.x1 + c.x1 < 0",
        )
    assert ask(engine, "select 1") == [(1,)]


@given(
    st.lists(
        st.sampled_from(["select 1", "'a;b'", '"c;d"', "-- e;f\n", "/* g;h */", ";", " ", "drop x", ":n", "'"])
    ).map("".join)
)
@settings(max_examples=50, deadline=None)
def test_a_second_statement_never_hides(text: str) -> None:
    """What passes as one statement is one for DuckDB's own parser, or no SQL at all."""
    import duckdb

    try:
        sql, _ = statement.bind(statement.one_statement(text), {"n": 1}, statement.DUCKDB)
    except ConfigurationError:
        return
    try:
        assert len(duckdb.extract_statements(sql)) == 1
    except duckdb.Error:
        return


def test_settings_are_closed(engines: Mapping[str, Engine]) -> None:
    """No bar on standard output, no spilling to disk, no access to files, and none of it can be changed."""
    names = ("enable_progress_bar", "temp_directory", "enable_external_access", "lock_configuration")
    sql = "select " + ", ".join(f"current_setting('{name}')" for name in names)
    assert ask(engines["duckdb"], sql) == [(False, "", False, True)]


def test_columns_of_one_name_are_told_apart(engines: Mapping[str, Engine]) -> None:
    """A join's second run_key becomes run_key_2."""
    found = engines["duckdb"].ask("select a.run_key, b.run_key from facefog_run a cross join facefog_run b limit 1")
    assert found.columns == ("run_key", "run_key_2")


def test_answers_are_written_the_same(engines: Mapping[str, Engine], tmp_path: Path) -> None:
    """CSV and Parquet hold every row, also beyond one chunk; JSON has no NaN."""
    import io

    sql = "select image_id, det_idx, confidence, polygon, cast(null as varchar) as none from facefog_detection"
    total = ask(engines["sqlite"], "select count(*) from facefog_detection")[0][0]
    three = "select 1 as b union all select 2 union all select 3"
    cross = f"select a.det_idx, 0.5 as half from facefog_detection a cross join ({three}) b"
    for name in ENGINES:
        assert answer.write_parquet(engines[name].stream(sql), str(tmp_path / "x.parquet")) == total
        assert pq.read_table(tmp_path / "x.parquet").column_names == [
            "image_id",
            "det_idx",
            "confidence",
            "polygon",
            "none",
        ]
        out = io.StringIO()
        assert answer.write_csv(engines[name].stream(cross), out) == 3 * total == out.getvalue().count("\n") - 1
    out = io.StringIO()
    answer.write_json(engines["duckdb"].stream("select cast('nan' as double) as x"), out)
    assert '"rows": [{"x": null}]' in out.getvalue()


# ------------------------------------------------------------------ reports


GIVEN: dict[str, dict[str, Any]] = {
    "image-history": {"image": askkit.digest("image first 0001")},
    "decisions": {"image": askkit.digest("ref first 0001")},
    "retention-due": {"at": "3000-01-01"},
}


@pytest.mark.parametrize("name", sorted(REPORTS))
def test_a_report_says_the_same_everywhere(engines: Mapping[str, Engine], name: str) -> None:
    """Same columns, rows and order; filtered by since, until and a value where it takes them."""
    from test_views import agree

    report = report_named(name)
    names = {param.name for param in report.params}
    given = dict(GIVEN.get(name, {}))
    for values in (
        given,
        given | {k: v for k, v in (("since", "2026-05-02"), ("until", "2026-05-08T01:30:00")) if k in names},
    ):
        answers = [run_report(engines[engine], report, values).answer() for engine in ENGINES]
        assert answers[0].columns == answers[1].columns == answers[2].columns
        if name not in (
            "zero-detections",
            "methods",
            "refusals",
            "recipes",
            "detector-stats",
        ):  # ties: no order is promised
            assert agree([found.rows for found in answers])
        else:
            assert agree([sorted(found.rows, key=str) for found in answers])


def test_since_and_until_cut(engines: Mapping[str, Engine]) -> None:
    """Days are whole, times are moved to UTC, until is not included."""
    day = lambda **given: [  # noqa: E731
        row[0] for row in run_report(engines["sqlite"], report_named("published-by-day"), given).answer().rows
    ]
    assert day(since="2026-05-03", until="2026-05-05") == ["2026-05-03", "2026-05-04"]
    runs = run_report(
        engines["duckdb"],
        report_named("run-summary"),
        {"since": "2026-05-03T02:00:00+02:00", "until": "2026-05-03T01:00:00.5"},
    )
    assert [row["run_id"] for row in runs.answer().dicts()] == []
    runs = run_report(
        engines["duckdb"],
        report_named("run-summary"),
        {"since": "2026-05-03T02:00:00+02:00", "until": "2026-05-03T01:00:01"},
    )
    assert [row["run_id"] for row in runs.answer().dicts()] == ["run third"]


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("leaks", {"nope": "1"}, "no parameter 'nope'"),
        ("leaks", {"since": "yesterday"}, "not a time"),
        ("near-threshold", {"limit": "many"}, "not a integer"),
        ("image-history", {}, "needs image"),
        ("near-threshold", {"within": "x"}, "not a number"),
    ],
)
def test_wrong_parameters_are_refused(
    engines: Mapping[str, Engine], name: str, given: dict[str, Any], words: str
) -> None:
    """Before anything is asked, with what is valid."""
    with pytest.raises(ConfigurationError, match=words):
        run_report(engines["duckdb"], report_named(name), given)
    with pytest.raises(ConfigurationError, match="published-by-day"):
        report_named("nope")


@given(st.datetimes(timezones=st.timezones()), st.datetimes(timezones=st.timezones()))
@settings(max_examples=50, deadline=None)
def test_times_sort_as_text(one: Any, other: Any) -> None:
    """Whatever their zones, the texts of two times have the order of the times, to the second."""
    from datetime import UTC

    if one.year < 2 or other.year < 2 or max(one.year, other.year) > 9998:
        return
    seconds = [when.astimezone(UTC).replace(microsecond=0) for when in (one, other)]
    assert (utc(one.isoformat()) < utc(other.isoformat())) == (seconds[0] < seconds[1])


# ------------------------------------------------------------------ audits of other kinds


def test_an_empty_audit_answers_empty(tmp_path: Path) -> None:
    """Every table and view is there, with the same columns and no rows; also in a folder that is not there."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        audit = Store(UPath(folder))
        duck = open_duck(audit, open_ledger(audit))
        for name, columns in [
            *((t.name, t.column_names) for t in TABLES.values()),
            *((v.name, v.columns) for v in VIEWS),
        ]:
            assert duck.ask(f"select * from {name}") == answer.Answer(columns, [])
        duck.close()


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    """A moto server on loopback and the client settings for it."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {"key": "testing", "secret": "testing", "client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
    server.stop()


@pytest.mark.parametrize("kind", ["memory", "s3", "pattern"])
def test_other_stores_answer_the_same(
    planted: Store, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """Parts in memory, in a bucket and below a folder whose name looks like a pattern; other files stay out of reach."""
    name = f"b{uuid.uuid4().hex[:16]}"
    if kind == "s3":
        root = UPath(f"s3://{name}", **request.getfixturevalue("s3"))
        root.fs.mkdir(name)
    else:
        root = UPath(f"memory://{name}") if kind == "memory" else UPath(tmp_path / "audit [2026] *")
    audit = Store(root)
    for key in planted.list():
        audit.create(key, planted.read(key))
    here, there = (open_duck(store, open_ledger(store)) for store in (planted, audit))
    for sql in (
        "select run_key, images_held, output_bytes from facefog_v_run_summary",
        "select image_id, det_idx from facefog_detection where confidence > 0.5 order by image_id, det_idx",
        "select * from facefog_source", "select * from facefog_egress", "select * from facefog_v_erasures",
    ):  # fmt: skip
        assert sorted(here.ask(sql).rows) == sorted(there.ask(sql).rows) != []
    for sql in (
        "select * from read_parquet('facefog-audit://plans/x.parquet')",
        "select * from read_csv('/etc/passwd')",
    ):
        with pytest.raises(ConfigurationError):
            there.ask(sql)
    here.close()
    there.close()


def test_parts_of_an_older_schema_answer_null(tmp_path: Path) -> None:
    """Columns that a part of schema version 1 lacks are NULL, alone and beside newer parts."""
    audit = Store(UPath(tmp_path))
    old = askkit.Run("old", 1)
    old.add("a")
    askkit.seal(audit, old)
    path = tmp_path / f"runs/{askkit.run_key('old')}/0/image.parquet"
    schema = arrow_schema("facefog_image").with_metadata(
        {"facefog_table": "facefog_image", "facefog_schema_version": "1"}
    )
    table = pq.read_table(path).drop_columns(["pixel_id", "leaf_idx"])
    pq.write_table(table.replace_schema_metadata(schema.metadata), path)
    for runs in (1, 2):
        duck = open_duck(audit, open_ledger(audit))
        assert duck.ask("select pixel_id, leaf_idx from facefog_image").rows == [(None, None)] * runs
        assert duck.ask("select typeof(leaf_idx) from facefog_image limit 1").rows == [("BIGINT",)]
        new = askkit.Run("new", 2)
        new.add("b")
        askkit.seal(audit, new)


@pytest.mark.parametrize("damage", ["gone", "cut", "garbage"])
def test_a_damaged_part_is_said_shortly(tmp_path: Path, damage: str) -> None:
    """No traceback, no path: the audit is damaged, and verify tells where."""
    audit = Store(UPath(tmp_path))
    run = askkit.Run("one", 1)
    run.add("a")
    askkit.seal(audit, run)
    path = tmp_path / f"runs/{askkit.run_key('one')}/0/image.parquet"
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(data[:-20] if damage == "cut" else b"x" * 100)
    duck = open_duck(audit, open_ledger(audit))
    with pytest.raises(LedgerError, match="verify") as caught:
        duck.ask("select * from facefog_image")
    assert str(tmp_path) not in str(caught.value)
    assert len(duck.ask("select * from facefog_run").rows) == 1


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nonsense", ConfigurationError), ("sqlite:////nonexistent/x.db", ConfigurationError),
        ("mysql+pymysql://h/x", ConfigurationError), ("sqlite://", ConfigurationError),
        ("postgresql+psycopg://u:hidden@127.0.0.1:1/x", StoreError),
    ],
)  # fmt: skip
def test_a_wrong_url_is_named_without_its_secrets(url: str, error: type[Exception]) -> None:
    """Unknown kinds, missing files and servers that are down; nothing is created."""
    with pytest.raises(error) as caught:
        open_sql(url)
    assert "hidden" not in str(caught.value)
    assert not Path("/nonexistent").exists()
