"""``facefog detect``, ``ls`` and ``export``: what was seen, what was published, plain names."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cli_world import Terminal

COLUMNS = ["source_uri", "class_name", "confidence", "x1", "y1", "x2", "y2", "width", "height"]


def test_detect(terminal: Terminal) -> None:
    """Every detection is one row with the image's URI and upright size; the box is the detector's."""
    terminal.photos(2)
    out = terminal.root / "deep" / "seen.parquet"
    done = terminal.facefog("detect", terminal.raw, "--output", out, "--detector", terminal.detector, "--json")
    table = pq.read_table(out)
    assert done.code == 0
    assert table.column_names == COLUMNS
    assert table.to_pylist() == [
        {
            "source_uri": f"file://{terminal.raw}/person-{i}.jpg", "class_name": "face", "confidence": 0.9,
            "x1": 40.0, "y1": 30.0, "x2": 72.0, "y2": 70.0, "width": 160, "height": 120,
        }
        for i in range(2)
    ]  # fmt: skip
    assert {k: done.json[k] for k in ("listed", "looked_at", "refused", "detections")} == {
        "listed": 2, "looked_at": 2, "refused": {}, "detections": 2,
    }  # fmt: skip
    assert not terminal.clean.exists()


def test_detect_counts_what_it_refused(terminal: Terminal) -> None:
    """A file that cannot be looked at has no row: that is said, and written into the table's metadata."""
    terminal.photos(1, 1)
    terminal.file("notes.txt", b"not an image")
    out = terminal.root / "seen.parquet"
    done = terminal.facefog("detect", terminal.raw, "--output", out, "--detector", terminal.detector)
    about = json.loads(pq.read_schema(out).metadata[b"facefog"])
    assert done.code == 0
    assert "2 of 3 images could not be looked at" in done.err
    assert (about["listed"], about["looked_at"], sum(about["refused"].values())) == (3, 1, 2)


def test_detect_empty_folder(terminal: Terminal) -> None:
    """No image gives an empty table with the same columns."""
    out = terminal.root / "seen.parquet"
    assert terminal.facefog("detect", terminal.raw, "--output", out, "--detector", terminal.detector).code == 0
    assert pq.read_table(out).column_names == COLUMNS


def test_detect_blind_detector(terminal: Terminal) -> None:
    """A detector that misses its canary writes no table."""
    terminal.photos(1)
    (terminal.root / "script.json").write_text(json.dumps({"canary": False, "default": []}))
    out = terminal.root / "seen.parquet"
    done = terminal.facefog("detect", terminal.raw, "--output", out, "--detector", terminal.detector)
    assert done.code == 1
    assert not out.exists()


def test_ls(terminal: Terminal) -> None:
    """Without --status the published dataset is listed."""
    terminal.photos(3)
    terminal.run()
    done = terminal.facefog("ls", terminal.clean, "--json")
    assert done.json["snapshot_seq"] == 1
    assert [image["path"] for image in done.json["images"]] == [f"person-{i}.jpg" for i in range(3)]
    assert str(terminal.clean) in terminal.facefog("ls", terminal.clean).out


def test_ls_status(terminal: Terminal) -> None:
    """--status lists the newest run's images that ended so, with reason and source."""
    terminal.photos(6, 1)
    run_key = terminal.run().json["run_key"]
    listed = terminal.facefog("ls", terminal.clean, "--status", "quarantined", "--json").json
    (image,) = listed["images"]
    assert (listed["run_key"], listed["run_status"]) == (run_key, "final")
    assert image["source_uri"] == f"file://{terminal.raw}/broken-0.jpg"
    assert image["reason"] == "truncated"
    assert len(terminal.facefog("ls", terminal.clean, "--status", "published", "--json").json["images"]) == 6


