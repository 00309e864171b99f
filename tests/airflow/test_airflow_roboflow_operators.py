"""Roboflow operators, sensor and trigger: started once, found again, cancelled on kill, never a failure hidden."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.serialization.serialized_objects import DagSerialization
from airflow.triggers.base import TriggerEvent
from roboflow_world import GOOD_KEY, StandIn, Store, connection, context

from airflow_facefog.core.errors import ConfigurationError, TransientError
from airflow_facefog.detectors.roboflow import http, pace
from airflow_facefog.hooks import roboflow_wait
from airflow_facefog.operators.roboflow import (
    RoboflowDownloadDatasetOperator,
    RoboflowGenerateVersionOperator,
    RoboflowModelMetricsOperator,
    RoboflowModelVersionSensor,
    RoboflowSearchUniverseOperator,
    RoboflowTrainOperator,
    RoboflowUploadImagesOperator,
)
from airflow_facefog.triggers.roboflow import FAULTS_IN_A_ROW, RoboflowTrigger

TRAININGS = "/stand-in/faces/1/v2/trainings"


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    """One stand-in for this module."""
    with StandIn() as server:
        yield server


@pytest.fixture(autouse=True)
def standin(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """In its first state, behind ``roboflow_default``; back-off in milliseconds, a breaker that bears these tests."""
    monkeypatch.setattr(pace, "BREAK_AFTER", 10_000)
    pace._paces.clear()
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(http, "LONGEST_WAIT_S", 0.002)
    server.reset()
    server.world.projects["stand-in/faces"].public = False
    monkeypatch.setenv("AIRFLOW_CONN_ROBOFLOW_DEFAULT", connection(server.url))
    return server


def _train(**options: Any) -> RoboflowTrainOperator:
    settings = {"project": "faces", "version": "1", "model_type": "yolov11s", "epochs": "2", "poll_interval": 0.01}
    return RoboflowTrainOperator(task_id="t", **{**settings, "deferrable": False, **options})


def _version(**options: Any) -> RoboflowGenerateVersionOperator:
    return RoboflowGenerateVersionOperator(
        task_id="t", project="faces", **{"poll_interval": 0.01, "deferrable": False, **options}
    )


def test_search() -> None:
    """Plain values for the next task."""
    found = RoboflowSearchUniverseOperator(task_id="t", query="open-faces").execute(context())
    assert json.loads(json.dumps(found))[0]["project"] == "universe-people/open-faces"


def test_download(tmp_path: Path) -> None:
    """Templates render versions to text."""
    folder = str(tmp_path / "set")
    operator = RoboflowDownloadDatasetOperator(
        task_id="t", project="universe-people/open-faces", version="1", folder=folder
    )
    first = operator.execute(context())
    assert (first["images"], first["folder"]) == (6, folder)
    assert operator.execute(context()) == first


@pytest.mark.parametrize(("folder", "version"), [("data/set", 1), ("/tmp/x", "latest"), ("/tmp/x", 0)])
def test_download_refuses_what_cannot_be_meant(standin: StandIn, folder: str, version: Any) -> None:
    """At once, without a request for the dataset."""
    operator = RoboflowDownloadDatasetOperator(task_id="t", project="a/b", version=version, folder=folder)
    with pytest.raises(AirflowFailException):
        operator.execute(context())
    assert standin.requests() == []


def test_a_version_is_generated(standin: StandIn) -> None:
    """Waited for, and its number returned; nothing is stretched by default."""
    standin.world.generating_polls = 3
    store = Store()
    assert _version().execute(context(store)) == 3
    assert store == {"facefog_version": {"id": "3"}}
    assert standin.world.projects["stand-in/faces"].versions["3"].preprocessing == {"auto-orient": True}


def test_a_training_runs_to_its_end(standin: StandIn) -> None:
    """Its id is stored before the first look; the result names the model."""
    store = Store()
    result = _train().execute(context(store))
    assert (result["status"], result["model_id"], result["version"]) == ("finished", "faces/1", 1)
    assert store["facefog_training"] == {"id": result["training_id"]}
    assert standin.world.projects["stand-in/faces"].versions["1"].trainings[0].epochs == 2


START: dict[str, Callable[..., Any]] = {TRAININGS: _train, "/stand-in/faces/generate": _version}


@pytest.mark.parametrize("path", START)
@pytest.mark.parametrize("when", ["before", "middle"])
def test_a_lost_answer_starts_nothing_twice(standin: StandIn, path: str, when: str) -> None:
    """The server did it and the answer was lost: the next try finds what is there now and was not before."""
    standin.script(path, "reset", method="POST", when=when)
    store = Store()
    with pytest.raises(TransientError):
        START[path]().execute(context(store))
    START[path]().execute(context(store, "try-2"))
    assert len(standin.requests(path, "POST")) == 1


@pytest.mark.parametrize("path", START)
def test_a_refused_start_is_tried_again(standin: StandIn, path: str) -> None:
    """Nothing was started: the next try may."""
    standin.script(path, "status", status=503, method="POST")
    store = Store()
    with pytest.raises(TransientError):
        START[path]().execute(context(store))
    START[path]().execute(context(store, "try-2"))
    assert [r.status for r in standin.requests(path, "POST")] == [503, 200]


def test_two_new_trainings_are_not_guessed_between(standin: StandIn) -> None:
    """Somebody else started one in between: a person decides."""
    standin.script(TRAININGS, "reset", method="POST", when="before")
    store = Store()
    with pytest.raises(TransientError):
        _train().execute(context(store))
    _train().execute(context(Store()))
    with pytest.raises(AirflowFailException, match="2 jobs"):
        _train().execute(context(store, "try-2"))


def test_a_crashed_worker_re_attaches(standin: StandIn) -> None:
    """The training goes on; the second try waits for the same one."""
    store = Store()
    with pytest.raises(TransientError, match="not ready"):
        _train(timeout=timedelta(0)).execute(context(store))
    result = _train().execute(context(store, "try-2"))
    assert result["training_id"] == store["facefog_training"]["id"]
    assert len(standin.requests(TRAININGS, "POST")) == 1


@pytest.mark.parametrize("outcome", ["failed", "cancelled", "stopped"])
def test_a_training_that_ends_badly_fails_at_once(standin: StandIn, outcome: str) -> None:
    """No retry by Airflow; whoever clears the task gets a new training."""
    standin.world.training_outcome = outcome
    store = Store()
    with pytest.raises(AirflowFailException, match=outcome):
        _train().execute(context(store))
    standin.world.training_outcome = "finished"
    assert _train().execute(context(store, "cleared"))["status"] == "finished"
    assert len(standin.requests(TRAININGS, "POST")) == 2


def _killed_while_waiting(monkeypatch: pytest.MonkeyPatch, operator: RoboflowTrainOperator) -> None:
    """Let the operator's wait begin with the signal that a worker gets; then it goes on, as a slow one may."""

    def poll(*args: Any) -> str:
        operator.on_kill()
        return roboflow_wait.poll(*args)

    monkeypatch.setattr("airflow_facefog.operators.roboflow.base.poll", poll)


