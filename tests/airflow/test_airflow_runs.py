"""Whole Dag runs in this process, with real images, files and audit; only the detector is scripted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, AssetAlias
from fog_lake import Lake, events, fog_dag, xcom

from airflow_facefog.operators.publish import EVENT_KEYS
from airflow_facefog.task_groups import fog_images

HEX = "0123456789abcdef" * 4
RunDag = Callable[..., Any]
States = Callable[[Any], dict[str, str]]


def test_single_pass(lake: Lake, run_dag: RunDag, states: States, session: Any) -> None:
    """Five photos in three batches: all published and fogged, all counted, and the asset event says so."""
    lake.photos(5)
    run = run_dag(fog_dag("single_pass", lake, outlets=[Asset("single_pass_clean")]))
    assert states(run) == {"fog.list_images": "success", "fog.publish": "success"} | {
        f"fog.fog[{index}]": "success" for index in range(3)
    }
    assert run.state == "success"
    objects = lake.objects()
    assert len(objects) == 5
    assert not set(objects.values()) & {path.read_bytes() for path in lake.raw.iterdir()}
    (result,) = xcom(session, run, "fog.publish")
    assert result["counts"]["listed"] == result["counts"]["published"] == 5
    assert result["counts"]["fogged"] == 5
    (event,) = events(session, run)
    assert event.extra == {key: result[key] for key in EVENT_KEYS}
    assert event.extra["changed"] is True


def test_published_regions_are_fogged(lake: Lake, run_dag: RunDag) -> None:
    """The published picture shows no trace of what the detector found, and keeps the rest."""
    import cv2
    import numpy as np

    raw = cv2.imdecode(np.frombuffer(lake.photo("one.jpg", 60).read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    run = run_dag(fog_dag("pixels", lake))
    assert run.state == "success"
    (data,) = lake.objects().values()
    out = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    inside = np.abs(out[20:44, 30:60].astype(int) - raw[20:44, 30:60])
    outside = np.abs(out[:, 80:].astype(int) - raw[:, 80:])
    assert inside.mean() > 30
    assert outside.mean() < 3


@pytest.mark.parametrize("key", [None, HEX])
def test_staged_publishes_the_same_bytes(
    tmp_path: Path, run_dag: RunDag, states: States, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """Detect and fog as two tasks: byte-identical objects, with and without a key."""
    monkeypatch.setenv("AIRFLOW_CONN_FOG_KEY", json.dumps({"conn_type": "generic", "password": key}))
    published = []
    for staged in (False, True):
        root = tmp_path / str(staged)
        root.mkdir()
        lake = Lake(root)
        lake.photos(3)
        # the key of the noise is the image's and the master key's, not the place's: two lakes may be compared
        name = f"same_bytes_{staged}_{key is None}"
        run = run_dag(fog_dag(name, lake, staged=staged, key_conn_id="fog_key" if key else None))
        assert run.state == "success"
        published.append(lake.objects())
        if staged:
            assert states(run)["fog.batch.detect[1]"] == "success"
    assert len(published[0]) == 3
    assert published[0] == published[1]


def test_second_run_skips_what_is_done(lake: Lake, run_dag: RunDag, session: Any) -> None:
    """The same photos again: nothing is decoded, the delta is empty, the event says nothing changed."""
    lake.photos(2)
    clean = Asset("skipping_clean")
    first = run_dag(fog_dag("skipping", lake, outlets=[clean]))
    second = run_dag(fog_dag("skipping", lake, outlets=[clean]))
    assert (first.state, second.state) == ("success", "success")
    (result,) = xcom(session, second, "fog.publish")
    assert result["counts"]["skipped"] == 2
    assert result["changed"] is False
    (event,) = events(session, second)
    assert event.extra["changed"] is False


def test_alias_speaks_of_the_destination_and_only_of_changes(lake: Lake, run_dag: RunDag, session: Any) -> None:
    """A templated destination gets its event through an alias; an empty delta makes none."""
    lake.photos(1)
    kwargs = {"asset_alias": "clean_alias", "destination": f"{lake.root}/{{{{ 'cl' + 'ean' }}}}"}
    (event,) = events(session, run_dag(fog_dag("aliased", lake, **kwargs)))
    assert event.asset.uri == f"file://{lake.clean}"
    assert event.extra["counts"]["published"] == 1
    assert events(session, run_dag(fog_dag("aliased", lake, asset_alias=AssetAlias("clean_alias")))) == []


@pytest.mark.parametrize("staged", [False, True])
def test_empty_source_finalises(lake: Lake, run_dag: RunDag, states: States, session: Any, staged: bool) -> None:
    """No photos: one empty batch, a finished run with zero counts, no failure."""
    run = run_dag(fog_dag("empty", lake, staged=staged))
    assert run.state == "success"
    batches = ["fog.batch.detect[0]", "fog.batch.fog[0]"] if staged else ["fog.fog[0]"]
    assert states(run) == dict.fromkeys(["fog.list_images", *batches, "fog.publish"], "success")
    assert xcom(session, run, "fog.publish")[0]["counts"]["listed"] == 0


def test_policy_file_is_templated_and_relative(lake: Lake, run_dag: RunDag, session: Any, tmp_path: Path) -> None:
    """The yaml is found by Airflow's own template search, rendered, and decides the run."""
    lake.photos(1)
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "p.yaml").write_text("name: from-file\nrules:\n  face: {min_confidence: {{ params.threshold }}}\n")
    with DAG("policy_file", schedule=None, params={"threshold": 0.35}, template_searchpath=[str(policies)]) as dag:
        fog_images("fog", **lake.places, policy="p.yaml")
    assert run_dag(dag).state == "success"
    (plan,) = lake.audit.rglob("plan.json")
    policy = json.loads(plan.read_text())["policy"]
    assert (policy["name"], policy["rules"]["face"]["min_confidence"]) == ("from-file", 0.35)


def test_max_map_length_bounds_the_list(
    lake: Lake, run_dag: RunDag, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More images than batches allowed: batches grow, or Airflow would fail the list task."""
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    lake.photos(5)
    run = run_dag(fog_dag("many", lake, batch_images=1))
    assert run.state == "success"
    assert [entry["n"] for entry in xcom(session, run, "fog.list_images")[0]] == [4, 1]


def test_sql_audit_is_written(lake: Lake, run_dag: RunDag, monkeypatch: pytest.MonkeyPatch) -> None:
    """``audit_sql_conn_id`` fills the tables of the audit through the connection's hook."""
    import sqlite3

    database = lake.root / "audit.db"
    monkeypatch.setenv("AIRFLOW_CONN_AUDIT_DB", json.dumps({"conn_type": "sqlite", "host": str(database)}))
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    lake.photos(3)
    assert run_dag(fog_dag("sql_audit", lake, audit_sql_conn_id="audit_db")).state == "success"
    with sqlite3.connect(database) as db:
        assert db.execute("select status, dag_id, published from facefog_run").fetchall() == [("final", "sql_audit", 3)]
        assert db.execute("select count(*) from facefog_image where status = 'published'").fetchone() == (3,)
        assert db.execute("select count(*) from facefog_detection where action = 'fogged'").fetchone() == (3,)
