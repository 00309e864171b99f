"""The Roboflow example Dags against the stand-in server: from a Universe dataset to published photos."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models.variable import Variable
from fog_lake import Lake, portrait, xcom

import airflow_facefog

sys.path.insert(0, str(Path(__file__).parents[1] / "roboflow"))
from standin import GOOD_KEY, StandIn

DAGS = Path(airflow_facefog.__file__).parents[1] / "dags"
RunDag = Callable[..., Any]


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    """One stand-in for this module."""
    with StandIn() as server:
        yield server


@pytest.fixture
def standin(server: StandIn, monkeypatch: pytest.MonkeyPatch, lake: Lake) -> StandIn:
    """The stand-in in its first state behind ``roboflow_default``; the tutorial's own project is private."""
    server.reset()
    server.world.projects["stand-in/faces"].public = False
    extra = {"api_url": server.url, "timeout_s": 20}
    connection = {"conn_type": "roboflow", "password": GOOD_KEY, "host": server.url, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_ROBOFLOW_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW_VAR_FACEFOG_LAKE", str(lake.root))
    return server


def _dag(dag_id: str) -> Any:
    dag = DagBag(dag_folder=str(DAGS)).dags[dag_id]
    for task in dag.tasks:
        if hasattr(task, "poll_interval"):
            task.poll_interval = 0.05
    return dag


def _train(run_dag: RunDag, **conf: Any) -> Any:
    return run_dag(_dag("train_face_model"), run_conf={"model_type": "yolov11s", "epochs": 4, **conf})


def test_from_universe_to_published_photos(
    standin: StandIn, run_dag: RunDag, states: Any, session: Any, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way of the tutorial: dataset, upload, version, training, metrics, default model, fogged photo."""
    run = _train(run_dag)
    assert set(states(run).values()) == {"success"}, states(run)
    (scores,) = xcom(session, run, "metrics")
    assert (scores["map50"], scores["model_id"], scores["epochs"]) == (0.915, "faces/3", 4)
    (counts,) = xcom(session, run, "upload")
    assert (counts["listed"], counts["uploaded"], counts["refused"]) == (4, 4, 0)

    (lake.raw / "portrait.jpg").write_bytes(portrait())
    session.rollback()  # a new snapshot: the last task wrote the variable after this session's began
    assert session.query(Variable).filter_by(key="facefog_model").one().val == "faces/3"
    monkeypatch.setenv("AIRFLOW_VAR_FACEFOG_MODEL", "faces/3")  # dag.test may not see a variable set in this process
    fogged = run_dag(_dag("fog_with_roboflow"))
    assert fogged.state == "success", states(fogged)
    (published,) = xcom(session, fogged, "fog_images.publish")
    assert (published["counts"]["published"], published["counts"]["fogged"]) == (1, 1)
    assert {r.headers.get("authorization") for r in standin.requests("/faces/3")} == {f"Bearer {GOOD_KEY}"}


def test_a_weak_model_does_not_become_the_default(standin: StandIn, run_dag: RunDag, states: Any, session: Any) -> None:
    """The gate is the last step: below the wanted mAP the run fails and the variable stays."""
    session.query(Variable).filter_by(key="facefog_model").delete()
    session.add(Variable(key="facefog_model", val="faces/1"))
    session.commit()
    run = _train(run_dag, min_map50=0.99)
    assert states(run)["promote"] == "failed"
    assert session.query(Variable).filter_by(key="facefog_model").one().val == "faces/1"


def test_a_failed_training_fails_the_run_at_once(standin: StandIn, run_dag: RunDag, states: Any) -> None:
    """The client would return a model; the operator fails, without a retry, and nothing is measured."""
    standin.world.training_outcome = "failed"
    run = _train(run_dag)
    assert (states(run)["train"], states(run)["metrics"]) == ("failed", "upstream_failed")
    assert len(standin.requests("/stand-in/faces/3/v2/trainings", "POST")) == 1


def test_the_hosted_api_is_refused_without_permission(
    standin: StandIn, run_dag: RunDag, states: Any, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an address outside the network no photo is sent unless the run allows it."""
    from airflow_facefog.detectors.roboflow import guard

    monkeypatch.setattr(guard, "is_inside", lambda address: False)
    (lake.raw / "portrait.jpg").write_bytes(portrait())
    run = run_dag(_dag("fog_with_roboflow"), run_conf={"model_id": "faces/2"})
    assert states(run)["fog_images.list_images"] == "failed"
    assert standin.requests("/faces/2") == []
