"""Dag runs in which something goes wrong: who fails, who is retried, what becomes visible, what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import Asset
from fog_lake import Lake, events, fog_dag, rerun, xcom

HEX = "0123456789abcdef" * 4
RunDag = Callable[..., Any]
States = Callable[[Any], dict[str, str]]


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
