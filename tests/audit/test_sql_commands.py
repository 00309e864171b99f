"""``facefog audit load``, ``migrate`` and ``role`` as a user runs them."""

from __future__ import annotations

import json

import pytest
from sqlkit import new_audit, rows, seal_run

from airflow_facefog.audit.roles import role_script
from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.cli.app import run


@pytest.fixture
def facefog(capsys):
    """Run a command; give its exit code and what it printed."""

    def call(*argv):
        code = run([str(part) for part in argv])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return call


@pytest.fixture
def audit(tmp_path):
    """A folder with two sealed runs."""
    store = new_audit(tmp_path / "audit")
    seal_run(store, "r1", 2, listed_at="2026-01-01T00:00:00+00:00")
    seal_run(store, "r2", 3, listed_at="2026-02-01T00:00:00+00:00")
    return tmp_path / "audit"


def test_load_fills_a_database_and_says_what_it_did(facefog, audit, sql_url):
    """Chosen runs first, then the rest, then nothing, then all anew."""
    assert facefog("audit", "load", audit, sql_url, "--run", "r1", "--json")[1] == (
        '{"loaded": 1, "present": 0, "images": 2, "detections": 4}\n'
    )
    assert json.loads(facefog("audit", "load", audit, sql_url, "--since", "2026-01-15", "--json")[1])["images"] == 3
    assert json.loads(facefog("audit", "load", audit, sql_url, "--json")[1])["loaded"] == 0
    assert json.loads(facefog("audit", "load", audit, sql_url, "--replace", "--json")[1])["loaded"] == 2
    code, out, err = facefog("audit", "load", audit, sql_url, "--since", "2027-01-01")
    assert (code, "loaded" in out, "no sealed run was asked for" in err) == (0, True, True)


def test_the_url_can_come_from_the_environment(facefog, audit, sql_url, monkeypatch):
    """Command lines are seen by others; the environment of a process is not."""
    monkeypatch.setenv("FACEFOG_AUDIT_SQL", sql_url)
    assert facefog("audit", "load", audit)[0] == 0
    sink = SqlSink(sql_url)
    assert rows(sink, "SELECT count(*) FROM facefog_run") == [(2,)]
    sink.close()


def test_migrate_says_from_where_to_where(facefog, sql_url):
    """The second time nothing was changed."""
    first = json.loads(facefog("audit", "migrate", sql_url, "--json")[1])
    assert (first["found"], first["changed"]) == (0, True)
    assert json.loads(facefog("audit", "migrate", sql_url, "--json")[1])["changed"] is False


def test_role_prints_the_script_and_nothing_else_on_stdout(facefog):
    """What goes to psql is the script alone."""
    code, out, _ = facefog("audit", "role", "--name", "auditors", "--schema", "fog")
    assert (code, out) == (0, role_script("auditors", "fog"))
    assert json.loads(facefog("audit", "role", "--json")[1]) == {"script": role_script()}


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("load", "{audit}", "sqlite:////nosuchfolder/hunter22.db"), 1),
        (("load", "{audit}", "postgresql+psycopg://anna:hunter22@127.0.0.1:1/x"), 1),
        (("load", "{audit}", "hunter22 is no url"), 2),
        (("load", "{audit}/typo", "sqlite:////tmp/never-made.db"), 2),
        (("load", "{audit}"), 2),
        (("migrate", "nosuchdb://anna:hunter22@h/x"), 2),
        (("role", "--name", 'x"; DROP TABLE facefog_run; --'), 2),
    ],
)
def test_failures_are_one_line_without_secrets(facefog, audit, argv, code, monkeypatch):
    """Exit code, one line, and nothing of the URL."""
    monkeypatch.delenv("FACEFOG_AUDIT_SQL", raising=False)
    found, out, err = facefog("audit", *(part.format(audit=audit) for part in argv))
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert "hunter22" not in err
