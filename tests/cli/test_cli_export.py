"""``facefog export --format``, ``ls --dataset``, ``run --sources`` and ``audit diff-policy``: the ways of a user."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cli_world import FACE, Terminal

INDEX = {
    "plain": "person-0.jpg", "coco": "labels.json", "fiftyone": "samples.json", "webdataset": "shards.json",
    "hf": "train/metadata.parquet",
}  # fmt: skip
WEAK = {**FACE, "xyxy": [100, 60, 140, 100], "confidence": 0.4}


def policy(terminal: Terminal, name: str, text: str) -> Path:
    """A policy file."""
    path = terminal.root / f"{name}.yaml"
    path.write_text(text)
    return path


def two_sizes(terminal: Terminal) -> None:
    """Two photos with one sure face each, and a wide one that has a weak one too."""
    terminal.photos(2)
    import cv2
    import numpy as np

    terminal.file("wide.jpg", cv2.imencode(".jpg", np.full((120, 320, 3), 90, np.uint8))[1].tobytes())
    script = {"classes": ["face"], "images": {"320x120": [FACE, WEAK]}, "default": [FACE]}
    (terminal.root / "script.json").write_text(json.dumps(script))


@pytest.mark.parametrize("form", INDEX)
def test_every_form(form: str, terminal: Terminal) -> None:
    """Each form is written with its index, and says what it did in one object."""
    terminal.photos(2)
    terminal.run()
    done = terminal.facefog("export", terminal.clean, terminal.root / "out", "--format", form, "--json")
    assert (done.code, done.json["exported"], done.json["format"]) == (0, 2, form)
    assert (terminal.root / "out" / INDEX[form]).is_file()


def test_export_options(terminal: Terminal) -> None:
    """Detections, audit and shard size are taken; a wrong value is wrong use."""
    terminal.photos(2)
    terminal.run()
    out = terminal.root / "out"
    done = terminal.facefog(
        "export", terminal.clean, out, "--format", "webdataset", "--detections", "all", "--audit", terminal.audit,
        "--shard-bytes", 1, "--json",
    )  # fmt: skip
    assert (done.code, len(list(out.glob("*.tar"))), done.json["detections"]) == (0, 2, "all")
    assert terminal.facefog("export", terminal.clean, out, "--format", "yolo").code == 2
    assert terminal.facefog("export", terminal.clean, out, "--detections", "some").code == 2
    assert terminal.facefog("export", terminal.raw, out, "--format", "coco").code == 2


def test_datasets_are_named(terminal: Terminal) -> None:
    """A run into a dataset of its own is listed and exported by that name alone."""
    terminal.photos(2)
    assert terminal.run("--dataset", "street").code == 0
    listed = terminal.facefog("ls", terminal.clean, "--dataset", "street", "--json")
    ended = terminal.facefog("ls", terminal.clean, "--dataset", "street", "--status", "published", "--json")
    assert (len(listed.json["images"]), len(ended.json["images"])) == (2, 2)
    assert terminal.facefog("ls", terminal.clean).code == 2
    assert terminal.facefog("ls", terminal.clean, "--status", "published").code == 2
    out = terminal.root / "out"
    assert terminal.facefog("export", terminal.clean, out, "--format", "coco", "--dataset", "street").code == 0


def test_diff_then_refog_then_nothing(terminal: Terminal) -> None:
    """The list holds exactly the images that change; running it moves these alone; then nothing is left to do."""
    two_sizes(terminal)
    terminal.run()
    strict = policy(terminal, "strict", "rules:\n  face: {min_confidence: 0.45}\n")
    todo = terminal.root / "todo.txt"
    diff = ("audit", "diff-policy", strict, "--audit", terminal.audit, "--refog", todo)
    found = terminal.facefog(*diff, "--json")
    (image,) = found.json["images"]
    assert found.code == 0
    assert (image["verdict"], image["no_longer_fogged"], image["unchanged"]) == ("changed", 1, 1)
    assert found.json["refog"] == {"file": str(todo), "sources": 1, "unknown": 0}
    assert f"facefog run file://{terminal.raw} file://{terminal.clean}" in found.err
    assert todo.read_text() == f"file://{terminal.raw}/wide.jpg\n"
    before = {row["path"]: row["sha256"] for row in terminal.facefog("ls", terminal.clean, "--json").json["images"]}
    done = terminal.run("--policy", strict, "--sources", todo)
    assert (done.json["listed"], done.json["published"]) == (1, 1)
    after = {row["path"]: row["sha256"] for row in terminal.facefog("ls", terminal.clean, "--json").json["images"]}
    assert before.keys() == after.keys()
    assert {path for path in before if before[path] != after[path]} == {"wide.jpg"}
    again = terminal.facefog(*diff, "--json")
    assert (again.json["images"], again.json["images_unchanged"]) == ([], 3)
    assert "nothing to fog again" in again.err


def test_forms_of_the_difference(terminal: Terminal) -> None:
    """Table, CSV and Parquet say the same as the JSON; Parquet needs a file."""
    two_sizes(terminal)
    terminal.run()
    new = policy(terminal, "new", "rules:\n  face: {method: fill}\n")
    diff = ("audit", "diff-policy", new, "--audit", terminal.audit)
    images = terminal.facefog(*diff, "--json").json["images"]
    table = terminal.facefog(*diff)
    assert table.out.count("changed") == len(images) == 3
    assert "3 images changed" in table.err
    rows = list(csv.DictReader(io.StringIO(terminal.facefog(*diff, "--format", "csv").out)))
    assert [row["output_uri"] for row in rows] == [image["output_uri"] for image in images]
    out = terminal.root / "diff.parquet"
    assert terminal.facefog(*diff, "--format", "parquet").code == 2
    assert terminal.facefog(*diff, "--format", "parquet", "--output", out).code == 0
    assert pq.read_table(out).to_pylist() == images
    assert out.stat().st_mode & 0o077 == 0  # ids and names: as restricted as the audit


def test_diff_of_an_empty_audit_and_a_wrong_policy(terminal: Terminal) -> None:
    """An empty audit answers with nothing and says so; one that is not there, and a policy that is refused, are wrong use."""
    new = policy(terminal, "new", "rules: {}\n")
    assert terminal.facefog("audit", "diff-policy", new, "--audit", terminal.audit).code == 2
    terminal.audit.mkdir()
    found = terminal.facefog("audit", "diff-policy", new, "--audit", terminal.audit, "--json")
    assert (found.code, found.json["images"], found.json["images_unchanged"]) == (0, [], 0)
    assert "is it the right one" in found.err
    wrong = policy(terminal, "wrong", "no_such: 1\n")
    assert terminal.facefog("audit", "diff-policy", wrong, "--audit", terminal.audit).code == 2


def test_two_datasets_make_no_common_list(terminal: Terminal) -> None:
    """A list for a run that would publish into the wrong dataset is refused; chosen one by one they are written."""
    terminal.photos(1)
    terminal.run()
    terminal.run("--dataset", "street")
    new = policy(terminal, "new", "rules:\n  face: {method: fill}\n")
    todo = terminal.root / "todo.txt"
    diff = ("audit", "diff-policy", new, "--audit", terminal.audit, "--refog", todo)
    assert terminal.facefog(*diff).code == 2
    assert not todo.exists()
    done = terminal.facefog(*diff, "--dataset", "street")
    assert done.code == 0
    assert "--dataset street" in done.err


def test_run_takes_a_list_or_says_why_not(terminal: Terminal) -> None:
    """Images below SOURCE keep their names; a list of nothing is no run."""
    terminal.photo("a/b/one.jpg")
    terminal.photo("a/two.jpg", 2)
    listed = terminal.root / "list.txt"
    listed.write_text(f"# by hand\n{terminal.raw}/a/b/one.jpg\n")
    assert terminal.run("--sources", listed).json["listed"] == 1
    (shown,) = terminal.facefog("ls", terminal.clean, "--json").json["images"]
    assert shown["path"] == "a/b/one.jpg"
    listed.write_text("\n")
    assert terminal.run("--sources", listed).code == 2