def test_a_kill_cancels_the_training(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of the wait, as a worker does it."""
    operator = _train()
    _killed_while_waiting(monkeypatch, operator)
    with pytest.raises(AirflowFailException, match="cancelled"):
        operator.execute(context())
    assert [r.status for r in standin.requests(TRAININGS + "/cancel")] == [200]


def test_a_kill_that_cannot_cancel_is_quiet(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task is killed anyway; a key never shows. Before and after a training there is nothing to cancel."""
    operator = _train()
    operator.on_kill()
    standin.script(TRAININGS + "/cancel", "status", status=500, times=None)
    _killed_while_waiting(monkeypatch, operator)
    operator.execute(context())
    operator.on_kill()
    assert {r.status for r in standin.requests(TRAININGS + "/cancel")} == {500}


def test_a_training_is_not_cancelled_when_that_was_said(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """``cancel_on_kill=False``: it may serve somebody else."""
    operator = _train(cancel_on_kill=False)
    _killed_while_waiting(monkeypatch, operator)
    assert operator.execute(context())["status"] == "finished"
    assert standin.requests(TRAININGS + "/cancel") == []


def test_epochs_go_into_a_recipe() -> None:
    """Beside a recipe the server would silently take its own; what the recipe says wins."""
    settings = _train(train_recipe={"hyperparameters": {"lr": 1}}, epochs=7)._settings()
    assert settings["trainRecipe"] == {"hyperparameters": {"epochs": 7, "lr": 1}}
    settings = _train(train_recipe={"hyperparameters": {"epochs": 3}}, epochs=7)._settings()
    assert settings["trainRecipe"]["hyperparameters"] == {"epochs": 3}


def test_no_waiting_when_that_was_said(standin: StandIn) -> None:
    """The sensor may wait elsewhere."""
    assert _train(wait=False).execute(context())["status"] == "started"
    assert _version(wait=False).execute(context()) == 3


def test_metrics(standin: StandIn, tmp_path: Path) -> None:
    """Small values in XCom, the rest in files."""
    _train().execute(context())
    operator = RoboflowModelMetricsOperator(task_id="t", project="faces", version="1", destination=str(tmp_path))
    result = operator.execute(context())
    assert (result["map50"], result["epochs"]) == (0.915, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.parquet", "curves.png", "metrics.json"]
    assert operator.execute(context()) == result
    json.dumps(result)


# --- waiting in the triggerer -----------------------------------------------------------------------------------------


def _deferred(operator: Any, store: Store) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(context(store))
    return caught.value


def _fire(trigger: RoboflowTrigger) -> TriggerEvent:
    async def first() -> TriggerEvent:
        return await anext(trigger.run())

    return asyncio.run(first())


@pytest.mark.parametrize("make", [_train, _version])
def test_waiting_in_the_triggerer(standin: StandIn, make: Callable[..., Any]) -> None:
    """The job is stored before the task defers; the trigger survives its serialisation and holds no key."""
    standin.world.generating_polls = 2
    store = Store()
    deferral = _deferred(make(deferrable=True, poll_interval=0.01), store)
    path, kwargs = deferral.trigger.serialize()
    assert path == f"{RoboflowTrigger.__module__}.RoboflowTrigger"
    assert GOOD_KEY not in json.dumps(kwargs) + repr(deferral.trigger)
    assert deferral.timeout == timedelta(hours=12)
    event = _fire(RoboflowTrigger(**json.loads(json.dumps(kwargs))))
    assert event.payload == {"status": "finished"}
    done = make(deferrable=True).execute_complete(context(store), event.payload)
    assert done in (3, {**done, "status": "finished"} if isinstance(done, dict) else None)


def test_a_failed_training_is_told_by_the_trigger(standin: StandIn) -> None:
    """The event says how it ended; the task fails at once."""
    standin.world.training_outcome = "failed"
    store = Store()
    event = _fire(_deferred(_train(deferrable=True, poll_interval=0.01), store).trigger)
    with pytest.raises(AirflowFailException, match="failed"):
        _train(deferrable=True).execute_complete(context(store), event.payload)


def test_the_trigger_waits_out_single_faults(standin: StandIn) -> None:
    """Nine looks may fail; then the training is finished."""
    store = Store()
    trigger = _deferred(_train(deferrable=True, poll_interval=0.001), store).trigger
    standin.script(TRAININGS + "/get", "status", status=503, times=5 * (FAULTS_IN_A_ROW - 1))
    assert _fire(trigger).payload == {"status": "finished"}


@pytest.mark.parametrize(("status", "error"), [(403, AirflowFailException), (503, TransientError)])
def test_the_trigger_tells_what_stops_it(standin: StandIn, status: int, error: type[Exception]) -> None:
    """Permanent at once, transient after ten; the message holds no key."""
    store = Store()
    trigger = _deferred(_train(deferrable=True, poll_interval=0.001), store).trigger
    standin.script(TRAININGS + "/get", "status", status=status, times=None, body={"error": f"key {GOOD_KEY}"})
    event = _fire(trigger)
    assert GOOD_KEY not in str(event.payload)
    with pytest.raises(error, match=str(status)):
        _train(deferrable=True).execute_complete(context(store), event.payload)


@pytest.mark.parametrize("event", [None, {}])
def test_a_silent_trigger_is_no_success(event: Any) -> None:
    """Airflow may resume a task without an event."""
    with pytest.raises(TransientError):
        _train().execute_complete(context(Store({"facefog_training": {"id": "x"}})), event)


@pytest.mark.parametrize(("cancel", "status"), [(True, "cancelled"), (False, "queued")])
def test_a_person_who_ends_the_deferred_task_ends_the_training(standin: StandIn, cancel: bool, status: str) -> None:
    """``on_kill`` of the trigger is called for that alone, not when a triggerer restarts."""
    trigger = _deferred(_train(deferrable=True, cancel_on_kill=cancel), Store()).trigger
    asyncio.run(trigger.on_kill())
    assert standin.world.projects["stand-in/faces"].versions["1"].trainings[0].status == status


def test_the_trigger_refuses_a_wait_that_is_none() -> None:
    """A training without id would never end."""
    with pytest.raises(ConfigurationError):
        _fire(RoboflowTrigger(None, {"wait": "training", "project": "a/b", "version": "1"}))


# --- the sensor -------------------------------------------------------------------------------------------------------


def _sensor(**options: Any) -> RoboflowModelVersionSensor:
    return RoboflowModelVersionSensor(
        task_id="t", project="faces", version="1", **{"poke_interval": 0.01, "deferrable": False, **options}
    )


def test_the_sensor_waits_for_a_model(standin: StandIn) -> None:
    """A version that is only data is not ready."""
    assert _sensor().poke(context())
    standin.world.models["faces/1"].retired = True
    assert not _sensor().poke(context())


def test_the_sensor_defers_only_when_it_must(standin: StandIn) -> None:
    """A model that is there costs no trigger; else the trigger sees it come."""
    assert _sensor(deferrable=True).execute(context()) is None
    standin.world.models["faces/1"].retired = True
    with pytest.raises(TaskDeferred) as caught:
        _sensor(deferrable=True).execute(context())
    standin.world.models["faces/1"].retired = False
    event = _fire(caught.value.trigger)
    assert _sensor().execute_complete(context(), event.payload) is None


def test_the_sensor_fails_on_what_waiting_cannot_mend(standin: StandIn) -> None:
    """A project that does not exist never gets a model."""
    sensor = RoboflowModelVersionSensor(task_id="t", project="nothing", version=1, deferrable=False)
    with pytest.raises(AirflowFailException, match="404"):
        sensor.poke(context())


# --- uploads ----------------------------------------------------------------------------------------------------------


def test_an_upload_of_a_folder(standin: StandIn, lake: Any) -> None:
    """Counts in XCom, rows in the audit; a second try sends nothing."""
    lake.photos(3)
    operator = RoboflowUploadImagesOperator(
        task_id="t", project="faces", privacy="private", source=str(lake.raw), audit=str(lake.audit), tags=["a"]
    )
    result = operator.execute(context())
    assert (result["project"], result["listed"], result["uploaded"]) == ("stand-in/faces", 3, 3)
    assert operator.execute(context(attempt="try-2"))["known"] == 3
    assert len(standin.requests("/dataset/*")) == 3
    parts = [path.relative_to(lake.audit).as_posix() for path in lake.audit.rglob("*.parquet")]
    assert len(parts) == 3
    assert all(part.startswith("egress/") and "/try-1/" in part for part in parts)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"privacy": "secret"}, "privacy"),
        ({"split": "all"}, "split"),
        ({"audit": None}, "audit"),
        ({"source": None}, "either source"),
        ({"plan": "p", "select": "quarantined"}, "either source"),
        ({"source": None, "plan": "p"}, "either source"),
        ({"source": None, "plan": "p", "select": "quarantined"}, "allow_raw_upload=True"),
    ],
)
def test_an_upload_that_nobody_can_mean_breaks_the_dag(wrong: dict[str, Any], says: str) -> None:
    """While it is parsed. Raw pictures of a run need a sentence of their own."""
    settings = {"project": "faces", "privacy": "private", "source": "/raw", "audit": "/audit", **wrong}
    with pytest.raises(ConfigurationError, match=says):
        RoboflowUploadImagesOperator(task_id="t", **settings)


