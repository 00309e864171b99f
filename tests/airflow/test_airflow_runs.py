"""Whole Dag runs in this process, with real images, files and audit; only the detector is scripted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, AssetAlias
from fog_lake import Lake, events, fog_dag, rerun, xcom

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
    assert event.extra == {
        key: result[key] for key in ("delta_uri", "snapshot_seq", "manifest_sha256", "counts", "changed")
    }
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


def test_failed_batch_fails_the_run_and_clearing_it_finishes(
    lake: Lake, run_dag: RunDag, states: States, session: Any
) -> None:
    """One batch refuses: the run fails, nothing is visible; once the cause is gone, clearing batch and publish is enough."""
    lake.photos(4)
    lake.script({"permanent": [30]})
    dag = fog_dag("one_fails", lake, outlets=[Asset("one_fails_clean")])
    run = run_dag(dag)
    assert run.state == "failed"
    assert states(run) == {
        "fog.list_images": "success", "fog.fog[0]": "success", "fog.fog[1]": "failed", "fog.publish": "failed",
    }  # fmt: skip
    assert not (lake.clean / "_facefog" / "latest.json").exists()
    assert events(session, run) == []
    first_commits = sorted(lake.audit.rglob("commits/**/*.json"))
    assert len(first_commits) == 1

    lake.script({})
    run = rerun(dag, run, [("fog.fog", 1), ("fog.publish", -1)])
    assert run.state == "success"
    assert xcom(session, run, "fog.publish")[0]["counts"]["published"] == 4
    assert first_commits[0] in sorted(lake.audit.rglob("commits/**/*.json"))
    assert len(events(session, run)) == 1


def test_a_batch_marked_as_success_does_not_pass_the_gate(lake: Lake, run_dag: RunDag, states: States) -> None:
    """What a person marked in the UI is not what was committed: finalise believes the store."""
    lake.photos(2)
    run = run_dag(fog_dag("marked", lake), mark_success_pattern="fog.fog")
    assert run.state == "failed"
    assert states(run)["fog.fog[0]"] == "success"
    assert states(run)["fog.publish"] == "failed"


def test_another_key_needs_a_new_plan(
    lake: Lake, run_dag: RunDag, states: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that changed between list and batch would mix two recipes in one run: refused until the list is cleared."""
    monkeypatch.setenv("AIRFLOW_CONN_FOG_KEY", json.dumps({"conn_type": "generic", "password": HEX}))
    lake.photos(1)
    lake.script({"permanent": [10]})
    dag = fog_dag("rotated", lake, key_conn_id="fog_key")
    run = run_dag(dag)
    lake.script({})
    monkeypatch.setenv("AIRFLOW_CONN_FOG_KEY", json.dumps({"conn_type": "generic", "password": HEX[::-1]}))
    run = rerun(dag, run, [("fog.fog", 0), ("fog.publish", -1)])
    assert states(run)["fog.fog[0]"] == "failed"
    assert not lake.clean.exists() or not lake.objects()


def test_staged_batches_fail_alone(lake: Lake, run_dag: RunDag, states: States) -> None:
    """In staged mode a failed detection holds up its own batch only."""
    lake.photos(4)
    lake.script({"permanent": [10]})
    run = run_dag(fog_dag("staged_fails", lake, staged=True))
    assert run.state == "failed"
    assert states(run) == {
        "fog.list_images": "success", "fog.batch.detect[0]": "failed", "fog.batch.fog[0]": "upstream_failed",
        "fog.batch.detect[1]": "success", "fog.batch.fog[1]": "success", "fog.publish": "failed",
    }  # fmt: skip


def test_transient_errors_are_retried_in_mapped_tasks(lake: Lake, run_dag: RunDag, session: Any) -> None:
    """The detector is busy twice: Airflow runs the batch a third time and the run succeeds."""
    lake.photos(1)
    lake.script({"transient": 2})
    run = run_dag(fog_dag("transient", lake))
    assert run.state == "success"
    session.expire_all()
    (batch,) = [ti for ti in run.get_task_instances(session=session) if ti.map_index == 0]
    assert (batch.max_tries, batch.try_number) == (2, 3)


def test_permanent_errors_are_not_retried(lake: Lake, run_dag: RunDag, session: Any) -> None:
    """A detector that cannot be trusted fails at the first try, though two retries are left."""
    lake.photos(1)
    lake.script({"permanent": [10]})
    run = run_dag(fog_dag("permanent", lake))
    session.expire_all()
    (batch,) = [ti for ti in run.get_task_instances(session=session) if ti.map_index == 0]
    assert (str(batch.state), batch.max_tries, batch.try_number) == ("failed", 2, 1)


@pytest.mark.parametrize(
    "places",
    [
        {"destination": "raw/clean"},
        {"audit": "clean/audit"},
        {"destination": "."},
    ],
)
def test_overlapping_places_are_refused_at_once(
    lake: Lake, run_dag: RunDag, states: States, session: Any, places: dict[str, str]
) -> None:
    """Raw images where consumers read, or an audit in the destination: the list task fails without a retry."""
    lake.photos(1)
    run = run_dag(fog_dag("overlap", lake, **{key: str(lake.root / value) for key, value in places.items()}))
    assert states(run)["fog.list_images"] == "failed"
    assert "fog.publish" not in {task for task, state in states(run).items() if state == "success"}
    session.expire_all()
    (listing,) = [ti for ti in run.get_task_instances(session=session) if ti.task_id == "fog.list_images"]
    assert (listing.max_tries, listing.try_number) == (2, 1)


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


def test_nothing_secret_reaches_the_metadata_database(
    lake: Lake, run_dag: RunDag, session: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """After a success, a crash with a talking message and a gate failure: no file name, no key in the database or logs."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.xcom import XComModel

    monkeypatch.setenv("AIRFLOW_CONN_FOG_KEY", json.dumps({"conn_type": "generic", "password": HEX}))
    lake.photos(4)
    lake.script({"crash": [30]})
    dag = fog_dag("secrets", lake, key_conn_id="fog_key", retries=0, outlets=[Asset("secrets_clean")])
    assert run_dag(dag).state == "failed"
    lake.script({})
    assert run_dag(dag).state == "success"
    session.expire_all()
    rows = [
        *(str(row.value) for row in session.query(XComModel).filter_by(dag_id="secrets")),
        *(str(row.rendered_fields) for row in session.query(RenderedTaskInstanceFields).filter_by(dag_id="secrets")),
        *(str(event.extra) for run in (_runs(session, "secrets")) for event in events(session, run)),
    ]
    assert len(rows) > 10
    labels = {
        ti.rendered_map_index for run in _runs(session, "secrets") for ti in run.get_task_instances(session=session)
    }
    assert labels == {None, "batch 0", "batch 1"}
    text = "\n".join(rows) + "".join(capfd.readouterr())
    assert "fog_key" in text
    assert "InternalError: RuntimeError at" in text
    for secret in ("person-", ".jpg", HEX, "secret-name"):
        assert secret not in text


def _runs(session: Any, dag_id: str) -> list[Any]:
    from airflow.models.dagrun import DagRun

    return list(session.query(DagRun).filter_by(dag_id=dag_id))


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
