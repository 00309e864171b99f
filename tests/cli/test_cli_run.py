"""``facefog run``: the whole job, its exit codes, and what it never says."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_world import Terminal

from airflow_facefog.cli.app import app
from airflow_facefog.job import batch

RESULT = [
    "run_key", "listed", "published", "quarantined", "failed", "skipped", "detections", "fogged", "manifest_uri", "signed",
    "chain_head", "seconds",
]  # fmt: skip


def test_the_whole_job(terminal: Terminal) -> None:
    """One command fogs a folder and prints one object that adds up; the manifest it names is there."""
    terminal.photos(3)
    done = terminal.run()
    assert done.code == 0
    assert list(done.json) == RESULT
    assert [done.json[name] for name in RESULT[1:8]] == [3, 3, 0, 0, 0, 3, 3]
    assert Path(done.json["manifest_uri"].removeprefix("file://")).is_file()
    assert len(list((terminal.clean / "data").iterdir())) == 3


def test_again_is_skipped(terminal: Terminal) -> None:
    """A second run over the same photos finds everything done."""
    terminal.photos(2)
    terminal.run()
    again = terminal.run()
    assert (again.code, again.json["skipped"], again.json["published"]) == (0, 2, 0)


def test_table_for_people(terminal: Terminal) -> None:
    """Without --json the same values are printed as a table, and nothing is coloured in a pipe."""
    terminal.photos(1)
    done = terminal.facefog(
        "run", terminal.raw, terminal.clean, "--audit", terminal.audit, "--detector", terminal.detector
    )
    assert "published" in done.out
    assert "\x1b" not in done.out + done.err


def test_local_audit_gets_sql(terminal: Terminal) -> None:
    """A local audit gets facefog.db without being asked."""
    terminal.photos(2)
    run_key = terminal.run().json["run_key"]
    with sqlite3.connect(terminal.audit / "facefog.db") as db:
        rows = db.execute("SELECT run_key, status FROM facefog_image").fetchall()
    assert rows == [(run_key, "published")] * 2


def test_sql_elsewhere(terminal: Terminal) -> None:
    """--audit-sql names another database; the default one is not made then."""
    terminal.photos(1)
    terminal.run("--audit-sql", f"sqlite:///{terminal.root}/other.db")
    assert (terminal.root / "other.db").exists()
    assert not (terminal.audit / "facefog.db").exists()


@pytest.mark.parametrize(("broken", "strict", "code"), [(0, True, 0), (1, False, 0), (1, True, 3)])
def test_strict(terminal: Terminal, broken: int, strict: bool, code: int) -> None:
    """--strict exits 3 when anything was quarantined; without it the gate alone decides."""
    terminal.photos(6, broken)
    done = terminal.run(*["--strict"] * strict)
    assert (done.code, done.json["quarantined"]) == (code, broken)


def test_gate_fails_the_run(terminal: Terminal) -> None:
    """Too many refused images fail the run: exit 1, one line, no snapshot."""
    terminal.photos(1, 2)
    done = terminal.run()
    assert done.code == 1
    assert done.json["error_class"] == "GateError"
    assert "max_quarantined" in done.err
    assert not (terminal.clean / "_facefog" / "latest.json").exists()


POLICY = "policy.yaml"


@pytest.mark.parametrize(
    ("policy", "more", "says"),
    [
        ("rulez: {}", ["--policy", POLICY], "unknown setting 'rulez'"),
        ("rules: {face: {method: blur}}", ["--policy", POLICY], "accept_linkable"),
        ("rules: {plate: {}}", ["--policy", POLICY], "no configured detector emits"),
        ("", ["--policy", "gone.yaml"], "cannot be read"),
        ("", ["--detector", "oracle"], "unknown detector kind"),
        ("", ["--layout", "flat"], "'flat' is not one of"),
        ("", ["--workers", "0"], "workers"),
        ("", ["--resume", "no-such-run"], "no plan of run"),
        ("", ["--frobnicate"], "No such option"),
        ("", ["--audit", "clean/audit"], "audit lies inside the destination"),
        ("", ["--audit", "raw/audit"], "overlap"),
        ("", ["--audit", "simplecache::s3://b/a"], "chained"),
        ("", ["--audit-sql", "nosuchdb://x"], "URL or driver"),
    ],
)
def test_wrong_use(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, policy: str, more: list[str], says: str
) -> None:
    """A usage or policy error exits 2 with one line that names it, and publishes nothing."""
    monkeypatch.chdir(terminal.root)
    Path(POLICY).write_text(policy)
    terminal.photos(1)
    done = terminal.run(*more)
    assert done.code == 2
    assert says in done.err
    assert len([line for line in done.err.splitlines() if "made a master key" not in line]) == 1
    assert not list(terminal.clean.rglob("*.jpg"))


def test_dry_run_writes_nothing(terminal: Terminal) -> None:
    """--dry-run lists and plans; no folder, no key, no file appears."""
    terminal.photos(3)
    before = sorted(terminal.root.rglob("*"))
    done = terminal.run("--dry-run")
    assert (done.code, done.json["listed"], done.json["batches"]) == (0, 3, 1)
    assert sorted(terminal.root.rglob("*")) == before


def test_stopped_and_resumed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle: exit 130, no snapshot; --resume with the run_key that was said finishes the same run."""
    terminal.photos(3)
    with monkeypatch.context() as patch:
        patch.setattr(batch, "run_batch", _raise(KeyboardInterrupt()))
        stopped = terminal.run()
    assert (stopped.code, stopped.json["error_class"]) == (130, "Stopped")
    assert not (terminal.clean / "_facefog" / "latest.json").exists()
    run_key = stopped.err.split("--resume ")[1].split()[0]
    terminal.photo("came-later.jpg", 50)
    done = terminal.run("--resume", run_key)
    assert (done.code, done.json["run_key"], done.json["published"]) == (0, run_key, 3)


