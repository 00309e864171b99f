"""A full server in a whole run: the floor that was really used is recorded, travels with stored answers, and protects rules."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_server import TinyServer, box, predictions

from airflow_facefog.audit.parquet import from_parquet
from airflow_facefog.core.detector import Detections, used_floor
from airflow_facefog.core.errors import PolicyError
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy
from airflow_facefog.core.predictions import open_prediction, seal_prediction
from airflow_facefog.core.records import Detection
from airflow_facefog.detectors.roboflow import guard
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.model import Attempt, Place, PlanRequest, RunIdentity
from airflow_facefog.job.plan import make_plan
from airflow_facefog.job.staged import detect_batch, fog_detected_batch

KEYS = KeyRing.from_master(bytes(range(32)))
FACE = Detection((1.0, 2.0, 3.0, 4.0), 0.9, "face")


def crowded(asked):
    """A server that is full at 10 % and tells two boxes from 20 % up."""
    if int(asked.params["confidence"]) < 20:
        return predictions(asked, [box(confidence=0.15)] * 1000)
    return predictions(asked, [box(40, 40, 20, 20), box(100, 60, 20, 20, 0.2)])


@pytest.fixture
def server(monkeypatch):
    """The crowded server, named by the environment as the command line does."""
    with TinyServer(crowded).run() as running:
        monkeypatch.setenv("FACEFOG_ROBOFLOW_URL", running.url)
        monkeypatch.setenv("FACEFOG_ROBOFLOW_API_KEY", "k")
        yield running


def request_in(root: Path, **policy):
    """A run over three small photos."""
    for number in range(3):
        picture = cv2.resize(np.random.default_rng(number).integers(0, 255, (8, 12, 3), np.uint8), (160, 120))
        (root / "raw").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "raw" / f"{number}.jpg"), picture)
    places = {name: Place.parse(root / name) for name in ("audit",)}
    return PlanRequest(
        RunIdentity("dag", "run", "list"), Place.parse(root / "raw"), Place.parse(root / "clean"), **places,
        policy=FogPolicy(accept_no_canary=True, **policy), detector="roboflow:faces/3?classes=face",
    )  # fmt: skip


def rows_of(root: Path):
    """The image rows that attempts wrote."""
    (part,) = (root / "audit" / "intents").rglob("image.parquet")
    return from_parquet("facefog_image", part.read_bytes())


def objects_of(root: Path):
    """Published bytes by name."""
    return {path.name: path.read_bytes() for path in (root / "clean" / "data").rglob("*.jpg")}


def test_the_floor_used_is_in_the_audit_with_either_driver(server, tmp_path):
    """Single pass, staged and from the cache: the same bytes, and ``detect_floor`` .2 in every row."""
    single, staged = tmp_path / "single", tmp_path / "staged"
    ref = make_plan(request_in(single), KEYS)[0]
    done = run_batch(ref["plan"], ref["batch"], attempt=Attempt("a1"), keys=KEYS)
    assert done["published"] == 3
    ref = make_plan(request_in(staged), KEYS)[0]
    seen = detect_batch(ref["plan"], ref["batch"], attempt=Attempt("a1"), keys=KEYS)
    asked = server.count
    fog_detected_batch(ref["plan"], ref["batch"], seen["predictions"], attempt=Attempt("a2"), keys=KEYS)
    rows = [row for root in (single, staged) for row in rows_of(root)]
    assert [row["detect_floor"] for row in rows] == [0.2] * 6
    assert {row["n_fogged"] for row in rows} == {1}
    assert objects_of(single) == objects_of(staged)
    assert server.count - asked <= 8  # the canary's own looks; no photo is asked for again


def test_a_rule_below_the_floor_used_quarantines(server, tmp_path):
    """What a rule of .15 wants to fog was never listed: the photo is not published."""
    ref = make_plan(request_in(tmp_path, rules={"face": {"min_confidence": 0.15}}), KEYS)[0]
    done = run_batch(ref["plan"], ref["batch"], attempt=Attempt("a1"), keys=KEYS)
    assert (done["published"], done["quarantined"]) == (0, 3)
    assert {row["reason"] for row in rows_of(tmp_path)} == {"too_many_detections"}


def test_a_run_without_permission_stops_at_the_plan(tmp_path, monkeypatch):
    """The hosted server is refused before the first image; the message is the one line that would allow it."""
    monkeypatch.setenv("FACEFOG_ROBOFLOW_API_KEY", "k")
    monkeypatch.delenv("FACEFOG_ROBOFLOW_URL", raising=False)
    monkeypatch.setattr(guard, "resolve", lambda host, port: ["93.184.216.34"])
    with pytest.raises(PolicyError, match="allow_remote_inference: true"):
        make_plan(request_in(tmp_path), KEYS)
    assert not (tmp_path / "audit").exists() or not list((tmp_path / "audit").rglob("plan.json"))


@pytest.mark.parametrize("floor", [None, 0.2])
def test_stored_answers_keep_their_floor(floor):
    """Sealed and opened again it is the same; changed, it does not authenticate."""
    about = {"source_ref": "s", "image_id": "i", "recipe_hash": "r"}
    line = seal_prediction(KEYS, width=9, height=9, detections=Detections([FACE], floor), **about)
    again = open_prediction(line, KEYS, **about)
    assert again == (FACE,)
    assert used_floor(again) == floor
    body = json.loads(line)
    for forged in ({**body, "floor": 0.1}, {**body, "floor": "low"}, {k: v for k, v in body.items() if k != "floor"}):
        text = json.dumps(forged, sort_keys=True, separators=(",", ":")).encode()
        assert text == line or open_prediction(text, KEYS, **about) is None


def test_answers_travel_between_processes():
    """A pickle keeps the floor; plain sequences have none."""
    again = pickle.loads(pickle.dumps(Detections([FACE], 0.2)))
    assert (again, used_floor(again)) == ((FACE,), 0.2)
    assert used_floor([FACE]) is None
