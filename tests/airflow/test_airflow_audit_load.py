"""AuditLoadOperator: a Dag that brings a database up to date with the audit, through Airflow connections."""

from __future__ import annotations

import json
from typing import Any

import fog_lake
import pytest
import sqlalchemy as sa
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from airflow_facefog.core.errors import StoreError
from airflow_facefog.operators.audit_load import AuditLoadOperator
from airflow_facefog.task_groups import fog_images

EMPTY: Any = {}
"""The operator asks nothing of its context."""


def connection(url: str) -> str:
    """An Airflow connection to a PostgreSQL URL, as JSON."""
    found = sa.make_url(url)
    host = found.host or found.query["host"]
    return json.dumps(
        {"conn_type": "postgres", "host": host, "login": found.username, "password": found.password, "port": found.port or 5432,
         "schema": found.database}
    )  # fmt: skip


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """What a query sees."""
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as found:
        return [tuple(row) for row in found.exec_driver_sql(statement)]


def load(lake: fog_lake.Lake, **changes: Any) -> AuditLoadOperator:
    """The operator over this lake, whose audit may be empty."""
    lake.audit.mkdir(exist_ok=True)
    settings: dict[str, Any] = {"audit": str(lake.audit), "audit_sql_conn_id": "audit_db", **changes}
    return AuditLoadOperator(task_id="load", **settings)


def test_a_dag_fogs_and_fills_postgresql(lake, run_dag, states, session, pg_url, monkeypatch):
    """Publish, then load: all rows are there by the connection alone; the result says how many; a rerun adds none."""
    monkeypatch.setenv("AIRFLOW_CONN_AUDIT_DB", connection(pg_url))
    lake.photos(3)
    with DAG("fog_and_load", schedule=None) as dag:
        fog = fog_images("fog", **lake.places, batch_images=2, workers=1)
        fog >> load(lake, since="{{ '2020-01-01' }}")
    run = run_dag(dag)
    assert states(run)["load"] == "success"
    (said,) = fog_lake.xcom(session, run, "load")
    assert said == {"audit": f"file://{lake.audit}", "loaded": 1, "present": 0, "images": 3, "detections": 3}
    assert rows(pg_url, "SELECT status, published FROM facefog_run") == [("final", 3)]
    assert rows(pg_url, "SELECT count(*) FROM facefog_v_image_history") == [(3,)]
    again = load(lake).execute(EMPTY)
    assert (again["loaded"], again["present"]) == (0, 1)


def test_sqlite_is_for_one_machine(lake, tmp_path, monkeypatch):
    """A SQLite connection loads under the local executor and is refused for workers that do not share a disk."""
    monkeypatch.setenv("AIRFLOW_CONN_AUDIT_DB", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "audit.db")}))
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    assert load(lake).execute(EMPTY)["loaded"] == 0
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    with pytest.raises(AirflowFailException, match="SQLite audit cannot be shared"):
        load(lake).execute(EMPTY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audit_sql_conn_id": "no_such_db"}, "no_such_db"),
        ({"audit_sql_conn_id": None}, "audit_sql_conn_id"),
        ({"audit": "relative/folder"}, "relative folder"),
        ({"audit": "/no/such/audit"}, "no audit at that place"),
        ({"runs": ["f" * 32]}, "no sealed run"),
        ({"since": "soon"}, "no moment"),
    ],
)
def test_wrong_use_fails_for_good(lake, pg_url, monkeypatch, changes, message):
    """What a retry would repeat is not retried, and says what to change."""
    monkeypatch.setenv("AIRFLOW_CONN_AUDIT_DB", connection(pg_url))
    with pytest.raises(AirflowFailException, match=message):
        load(lake, **changes).execute(EMPTY)


def test_a_database_that_is_down_is_tried_again_and_told_without_secrets(lake, monkeypatch):
    """Airflow retries a StoreError; neither user, host nor password is in it."""
    conn = {
        "conn_type": "postgres",
        "host": "127.0.0.1",
        "port": 1,
        "login": "anna",
        "password": "hunter22",
        "schema": "x",
    }
    monkeypatch.setenv("AIRFLOW_CONN_AUDIT_DB", json.dumps(conn))
    with pytest.raises(StoreError, match="retry when the database is reachable") as caught:
        load(lake).execute(EMPTY)
    assert not {"anna", "hunter22", "127.0.0.1"} & set(str(caught.value).replace(";", " ").split())
    assert "hunter22" not in str(caught.value)
