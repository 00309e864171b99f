"""Airflow in a throw-away home. The environment is set here, before anything imports airflow."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_facefog.audit.sealed import SigningKey

SIGNER = SigningKey.generate()
HOME = tempfile.mkdtemp(prefix="facefog-airflow-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.makedirs(HOME + "/dags")
os.environ.update(
    AIRFLOW_HOME=HOME,
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=HOME + "/dags",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{HOME}/airflow.db",
    AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
    AIRFLOW_CONN_FACEFOG_KEY='{"conn_type": "generic", "password": "' + "5a" * 32 + '"}',
    AIRFLOW_CONN_FACEFOG_SIGNING_KEY=json.dumps({"conn_type": "generic", "password": SIGNER.pem.decode()}),
)

import fog_lake  # noqa: E402  the home above must be set before anything imports airflow


@pytest.fixture
def lake(tmp_path: Path) -> fog_lake.Lake:
    """A fresh source, destination and audit."""
    return fog_lake.Lake(tmp_path)


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """The metadata database, made once."""
    from airflow.utils import db

    db.initdb()


@pytest.fixture
def run_dag(airflow_db: None) -> Callable[..., Any]:
    """Run a Dag in this process and return its DagRun; ``.state`` says how it went, nothing is raised."""

    def run(dag: Any, **kwargs: Any) -> Any:
        fog_lake.sync(dag)
        return dag.test(**kwargs)

    return run


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
