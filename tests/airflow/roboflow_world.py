"""What the Roboflow tests under Airflow share: the stand-in, its connection, and a context without a database."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "roboflow"))

from standin import GOOD_KEY, StandIn

__all__ = ["GOOD_KEY", "StandIn", "Store", "connection", "context"]


def connection(url: str, key: str = GOOD_KEY, **extra: Any) -> str:
    """``AIRFLOW_CONN_…`` for a stand-in."""
    fields = {"api_url": url, "timeout_s": 5, "rate_per_s": 1000, **extra}
    return json.dumps({"conn_type": "roboflow", "password": key, "host": url, "extra": fields})


class Store(dict[str, Any]):
    """Task state that survives tries, as Airflow keeps it: JSON values."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        del self[key]


def context(store: Store | None = None, attempt: str = "try-1") -> Any:
    """A task's context with what our operators read."""
    ti = SimpleNamespace(
        id=attempt, try_number=1, map_index=-1, dag_id="d", run_id="r", task_id="t", dag_version_id=None,
        xcom_push=lambda *_: None,
    )  # fmt: skip
    run = SimpleNamespace(run_type="manual", logical_date=None, data_interval_start=None, clear_number=0)
    return {"ti": ti, "dag_run": run, "task_state_store": Store() if store is None else store}
