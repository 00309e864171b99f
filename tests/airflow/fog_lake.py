"""Helpers of the Dag tests: a lake of small photos, syncing and re-running Dags. Imported after conftest set the home."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_facefog.task_groups import fog_images

DETECTOR = {"kind": "python", "factory": "fog_test_detector:ScriptedFaces"}


class Lake:
    """A source folder with small photos, a destination and an audit, and what the test detector shall do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.raw, self.clean, self.audit = (root / name for name in ("raw", "clean", "audit"))
        self.raw.mkdir()
        self.control = root / "control.json"
        self.script({})

    def photo(self, name: str, shade: int) -> Path:
        """Write one 96x64 JPEG; ``shade`` (0..255) tells photos apart, also for the detector."""
        import cv2
        import numpy as np

        ramp = np.tile(np.linspace(0, 60, 96, dtype=np.uint8), (64, 1))
        pixels = np.dstack([ramp, ramp // 2, np.full_like(ramp, shade)])
        cv2.rectangle(pixels, (30, 20), (60, 44), (200, 180, 160), -1)
        path = self.raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
        return path

    def photos(self, n: int) -> None:
        """Write ``n`` photos of shades 10, 20, …"""
        for index in range(n):
            self.photo(f"person-{index}.jpg", 10 + 10 * index)

    def script(self, control: dict[str, Any]) -> None:
        """Tell the detector what to do: see ``fog_test_detector``."""
        self.control.write_text(json.dumps(control))

    @property
    def places(self) -> dict[str, Any]:
        """Arguments of ``fog_images`` for this lake, with the scripted detector and impatient retries."""
        return {
            "source": str(self.raw),
            "destination": str(self.clean),
            "audit": str(self.audit),
            "detector": {**DETECTOR, "options": {"control": str(self.control)}},
            "retry_delay": timedelta(seconds=0),
        }

    def objects(self) -> dict[str, bytes]:
        """Key → bytes of everything published."""
        data = self.clean / "data"
        return {str(p.relative_to(data)): p.read_bytes() for p in sorted(data.rglob("*")) if p.is_file()}


def portrait() -> bytes:
    """A JPEG of NASA's public-domain portrait of Eileen Collins, cropped: one real face."""
    import cv2
    from skimage import data

    return bytes(cv2.imencode(".jpg", data.astronaut()[:256, 96:352, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1])


def fog_dag(dag_id: str, lake: Lake, **kwargs: Any) -> DAG:
    """A Dag with the task group ``fog`` over this lake: batches of two, one thread."""
    with DAG(dag_id, schedule=None) as dag:
        fog_images("fog", **{**lake.places, "batch_images": 2, "workers": 1, **kwargs})
    return dag


def xcom(session: Any, dag_run: Any, task_id: str, key: str = "return_value") -> list[Any]:
    """Values that a task (all its instances) pushed."""
    from airflow.models.xcom import XComModel

    session.expire_all()
    query = session.query(XComModel).filter_by(dag_id=dag_run.dag_id, run_id=dag_run.run_id, task_id=task_id, key=key)
    values = [row.value for row in query.order_by(XComModel.map_index)]
    return [json.loads(value) if isinstance(value, str) else value for value in values]


def events(session: Any, dag_run: Any) -> list[Any]:
    """Asset events of a run."""
    from airflow.models.asset import AssetEvent

    session.expire_all()
    return list(session.query(AssetEvent).filter_by(source_dag_id=dag_run.dag_id, source_run_id=dag_run.run_id))


def sync(dag: Any) -> None:
    """Write a Dag object to the metadata database, as the Dag processor would."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dag_folder=os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)


def rerun(dag: DAG, dag_run: Any, tasks: list[tuple[str, int]]) -> Any:
    """Clear task instances of a finished run and run them again, as a person does in the UI; returns the DagRun."""
    from airflow.models.taskinstance import TaskInstance, clear_task_instances
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(TaskInstance).filter_by(dag_id=dag_run.dag_id, run_id=dag_run.run_id)
        chosen = [ti for ti in found if (ti.task_id, ti.map_index) in tasks]
        assert len(chosen) == len(tasks)
        clear_task_instances(chosen, session)
    return _finish(dag, dag_run.run_id)


def consume(dag: DAG, asset_events: list[Any]) -> Any:
    """Run a Dag that is scheduled on assets, as the scheduler does when these events have come."""
    from airflow.models.asset import AssetEvent
    from airflow.models.dagrun import DagRun
    from airflow.sdk import timezone
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    sync(dag)
    now = timezone.utcnow()
    run_id = DagRun.generate_run_id(run_type=DagRunType.ASSET_TRIGGERED, logical_date=None, run_after=now)
    with create_session() as session:
        run = _serialised(dag).create_dagrun(
            run_id=run_id, run_after=now, run_type=DagRunType.ASSET_TRIGGERED, state="queued",
            triggered_by=DagRunTriggeredByType.ASSET, session=session,
        )  # fmt: skip
        wanted = [event.id for event in asset_events]
        run.consumed_asset_events.extend(session.query(AssetEvent).filter(AssetEvent.id.in_(wanted)))
    return _finish(dag, run_id)


def _serialised(dag: DAG) -> Any:
    from airflow.serialization.serialized_objects import DagSerialization

    return DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))


def _finish(dag: DAG, run_id: str) -> Any:
    """The smallest scheduler loop, as in ``dag.test()``, over a run that exists."""
    from airflow.models.dagrun import DagRun
    from airflow.sdk.definitions.dag import _run_task
    from airflow.utils.session import create_session

    with create_session() as session:
        run = session.query(DagRun).filter_by(dag_id=dag.dag_id, run_id=run_id).one()
        run.dag = _serialised(dag)
        run.state = "running"
        while run.state == "running":
            ready, _ = run.update_state(session=session)
            for ti in ready:
                ti.try_number += 1
                ti.state = "scheduled"
            session.commit()
            for ti in ready:
                _run_task(ti=ti, task=dag.get_task(ti.task_id))
            session.expire_all()
        return run
