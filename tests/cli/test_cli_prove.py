"""``facefog prove``: exit codes, what it prints and what it writes."""

from __future__ import annotations

import json
import shutil
import stat

import pyarrow.parquet as pq
import pytest
from cli_world import Terminal

from airflow_facefog.publish.prove.tally import SCHEMA


@pytest.fixture
def published(terminal: Terminal) -> Terminal:
    """Three published photos."""
    terminal.photos(3)
    assert terminal.run().code == 0
    return terminal


def test_a_clean_store(published: Terminal) -> None:
    """Exit 0, one JSON object of counts that add up, no object name in it."""
    done = published.facefog("prove", published.clean, "--audit", published.audit, "--json")
    assert done.code == 0, done.out
    assert (done.json["clean"], done.json["proven"], done.json["current"], done.json["orphan"]) == (True, 3, 3, 0)
    assert done.json["objects"] == done.json["proven"] + done.json["record"]
    assert "person" not in done.out


def test_a_raw_photo_in_the_store(published: Terminal) -> None:
    """Exit 1, named on the terminal with its class, escape sequences left out."""
    shutil.copy(published.raw / "person-1.jpg", published.clean / "data" / "x\x1b[31m.jpg")
    done = published.facefog("prove", published.clean, "--audit", published.audit)
    assert done.code == 1
    assert "raw-match" in done.out
    assert "\x1b" not in done.out


def test_the_reports(published: Terminal) -> None:
    """JSON, Parquet (one row per object) and page say the same; only their owner may read them; they can be replaced."""
    (published.clean / "data" / "person-secret.txt").write_text("hello")
    files = [published.root / "out" / name for name in ("p.json", "p.parquet", "p.html")]
    options = [
        part
        for name, file in zip(("--output-json", "--parquet", "--html"), files, strict=True)
        for part in (name, file)
    ]
    for _ in range(2):
        assert published.facefog("prove", published.clean, "--audit", published.audit, *options).code == 1
    report = json.loads(files[0].read_text())
    table = pq.read_table(files[1])
    assert table.schema.equals(SCHEMA)
    assert table.num_rows == report["objects"]
    assert {f["key"] for f in report["findings"]} == {"data/person-secret.txt"}
    assert "data/person-secret.txt" in files[2].read_text()
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert [path.name for path in files[0].parent.iterdir() if path.name.startswith(".")] == []


def test_ignored_on_request(published: Terminal) -> None:
    """A glob takes objects out of the judgement, not out of the count."""
    (published.clean / "README.txt").write_text("hello")
    done = published.facefog("prove", published.clean, "--audit", published.audit, "--ignore", "*.txt", "--json")
    assert (done.code, done.json["ignored"], done.json["orphan"]) == (0, 1, 0)


def test_a_report_inside_the_store_is_refused(published: Terminal) -> None:
    """It would be an orphan of the next proof; nothing is written."""
    inside = published.clean / "proof.html"
    done = published.facefog("prove", published.clean, "--audit", published.audit, "--html", inside, "--json")
    assert (done.code, done.json["error_class"]) == (2, "ConfigurationError")
    assert not inside.exists()


@pytest.mark.parametrize("what", ["store", "audit"])
def test_a_place_that_is_not_there(published: Terminal, what: str) -> None:
    """A wrong path is wrong use, never a clean proof."""
    places = {"store": published.clean, "audit": published.audit, what: published.root / "nowhere"}
    done = published.facefog("prove", places["store"], "--audit", places["audit"], "--json")
    assert (done.code, done.json["error_class"]) == (2, "ConfigurationError")


def test_another_key(published: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of another place is refused with what to do; --no-key goes on without and says so."""
    monkeypatch.setenv("FACEFOG_KEY", "ab" * 32)
    shutil.copy(published.raw / "person-1.jpg", published.clean / "data" / "x.jpg")
    done = published.facefog("prove", published.clean, "--audit", published.audit, "--json")
    assert (done.code, done.json["error_class"]) == (2, "ConfigurationError")
    assert "--no-key" in done.json["error"]
    done = published.facefog("prove", published.clean, "--audit", published.audit, "--no-key", "--json")
    assert (done.code, done.json["raw-match"], done.json["raw-derived"]) == (1, 0, 1)


def test_no_key_is_made(published: Terminal) -> None:
    """Without a key the proof runs and makes none."""
    (key,) = published.root.rglob("master.key")
    key.unlink()
    done = published.facefog("prove", published.clean, "--audit", published.audit, "--json")
    assert done.code == 0
    assert not list(published.root.rglob("master.key"))


def test_signatures_on_request(published: Terminal) -> None:
    """An unsigned audit proves nothing when signatures are required."""
    done = published.facefog("prove", published.clean, "--audit", published.audit, "--require-signed", "--json")
    assert (done.code, done.json["clean"], done.json["record_verified"]) == (1, False, False)
