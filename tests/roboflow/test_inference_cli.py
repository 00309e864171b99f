"""``--detector roboflow:project/3`` on the command line: by environment alone, refused without permission, no key shown."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_server import Answer, TinyServer, box, predictions

from airflow_facefog.cli.app import run
from airflow_facefog.detectors.roboflow import guard, http

KEY = "rf_SECRETkey123"


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Two photos, a key in the environment, and folders of our own."""
    (tmp_path / "raw").mkdir()
    for number in range(2):
        gray = np.random.default_rng(number).integers(60, 200, (9, 12, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "raw" / f"{number}.jpg"), cv2.resize(gray, (240, 180)))
    monkeypatch.setenv("FACEFOG_ROBOFLOW_API_KEY", KEY)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("FACEFOG_KEY_FILE", raising=False)
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.0)
    return tmp_path


@pytest.fixture
def server(monkeypatch):
    """One face in every picture."""
    with TinyServer(lambda asked: predictions(asked, [box(60, 60, 40, 50)])).run() as running:
        monkeypatch.setenv("FACEFOG_ROBOFLOW_URL", running.url)
        yield running


def detect(world, *more):
    """``facefog detect`` over the photos."""
    return run(["detect", str(world / "raw"), "--output", str(world / "seen.parquet"), "--json",
                "--detector", "roboflow:faces/3?classes=face", *more])  # fmt: skip


def test_detect_and_run(world, server, capsys):
    """The table holds what the server saw; the run fogs it and publishes."""
    assert detect(world) == 0
    assert json.loads(capsys.readouterr().out)["detections"] == 2
    rows = pq.read_table(world / "seen.parquet").to_pylist()
    assert [(row["class_name"], row["x1"], row["y2"]) for row in rows] == [("face", 40.0, 85.0)] * 2
    places = [str(world / "raw"), str(world / "clean"), "--audit", str(world / "audit")]
    detector = ["--detector", "roboflow:faces/3?classes=face", "--json"]
    assert run(["run", *places, *detector]) == 2
    assert "`accept_no_canary: true`" in json.loads(capsys.readouterr().out)["error"]
    (world / "policy.yaml").write_text("accept_no_canary: true\n")
    assert run(["run", *places, *detector, "--policy", str(world / "policy.yaml")]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["fogged"] == 2
    assert KEY not in output.out + output.err
    assert not [path for path in world.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_a_public_server_needs_permission(world, monkeypatch, capsys):
    """Without the flag nothing is sent, and the message says what it is about."""
    monkeypatch.delenv("FACEFOG_ROBOFLOW_URL", raising=False)
    monkeypatch.setattr(guard, "resolve", lambda host, port: ["93.184.216.34"])
    assert detect(world) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["error_class"] == "PolicyError"
    assert "allow_remote_inference" in answer["error"]
    assert "people" in answer["error"]


def test_the_flag_gives_permission(world, monkeypatch, capsys):
    """With the flag the gate opens: the connection is then tried (and fails here, where nobody listens)."""
    monkeypatch.setenv("FACEFOG_ROBOFLOW_URL", "https://rf.example:9")
    monkeypatch.setattr(guard, "resolve", lambda host, port: ["127.0.0.1"])
    monkeypatch.setattr(guard, "is_inside", lambda address: False)
    assert detect(world) == 2
    assert detect(world, "--allow-remote-inference") == 1
    assert "rf.example failed (ConnectError)" in capsys.readouterr().err


def test_a_wrong_key_is_wrong_use(world, monkeypatch, capsys):
    """Exit code 2 and a line without the key, though the server repeats it."""
    with TinyServer(lambda asked: Answer({"message": f"bad {KEY}"}, 401)).run() as server:
        monkeypatch.setenv("FACEFOG_ROBOFLOW_URL", server.url)
        assert detect(world) == 2
    output = capsys.readouterr()
    assert "401" in output.err
    assert KEY not in output.out + output.err
