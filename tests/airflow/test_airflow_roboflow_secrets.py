"""The API key is nowhere but in the Authorization header: logs, XCom, rendered fields, task state, exceptions, URLs, audit.

Airflow's own log masker is switched off here: what it would hide must not be there in the first place.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from fog_lake import Lake
from roboflow_world import GOOD_KEY, StandIn, connection

from airflow_facefog.detectors.roboflow import http, pace
from airflow_facefog.operators.roboflow import (
    RoboflowDownloadDatasetOperator,
    RoboflowGenerateVersionOperator,
    RoboflowModelMetricsOperator,
    RoboflowModelVersionSensor,
    RoboflowSearchUniverseOperator,
    RoboflowTrainOperator,
    RoboflowUploadImagesOperator,
)
from airflow_facefog.task_groups import fog_images

sys.path.insert(0, str(Path(__file__).parents[1] / "roboflow"))
from hookkit import told

KEY_BYTES = GOOD_KEY.encode()
QUOTED = {"error": {"message": f"bad key {GOOD_KEY}: GET https://api.example.com/?api_key={GOOD_KEY}&x=1"}}


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    """One stand-in for this module."""
    with StandIn() as server:
        yield server


@pytest.fixture(autouse=True)
def standin(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """In its first state; two quick tries; no masker."""
    from airflow._shared.secrets_masker import SecretsMasker as CoreMasker
    from airflow.sdk._shared.secrets_masker import SecretsMasker

    for masker in (SecretsMasker, CoreMasker):
        monkeypatch.setattr(masker, "add_mask", lambda *_, **__: None)
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(http, "LONGEST_WAIT_S", 0.001)
    monkeypatch.setattr(http, "TRIES", 2)
    monkeypatch.setattr(pace, "BREAK_AFTER", 10_000)
    pace._paces.clear()
    server.reset()
    server.world.projects["stand-in/faces"].public = False
    return server


def _every_operator(dag_id: str, lake: Lake, seen: list[BaseException]) -> DAG:
    """All of them, none behind another."""

    def failed(context: Any) -> None:
        seen.append(context["exception"])

    common = {"on_failure_callback": failed, "retries": 0}
    version = {"project": "stand-in/faces", "version": 1}
    with DAG(dag_id, schedule=None, default_args=common) as dag:
        RoboflowSearchUniverseOperator(task_id="search", query="faces")
        RoboflowDownloadDatasetOperator(task_id="download", **version, folder=str(lake.root / "sets" / dag_id))
        RoboflowUploadImagesOperator(
            task_id="upload", project="stand-in/faces", privacy="private", source=str(lake.raw), audit=str(lake.audit)
        )
        RoboflowGenerateVersionOperator(
            task_id="version", project="stand-in/faces", poll_interval=0.01, deferrable=True
        )
        RoboflowTrainOperator(task_id="train", **version, model_type="yolov11s", poll_interval=0.01, deferrable=False)
        RoboflowModelMetricsOperator(task_id="metrics", **version, destination=str(lake.root / "models"))
        RoboflowModelVersionSensor(task_id="sensor", **version, deferrable=False, poke_interval=0.01, timeout=0.05)
        detector = {"kind": "roboflow", "model_id": "faces/1", "conn_id": "roboflow_default"}
        policy = {"accept_no_canary": True}
        more = {"detector": detector, "policy": policy, "retries": 0, "on_failure_callback": failed}
        fog_images("fog", **{**lake.places, **more})
    return dag


FAULTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{
        str(status): ("*", "status", {"status": status, "body": QUOTED})
        for status in (400, 401, 402, 403, 404, 409, 413, 422, 423, 429, 500, 502, 503)
    },
    "html": ("*", "html", {}),
    "stall": ("*", "stall", {"seconds": 5}),
    "reset": ("*", "reset", {}),
    "cut": ("*", "reset", {"when": "middle"}),
    "redirect": ("*", "redirect", {"location": f"http://127.0.0.1:9/?api_key={GOOD_KEY}"}),
    "answer": ("*", "body", {"body": QUOTED}),
    "zip": ("/ds/*", "zip_slip", {}),
    "bomb": ("/ds/*", "zip_bad_crc", {}),
    "none": ("/never", "html", {}),
}


IN_QUERY = ("401", "503", "reset", "redirect", "none")


@pytest.mark.parametrize(
    ("case", "auth"), [*((case, "header") for case in FAULTS), *((case, "query") for case in IN_QUERY)]
)
def test_the_key_is_nowhere(
    case: str, auth: str, standin: StandIn, run_dag: Callable[..., Any], states: Any, lake: Lake,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Whatever the server does, and even if it quotes the key back."""
    lake.photos(2)
    monkeypatch.setenv(
        "AIRFLOW_CONN_ROBOFLOW_DEFAULT", connection(standin.url, auth=auth, timeout_s=0.2 if case == "stall" else 2)
    )
    path, fault, params = FAULTS[case]
    standin.script(path, fault, times=None, **params)
    seen: list[BaseException] = []
    caplog.set_level("DEBUG")

    run = run_dag(_every_operator(f"secrets_{case}_{auth}", lake, seen))

    expected = "success" if case == "none" else "failed"
    assert run.state == expected, states(run)
    assert bool(seen) == (case != "none")
    shown = "\n".join(told(error) for error in seen)
    out = capfd.readouterr()
    assert GOOD_KEY not in shown
    assert GOOD_KEY not in out.out + out.err + caplog.text
    for place in (Path(os.environ["AIRFLOW_HOME"]), lake.root):
        holding = [file for file in place.rglob("*") if file.is_file() and KEY_BYTES in file.read_bytes()]
        assert holding == []
    in_urls = [r.path for r in standin.requests() if GOOD_KEY in r.path + r.raw_query]
    assert bool(in_urls) == (auth == "query")
