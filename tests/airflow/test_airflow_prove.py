"""ProveOperator: a gate on what a store holds."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException
from fog_lake import DETECTOR, Lake, xcom

from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy
from airflow_facefog.job.model import Attempt, Place, PlanRequest, RunIdentity
from airflow_facefog.operators.prove import ProveOperator

PLACES = {"source": "raw", "destination": "clean", "audit": "audit"}


@pytest.fixture
def published(lake: Lake) -> Lake:
    """A lake with three published photos, under the key of the connection ``facefog_key``."""
    from airflow_facefog.job.batch import run_batch
    from airflow_facefog.job.finalise import finalise
    from airflow_facefog.job.plan import make_plan

    lake.photos(3)
    keys = KeyRing.from_master(bytes.fromhex("5a" * 32))
    places = {name: Place.parse(getattr(lake, path)) for name, path in PLACES.items()}
    detector = {**DETECTOR, "options": {"control": str(lake.control)}}
    request = PlanRequest(identity=RunIdentity("d", "r", "t"), policy=FogPolicy(), detector=detector, **places)
    refs = make_plan(request, keys)
    for ref in refs:
        run_batch(ref["plan"], ref["batch"], attempt=Attempt("a"), keys=keys)
    finalise(refs[0]["plan"], attempt=Attempt("b"), keys=keys)
    return lake


def operator(lake: Lake, **changes: Any) -> ProveOperator:
    """The operator over a lake."""
    settings = {"store": str(lake.clean), "audit": str(lake.audit), "key_conn_id": "facefog_key", **changes}
    return ProveOperator(task_id="prove", **settings)


def test_a_clean_store_passes(published: Lake) -> None:
    """Counts and the report's URI come back; no name of any object does."""
    result = operator(published, report=str(published.root / "report")).execute({})  # type: ignore[arg-type]
    assert (result["clean"], result["proven"], result["current"]) == (True, 3, 3)
    assert result["report_uri"] == f"file://{published.root}/report/proof.json"
    assert "person" not in json.dumps(result)
    assert {path.name for path in (published.root / "report").iterdir()} == {
        "proof.json",
        "proof.parquet",
        "proof.html",
    }


def test_one_glob_as_a_text_is_no_list_of_characters(published: Lake) -> None:
    """A template renders to a text; its lone ``*`` must not leave out the raw photo."""
    shutil.copy(published.raw / "person-1.jpg", published.clean / "data" / "x.jpg")
    shutil.copy(published.raw / "person-2.jpg", published.clean / "data" / "x.tmp")
    with pytest.raises(AirflowFailException, match="1 raw-match"):
        operator(published, ignore="*.tmp").execute({})  # type: ignore[arg-type]


def test_a_head_that_is_not_in_the_chain_fails(published: Lake) -> None:
    """What an earlier task returned must still be there: else the newest runs were cut off."""
    head = operator(published).execute({})["audit_head"]  # type: ignore[arg-type]
    assert operator(published, expect_head=head).execute({})["clean"]  # type: ignore[arg-type]
    with pytest.raises(AirflowFailException, match="the audit does not verify"):
        operator(published, expect_head="9:" + "0" * 64).execute({})  # type: ignore[arg-type]


def test_a_raw_photo_fails_the_task_at_once(published: Lake, caplog: pytest.LogCaptureFixture) -> None:
    """It is a permanent failure with counts; the name stands in the report alone, which is written."""
    shutil.copy(published.raw / "person-1.jpg", published.clean / "data" / "secret-name.jpg")
    caplog.set_level(logging.DEBUG)
    with pytest.raises(AirflowFailException, match="1 raw-match") as caught:
        operator(published, report=str(published.root / "report")).execute({})  # type: ignore[arg-type]
    assert "secret-name" not in str(caught.value) + caplog.text
    assert "secret-name" in Path(published.root / "report" / "proof.html").read_text()


def test_wrong_settings_fail_at_once(published: Lake) -> None:
    """A report inside the store, a relative folder and a missing key connection are permanent."""
    for changes in ({"report": str(published.clean / "r")}, {"store": "clean"}, {"key_conn_id": "nothing_there"}):
        with pytest.raises(AirflowFailException):
            operator(published, **changes).execute({})  # type: ignore[arg-type]
    assert not (published.clean / "r").exists()


def test_its_places_are_templated() -> None:
    """Everything that differs between runs can be a template; every template field is an argument."""
    made = ProveOperator(task_id="t", store="{{ ds }}", audit="x")
    assert {"store", "audit", "report", "ignore"} <= set(made.template_fields)
    assert all(hasattr(made, name) for name in made.template_fields)


def test_a_gate_in_a_dag(published: Lake, run_dag: Any, session: Any) -> None:
    """The task passes over a clean store and fails the run over one with a foreign object."""
    with DAG("prove_gate", schedule=None) as dag:
        operator(published, report=str(published.root / "report"))
    run = run_dag(dag)
    assert run.state == "success"
    assert xcom(session, run, "prove")[0]["clean"] is True
    (published.clean / "data" / "notes.txt").write_text("hello")
    assert run_dag(dag).state == "failed"
