"""The nightly example Dag over a lake that fog_photos filled: it passes, and it fails where it should."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from fog_lake import Lake, portrait, xcom

import airflow_facefog
from airflow_facefog.audit.sealed import SigningKey

DAGS = Path(airflow_facefog.__file__).parents[1] / "dags"
Nightly = Callable[[], Any]


@pytest.fixture
def night(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, run_dag: Callable[..., Any], session: Any, tmp_path: Path
) -> Nightly:
    """Run the nightly Dag on a lake with one published portrait; nights of other tests are forgotten."""
    from airflow.models.xcom import XComModel

    session.query(XComModel).filter_by(dag_id="audit_nightly").delete()
    session.commit()
    pem = json.loads(os.environ["AIRFLOW_CONN_FACEFOG_SIGNING_KEY"])["password"]
    monkeypatch.setenv("AIRFLOW_VAR_FACEFOG_LAKE", str(lake.root))
    monkeypatch.setenv("AIRFLOW_VAR_FACEFOG_PUBLIC_KEY", SigningKey.from_pem(pem.encode()).public.pem.decode())
    database = {"conn_type": "sqlite", "host": str(tmp_path / "analysts.db")}
    monkeypatch.setenv("AIRFLOW_CONN_FACEFOG_AUDIT_DB", json.dumps(database))
    (lake.raw / "portrait.jpg").write_bytes(portrait())
    bag = DagBag(dag_folder=str(DAGS)).dags
    assert run_dag(bag["fog_photos"]).state == "success"
    return lambda: run_dag(bag["audit_nightly"])


def test_a_sound_lake_passes(night: Nightly, lake: Lake, states: Any, session: Any) -> None:
    """Everything verifies and is proven, SQL is filled, a report lies in the lake; the next night is fine too."""
    for _ in range(2):
        run = night()
        assert states(run) == dict.fromkeys(("verify", "check", "load", "prove"), "success")
    assert xcom(session, run, "verify")[0]["signed"] == "all"
    assert len(list(lake.root.glob("reports/*/proof.html"))) >= 1


def test_a_raw_photo_in_the_store_fails_the_night(night: Nightly, lake: Lake, states: Any) -> None:
    """Somebody copies the original beside the clean photos: prove fails, the rest passes."""
    shutil.copy(lake.raw / "portrait.jpg", lake.clean / "data" / "copy.jpg")
    found = states(night())
    assert (found["prove"], found["verify"]) == ("failed", "success")


def test_a_cut_chain_fails_the_next_night(night: Nightly, lake: Lake, states: Any) -> None:
    """Airflow remembers the head of the night before: an audit that was set back does not verify."""
    before = lake.root / "before"
    shutil.copytree(lake.audit, before)
    (lake.raw / "more.jpg").write_bytes(portrait()[:-2] + b"\x00\xff\xd9")
    bag = DagBag(dag_folder=str(DAGS)).dags
    import fog_lake

    fog_lake.sync(bag["fog_photos"])
    bag["fog_photos"].test()
    assert states(night())["verify"] == "success"
    shutil.rmtree(lake.audit)
    shutil.copytree(before, lake.audit)
    found = states(night())
    assert found["verify"] == "failed"
    assert found["load"] == "upstream_failed"
