"""Airflow in a throw-away home. The environment is set here, before anything imports airflow."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

HOME = tempfile.mkdtemp(prefix="facefog-airflow-")
os.makedirs(HOME + "/dags")
os.environ.update(
    AIRFLOW_HOME=HOME,
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=HOME + "/dags",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{HOME}/airflow.db",
    AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
)

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


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A fresh source, destination and audit."""
    return Lake(tmp_path)


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """The metadata database, made once."""
    from airflow.utils import db

    db.initdb()


@pytest.fixture
def run_dag(airflow_db: None) -> Callable[..., Any]:
    """Run a Dag in this process and return its DagRun; ``.state`` says how it went, nothing is raised."""

    def run(dag: Any, **kwargs: Any) -> Any:
        sync(dag)
        return dag.test(**kwargs)

    return run


def sync(dag: Any) -> None:
    """Write a Dag object to the metadata database, as the Dag processor would."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dag_folder=os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)


@pytest.fixture
def session(airflow_db: None) -> Iterator[Any]:
    """A session of the metadata database."""
    from airflow.utils.session import create_session

    with create_session() as session:
        yield session


@pytest.fixture
def states(session: Any) -> Callable[[Any], dict[str, str]]:
    """DagRun → {"task[map_index]": state}."""

    def read(dag_run: Any) -> dict[str, str]:
        session.expire_all()
        tis = dag_run.get_task_instances(session=session)
        return {ti.task_id + (f"[{ti.map_index}]" if ti.map_index >= 0 else ""): str(ti.state) for ti in tis}

    return read
