"""The real thing: api-server, scheduler, dag-processor and triggerer as processes; the example Dags; one table at the end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fog_lake import Lake, portrait
from upath import UPath

import airflow_facefog
from airflow_facefog.audit.sealed import SigningKey
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.publish.snapshots import open_dataset

DAGS = Path(airflow_facefog.__file__).parents[1] / "dags"
MASTER = "5a" * 32
SIGNER = json.loads(os.environ["AIRFLOW_CONN_FACEFOG_SIGNING_KEY"])["password"]
PATIENCE_S = 210.0


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Airflow:
    """``airflow standalone`` in a home of its own, on free ports of the loopback interface."""

    def __init__(self, root: Path, lake: Lake) -> None:
        self.home = root / "airflow"
        self.table = root / "consumer.db"
        self.log = root / "standalone.log"
        (self.home / "dags").mkdir(parents=True)
        for name in ("fog_photos.py", "fog_policy.yaml", "load_clean.py", "audit_nightly.py", "audit_life.py"):
            shutil.copy(DAGS / name, self.home / "dags" / name)
        api, worker_log, trigger_log = _free_ports(3)
        self.url = f"http://127.0.0.1:{api}"
        self._env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # standalone starts `airflow …`
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(api),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_log),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log),
            "AIRFLOW_VAR_FACEFOG_LAKE": str(lake.root),
            "AIRFLOW_VAR_FACEFOG_PUBLIC_KEY": SigningKey.from_pem(SIGNER.encode()).public.pem.decode(),
            "AIRFLOW_CONN_FACEFOG_KEY": json.dumps({"conn_type": "generic", "password": MASTER}),
            "AIRFLOW_CONN_FACEFOG_SIGNING_KEY": os.environ["AIRFLOW_CONN_FACEFOG_SIGNING_KEY"],
            "AIRFLOW_CONN_FACEFOG_AUDIT_DB": json.dumps({"conn_type": "sqlite", "host": str(root / "analysts.db")}),
            "AIRFLOW_CONN_CLEAN_PHOTOS_DB": json.dumps({"conn_type": "sqlite", "host": str(self.table)}),
        }

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start all processes in one session, and end that whole group."""
        with self.log.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "standalone"],
                env=self._env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield
            finally:
                self._stop(process)

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        for kind in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, kind)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
        process.wait(15)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request to the public API; None while it is not up."""
        import httpx

        try:
            answer = httpx.request(method, f"{self.url}/api/v2/{path}", json=body, timeout=10)
        except httpx.TransportError:
            return None
        return answer.json() if answer.is_success else None

    def rows(self) -> list[tuple[str, ...]]:
        """What the consumer's table holds."""
        with sqlite3.connect(self.table) as db:
            return sorted(db.execute("select item_id, uri, sha256 from clean_photo").fetchall())

    def trigger(self, dag_id: str, **conf: Any) -> None:
        """Start a run."""
        assert self.call("POST", f"dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf}), dag_id

    def returned(self, dag_id: str, task_id: str) -> list[Any]:
        """What the task of every run returned, oldest first."""
        runs = self.call("GET", f"dags/{dag_id}/dagRuns?order_by=id")["dag_runs"]
        path = "dags/{}/dagRuns/{}/taskInstances/{}/xcomEntries/return_value"
        return [self.call("GET", path.format(dag_id, run["dag_run_id"], task_id))["value"] for run in runs]

    def task_logs(self) -> str:
        """Everything that tasks wrote."""
        return "\n".join(path.read_text() for path in sorted((self.home / "logs").glob("dag_id=*/**/*.log")))

    def states(self) -> list[tuple[str, str, str]]:
        """(dag, task, state) of every task instance, for the message of a failed test."""
        with sqlite3.connect(self.home / "airflow.db") as db:
            return db.execute("select dag_id, task_id, state from task_instance").fetchall()


def wait_for(what: str, ready: Any, deadline: float, airflow: Airflow) -> Any:
    """Poll until ``ready()`` is true-ish and return it; fail with the states and the end of the log."""
    while time.monotonic() < deadline:
        if result := ready():
            return result
        time.sleep(1)
    tail = airflow.log.read_text()[-3000:]
    with contextlib.suppress(sqlite3.Error):
        tail = f"{airflow.states()}\n{tail}"
    pytest.fail(f"{what} did not happen in time\n{tail}")


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_the_example_dags_live_together(lake: Lake, tmp_path: Path) -> None:
    """fog_photos publishes; its event starts load_clean. Then one photo breaks, another comes: the table follows.

    The record is verified, checked, loaded and proven night by night; a photo is erased, the table follows, and the next
    night is green. Task logs hold neither names nor ids nor keys, but the chain's head.
    """
    lake.photos(5)
    (lake.raw / "portrait.jpg").write_bytes(portrait())
    photos = {path.name: path.read_bytes() for path in lake.raw.iterdir()}
    airflow = Airflow(tmp_path, lake)
    deadline = time.monotonic() + PATIENCE_S
    with airflow.running():
        for dag_id in ("load_clean", "fog_photos"):
            unpause(airflow, dag_id, deadline)
        (run,) = wait_for("the first load", lambda: _succeeded(airflow, "load_clean", 1), deadline, airflow)
        assert run["run_type"] == "asset_triggered"
        first = airflow.rows()
        assert len(first) == 6
        assert first == _dataset(lake)

        (lake.raw / "person-1.jpg").write_bytes(b"this is no picture")
        lake.photo("person-7.jpg", 150)
        airflow.trigger("fog_photos")
        wait_for("the second load", lambda: _succeeded(airflow, "load_clean", 2), deadline, airflow)
        second = airflow.rows()
        assert second == _dataset(lake)
        assert (len(set(first) - set(second)), len(set(second) - set(first))) == (1, 1)

        unpause(airflow, "audit_nightly", deadline)
        wait_for("the first night", lambda: _succeeded(airflow, "audit_nightly", 1), deadline, airflow)
        unpause(airflow, "erase_photos", deadline)
        erased = KeyRing.from_master(bytes.fromhex(MASTER)).image_id(photos["person-0.jpg"])
        airflow.trigger("erase_photos", images=[erased])
        wait_for("the third load", lambda: _succeeded(airflow, "load_clean", 3), deadline, airflow)
        assert airflow.rows() == _dataset(lake)
        assert len(airflow.rows()) == len(second) - 1
        airflow.trigger("audit_nightly")
        wait_for("the second night", lambda: _succeeded(airflow, "audit_nightly", 2), deadline, airflow)
        heads = [result["head"] for result in airflow.returned("audit_nightly", "verify")]
    assert [head.partition(":")[0] for head in heads] == ["2", "4"]
    logs = airflow.task_logs()
    assert all(head in logs for head in heads)
    told = [text for text in (MASTER, SIGNER, "PRIVATE KEY", "person-", "portrait.jpg", erased) if text in logs]
    assert told == []


def unpause(airflow: Airflow, dag_id: str, deadline: float) -> None:
    """Let a Dag run, as soon as it is known."""
    wait_for(dag_id, lambda: airflow.call("PATCH", f"dags/{dag_id}", {"is_paused": False}), deadline, airflow)


def _succeeded(airflow: Airflow, dag_id: str, n: int) -> list[Any] | None:
    """The Dag's runs once ``n`` succeeded; fails the test when a run of any Dag failed."""
    answer = airflow.call("GET", "dags/~/dagRuns") or {"dag_runs": []}
    assert not [run for run in answer["dag_runs"] if run["state"] == "failed"], airflow.states()
    done = [run for run in answer["dag_runs"] if run["state"] == "success" and run["dag_id"] == dag_id]
    return done if len(done) >= n else None


def _dataset(lake: Lake) -> list[tuple[str, ...]]:
    rows = open_dataset(UPath(lake.clean)).to_pylist()
    return sorted((row["item_id"], row["uri"], row["sha256"]) for row in rows)