def test_ls_after_the_gate(terminal: Terminal) -> None:
    """A run that the gate refused can be looked at: that is when the reasons are needed."""
    terminal.photos(1, 2)
    terminal.run()
    listed = terminal.facefog("ls", terminal.clean, "--status", "quarantined", "--json").json
    assert listed["run_status"] == "incomplete"
    assert len(listed["images"]) == 2


def test_ls_newest_run(terminal: Terminal) -> None:
    """Of several runs the newest one is shown."""
    terminal.photos(6)
    terminal.run()
    newest = terminal.run().json["run_key"]
    assert terminal.facefog("ls", terminal.clean, "--status", "skipped", "--json").json["run_key"] == newest


def test_hostile_name_stays_off_the_terminal(terminal: Terminal) -> None:
    """Escape sequences in a file name are not sent to the terminal."""
    terminal.photos(6)
    terminal.file("x\x1b]0;owned\x07.jpg", b"no image")
    terminal.run()
    listed = terminal.facefog("ls", terminal.clean, "--status", "quarantined")
    assert "owned" in listed.out
    assert "\x1b" not in listed.out
    assert "\x07" not in listed.out


@pytest.mark.parametrize("argv", [["ls"], ["ls", "--status", "failed"]])
def test_ls_elsewhere(terminal: Terminal, argv: list[str]) -> None:
    """A folder that is no destination is a usage error."""
    done = terminal.facefog(argv[0], terminal.raw, *argv[1:])
    assert done.code == 2


def test_export(terminal: Terminal) -> None:
    """Published images get their sources' names back, bytes unchanged; exporting again changes nothing."""
    terminal.photo("a.jpg", 1)
    terminal.photo("b/ä ö.jpg", 2)
    terminal.run()
    plain = terminal.root / "plain"
    first = terminal.facefog("export", terminal.clean, plain, "--names", "source", "--json").json
    again = terminal.facefog("export", terminal.clean, plain, "--json").json
    names = sorted(str(path.relative_to(plain)) for path in plain.rglob("*.jpg"))
    assert names == ["a.jpg", "b/ä ö.jpg"]
    assert (first["exported"], first["unchanged"], again["exported"], again["unchanged"]) == (2, 0, 0, 2)
    (published,) = (terminal.clean / "data").glob("a.jpg.*")
    assert (plain / "a.jpg").read_bytes() == published.read_bytes()


def test_export_checks_every_hash(terminal: Terminal) -> None:
    """An object that was changed after publishing is not exported."""
    terminal.photos(1)
    terminal.run()
    (published,) = (terminal.clean / "data").iterdir()
    published.chmod(0o644)
    published.write_bytes(published.read_bytes()[:-2] + b"xx")
    done = terminal.facefog("export", terminal.clean, terminal.root / "plain")
    assert done.code == 1
    assert not list((terminal.root / "plain").rglob("*.jpg"))


def test_export_never_overwrites(terminal: Terminal) -> None:
    """A file that is in the way stops the export and stays as it was."""
    terminal.photos(1)
    terminal.run()
    plain = terminal.root / "plain"
    plain.mkdir()
    (plain / "person-0.jpg").write_bytes(b"mine")
    assert terminal.facefog("export", terminal.clean, plain).code == 1
    assert (plain / "person-0.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize("plain", ["clean", "clean/plain", "."])
def test_export_overlap(terminal: Terminal, plain: str) -> None:
    """Exporting into the destination, or around it, is refused."""
    terminal.photos(1)
    terminal.run()
    before = sorted(terminal.clean.rglob("*"))
    assert terminal.facefog("export", terminal.clean, Path(terminal.root, plain)).code == 2
    assert sorted(terminal.clean.rglob("*")) == before


def test_export_content_layout(terminal: Terminal) -> None:
    """Objects without names keep their hash."""
    terminal.photos(2)
    terminal.run("--layout", "content")
    plain = terminal.root / "plain"
    assert terminal.facefog("export", terminal.clean, plain).code == 0
    assert all(len(path.stem) == 64 for path in plain.rglob("*.jpg"))
