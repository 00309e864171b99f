"""``--detector``: once, several times, as JSON; in ``run``, ``detect`` and with ``--resume``."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cli_world import Terminal

from airflow_facefog.cli.detector_option import LOCAL, read_detector

PLATE = {"xyxy": [100, 80, 130, 95], "confidence": 0.8, "class_name": "license_plate"}


@pytest.fixture
def spelled(terminal: Terminal) -> dict[str, list[str]]:
    """A detector of faces and one of plates, written as one union in every way."""
    script = {"classes": ["license_plate"], "images": {}, "default": [PLATE]}
    (terminal.root / "plates.json").write_text(json.dumps(script))
    faces, plates = terminal.detector, f"scripted:{terminal.root / 'plates.json'}"
    mapping = {"kind": "scripted", "path": str(terminal.root / "plates.json")}
    return {
        "twice": ["--detector", faces, "--detector", plates],
        "list": ["--detector", json.dumps([faces, plates])],
        "object": ["--detector", json.dumps({"kind": "union", "of": [faces, mapping]}, indent=1)],
        "mixed": ["--detector", faces, "--detector", f" {json.dumps(mapping)}"],
    }


WAYS = ["twice", "list", "object", "mixed"]


@pytest.mark.parametrize("way", WAYS)
def test_detect_with_a_union(terminal: Terminal, spelled: dict[str, list[str]], way: str) -> None:
    """Both members look at the picture, however the union is written."""
    terminal.photos(1)
    out = terminal.root / "seen.parquet"
    assert terminal.facefog("detect", terminal.raw, "--output", out, *spelled[way]).code == 0
    assert sorted(pq.read_table(out)["class_name"].to_pylist()) == ["face", "license_plate"]


@pytest.mark.parametrize("way", WAYS)
def test_run_and_resume_with_a_union(terminal: Terminal, spelled: dict[str, list[str]], way: str) -> None:
    """What both find is fogged; the run is resumed in this and every other spelling, not with one member alone."""
    terminal.photos(1)
    base = ["run", terminal.raw, terminal.clean, "--audit", terminal.audit, "--json"]
    done = terminal.facefog(*base, *spelled[way])
    assert (done.code, done.json["fogged"]) == (0, 2)
    resume = [*base, "--resume", done.json["run_key"]]
    for other in spelled.values():
        assert terminal.facefog(*resume, *other).code == 0
    refused = terminal.facefog(*resume, *spelled["twice"][:2])
    assert refused.code == 2
    assert "another detector;" in refused.err


def test_one_short_form_is_recorded_as_before(terminal: Terminal) -> None:
    """A single text is that detector, not a union of one; so is the object that says the same."""
    terminal.photos(1)
    run_key = terminal.run().json["run_key"]
    (plan,) = terminal.audit.glob("plans/*/0/plan.json")
    path = terminal.detector.removeprefix("scripted:")
    assert json.loads(plan.read_text())["detector"] == {"kind": "scripted", "path": path}
    as_object = json.dumps({"kind": "scripted", "path": path})
    places = [terminal.raw, terminal.clean, "--audit", terminal.audit]
    assert terminal.facefog("run", *places, "--detector", as_object, "--resume", run_key).code == 0


def test_without_the_option_it_is_local() -> None:
    """The default is the embedded detector alone."""
    assert read_detector(LOCAL) == "local"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["{kind: local}"], "starts as JSON"),
        (['["local"'], "line 1, column 9"),
        (["[]"], "no detector configured"),
        (["{}"], "no detector configured"),
        (["local", "[]"], "no detector configured"),
        (["local", ""], "no detector configured"),
        (["local", "oracle"], "unknown detector kind 'oracle'"),
        (['{"kind": "local", "min_sid": 640}'], "unknown setting 'min_sid'"),
        (["[1]"], "not int"),
    ],
)
def test_what_is_no_detector(terminal: Terminal, given: list[str], says: str) -> None:
    """Broken JSON, an empty list beside a good detector, a wrong setting: exit 2, one line, nothing planned."""
    terminal.photos(1)
    options = [part for text in given for part in ("--detector", text)]
    for done in (
        terminal.facefog("run", terminal.raw, terminal.clean, "--audit", terminal.audit, *options),
        terminal.facefog("detect", terminal.raw, "--output", terminal.root / "seen.parquet", *options),
    ):
        assert done.code == 2
        assert says in done.err
    assert not list(Path(terminal.root).rglob("plan.json"))
    assert not (terminal.root / "seen.parquet").exists()