@pytest.mark.parametrize(
    ("more", "names"),
    [(["--layout", "content"], "layout"), (["--policy", POLICY], "policy"), (["--detector", "local"], "detector")],
)
def test_resumed_with_other_settings(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, more: list[str], names: str
) -> None:
    """A run is resumed with the settings it was planned with, or not at all."""
    monkeypatch.chdir(terminal.root)
    Path(POLICY).write_text("other_classes: ignore")
    terminal.photos(1)
    run_key = terminal.run().json["run_key"]
    done = terminal.run("--resume", run_key, *more)
    assert done.code == 2
    assert f"another {names};" in done.err


def test_key_made_once_and_said(terminal: Terminal, config: Path) -> None:
    """The first run makes a key and says where; the second says nothing and uses it."""
    terminal.photos(1)
    assert str(config / "facefog" / "master.key") in terminal.run().err
    assert "master key" not in terminal.run().err


def test_key_beside_the_images_refused(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key file inside the audit is refused before anything is planned."""
    terminal.photos(1)
    monkeypatch.setenv("FACEFOG_KEY_FILE", str(terminal.audit / "k"))
    done = terminal.run()
    assert done.code == 2
    assert "inside source, destination or audit" in done.err
    assert not terminal.audit.exists()


def test_a_bug_says_nothing_private(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception becomes its class and place; its message, which may quote data, is withheld."""
    terminal.photos(1)
    monkeypatch.setattr(batch, "run_batch", _raise(ValueError("pixels of /raw/jane-doe.jpg")))
    done = terminal.run()
    assert done.code == 1
    assert done.json["error_class"] == "InternalError"
    assert "ValueError" in done.err
    assert "jane-doe" not in done.out + done.err
    assert "Traceback" not in done.err


def test_no_pretty_tracebacks() -> None:
    """Typer's tracebacks print local variables: they are off."""
    assert app.pretty_exceptions_enable is False


def test_imports_no_airflow() -> None:
    """The whole command line loads without Airflow."""
    code = "import sys, airflow_facefog.cli.app; sys.exit('airflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _raise(error: BaseException) -> Any:
    def raising(*args: Any, **kwargs: Any) -> Any:
        raise error

    return raising