def test_privacy_has_no_default() -> None:
    """Nobody publishes faces by leaving an argument out."""
    from airflow.sdk.exceptions import AirflowException

    with pytest.raises((TypeError, AirflowException)):
        RoboflowUploadImagesOperator(task_id="t", project="faces", source="/raw", audit="/audit")  # type: ignore[call-arg]


def test_the_audit_may_not_lie_in_the_source(lake: Any) -> None:
    """Its own files would be uploaded next time."""
    operator = RoboflowUploadImagesOperator(
        task_id="t", project="faces", privacy="private", source=str(lake.root), audit=str(lake.audit)
    )
    with pytest.raises(AirflowFailException, match="overlap"):
        operator.execute(context())


# --- parsing ----------------------------------------------------------------------------------------------------------


def test_parsing_loads_nothing_heavy(tmp_path: Path) -> None:
    """Operators and trigger cost what Airflow itself costs, and nothing more."""
    base = "from airflow.sdk import BaseOperator, BaseSensorOperator\nfrom airflow.triggers.base import BaseTrigger\n"
    ours = (
        "import airflow_facefog.operators.roboflow, airflow_facefog.triggers.roboflow, airflow_facefog.hooks.roboflow\n"
    )
    added = _loaded(base + ours, tmp_path) - _loaded(base, tmp_path)
    assert {name.partition(".")[0] for name in added} & HEAVY == set()
    assert not any(name.endswith((".http", ".transport", ".detector")) and "roboflow" in name for name in added)


HEAVY = {"roboflow", "httpx", "httpcore", "requests", "cv2", "numpy", "pyarrow", "PIL", "tenacity", "sqlalchemy"}


def _loaded(code: str, home: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(' '.join(sys.modules))"],
        capture_output=True, text=True, check=True, env={**os.environ, "AIRFLOW_HOME": str(home)},
    )  # fmt: skip
    return set(done.stdout.split())


def test_dags_of_our_operators_survive_serialisation() -> None:
    """The scheduler sees the same tasks; template fields hold what was written."""
    with DAG("roboflow_all", schedule=None) as dag:
        RoboflowTrainOperator(task_id="train", project="{{ params.p }}", version=1, model_type="x")
        RoboflowGenerateVersionOperator.partial(task_id="version").expand(project=["a/b", "c/d"])
        RoboflowModelVersionSensor(task_id="sensor", project="a/b", version=1)
    back = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert set(back.task_ids) == {"train", "version", "sensor"}
    assert back.get_task("train").project == "{{ params.p }}"
