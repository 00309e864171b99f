"""A person who may only read asks PostgreSQL by the command line: what is answered, refused, stopped, and cut off."""

from __future__ import annotations

import io
import json
import logging
import threading
import time

import psycopg
import pytest
import sqlalchemy as sa
from sqlkit import detection, image, run_row, source

from airflow_facefog.audit.roles import role_script
from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.audit.views import VIEWS
from airflow_facefog.cli.app import run

ROLE, PERSON = "facefog_reader_2", "facefog_anna"


def plain(url):
    """A URL as psycopg reads it."""
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture
def reader(pg_url):
    """The URL of a login that was granted the role; roles are of the whole server, so they are dropped at the end."""
    sink = SqlSink(pg_url)
    sink.write_run(run_row(), [image(1)], [detection(1, 0)], sources=[source(1)])
    sink.close()
    with psycopg.connect(plain(pg_url), autocommit=True) as owner:
        owner.execute(role_script(ROLE))
        owner.execute(f"CREATE ROLE {PERSON} LOGIN IN ROLE {ROLE}")
        yield sa.make_url(pg_url).set(username=PERSON).render_as_string(hide_password=False)
        owner.execute(f"DROP OWNED BY {ROLE}")
        owner.execute(f"DROP ROLE {PERSON}, {ROLE}")


@pytest.fixture
def facefog(capsys):
    """Run a command; give its exit code and what it printed."""

    def call(*argv):
        code = run([str(part) for part in argv])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return call


@pytest.fixture
def cut_off(pg_url):
    """Ends the person's connection from the server's side as soon as it runs a query."""

    def wait_and_kill():
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND query LIKE 'FETCH%%'"
        with psycopg.connect(plain(pg_url), autocommit=True) as owner:
            for _ in range(400):
                if owner.execute(kill, (PERSON,)).fetchall():
                    return
                time.sleep(0.025)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    yield thread
    thread.join()


def test_a_reader_asks_everything_but_names(facefog, reader):
    """Every view answers; checks and reports do; names of source files do not, whether asked for in SQL or by --names."""
    for view in VIEWS:
        assert facefog("audit", "query", f"SELECT * FROM {view.name}", "--sql", reader)[0] == 0, view.name
    asked = facefog("audit", "query", "SELECT count(*) AS n FROM facefog_image", "--sql", reader, "--json")
    assert json.loads(asked[1])["rows"] == [{"n": 1}]
    for command in (("report", "run-summary"), ("check",)):
        assert facefog("audit", *command, "--sql", reader)[0] in (0, 1)
    code, out, err = facefog("audit", "query", "SELECT source_uri FROM facefog_source", "--sql", reader)
    assert (code, out, "permission denied" in err) == (2, "", True)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("WITH x AS (DELETE FROM facefog_image RETURNING 1) SELECT * FROM x", "refused"),
        ("SELECT set_config('transaction_read_only', 'off', false)", "refused"),
        ("SELECT pg_read_file('/etc/hostname')", "permission denied"),
        ("SELECT pg_sleep(20)", "longer than 0.3 s"),
    ],
)
def test_a_reader_neither_writes_nor_holds_the_server(facefog, reader, statement, words):
    """One line says why."""
    code, _, err = facefog("audit", "query", statement, "--sql", reader, "--timeout", 0.3)
    assert (code, len(err.splitlines()), words in err) == (2, 1, True)


def test_a_connection_lost_in_a_query_is_one_line(facefog, reader, cut_off, caplog):
    """No traceback of the pool, which would try to roll back."""
    caplog.set_level(logging.WARNING)
    code, out, err = facefog("audit", "query", "SELECT pg_sleep(20)", "--sql", reader)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "the audit's database does not answer" in err
    assert caplog.records == []


def test_a_shell_goes_on_after_a_lost_connection(facefog, reader, cut_off, monkeypatch):
    """The next statement has a new one; what may not be read is refused there too."""
    lines = "SELECT pg_sleep(20);\nSELECT 7 AS seven;\nSELECT * FROM facefog_source;\nDELETE FROM facefog_image;\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    code, out, err = facefog("audit", "shell", "--sql", reader)
    assert (code, "seven" in out) == (1, True)
    assert [words in err for words in ("does not answer", "permission denied", "statements that read")] == [True] * 3
