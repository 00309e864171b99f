"""ProveOperator: a gate on what a store holds."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from fog_lake import Lake, fog_dag

from airflow_facefog.operators.prove import ProveOperator


@pytest.fixture
def published(lake: Lake, run_dag: Any) -> Lake:
    """A lake with three published photos, made by a Dag with the key connection."""
    lake.photos(3)
    assert run_dag(fog_dag("prove_source", lake, key_conn_id="facefog_key")).state == "success"
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
