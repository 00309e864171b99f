"""What all Roboflow operators share: the connection, starting a job once across tries, and waiting for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_facefog.core.errors import ConfigurationError, PermanentError, TransientError
from airflow_facefog.hooks.roboflow_wait import Watch, poll

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_facefog.hooks.roboflow_api import RoboflowApi

DEFAULT_CONN_ID = "roboflow_default"
"""As ``hooks.roboflow.DEFAULT_CONN_ID``, which is not imported while Dags are parsed."""


class RoboflowOperator(BaseOperator):
    """Base of the Roboflow operators.

    :param roboflow_conn_id: connection of type ``roboflow`` (templated); None: the worker's environment.
    """

    template_fields: Sequence[str] = ("roboflow_conn_id",)
    ui_color = "#e6dcf5"

    def __init__(self, *, roboflow_conn_id: str | None = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.roboflow_conn_id = roboflow_conn_id

    @contextmanager
    def api(self) -> Iterator[RoboflowApi]:
        """Our management calls, for as long as the block runs."""
        with open_api(self.roboflow_conn_id) as api:
            yield api


class RoboflowJobOperator(RoboflowOperator):
    """Base of operators that start something and wait for it.

    :param wait: wait for the end; False returns as soon as it was started.
    :param deferrable: wait in the triggerer, without a worker slot; None: ``[operators] default_deferrable``.
    :param poll_interval: seconds between looks.
    :param timeout: longest wait of one try; a retry goes on waiting for the same job.
    """

    def __init__(
        self, *, wait: bool = True, deferrable: bool | None = None, poll_interval: float = 30.0,
        timeout: timedelta = timedelta(hours=12), **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.wait = wait
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout

    def await_end(self, api: RoboflowApi, watch: Watch, *, cancel: bool = False) -> str:
        """The final status of ``watch``, or TaskDeferred: then ``execute_complete`` gets the trigger's event."""
        api.ref(watch.project)
        if not defers(self.deferrable):
            return poll(api, watch, self.poll_interval, self.timeout.total_seconds())
        self.defer(
            trigger=make_trigger(self.roboflow_conn_id, watch, self.poll_interval, cancel=cancel),
            method_name="execute_complete", timeout=self.timeout,
        )  # fmt: skip
        raise AssertionError("defer() raises")


@contextmanager
def open_api(conn_id: str | None) -> Iterator[RoboflowApi]:
    """Management calls through a connection, closed afterwards."""
    from airflow_facefog.hooks.roboflow import RoboflowHook

    api = RoboflowHook(conn_id).management()
    try:
        yield api
    finally:
        api.close()


def defers(chosen: bool | None) -> bool:
    """Whether to wait in the triggerer: as chosen, else as Airflow is configured."""
    from airflow.sdk.configuration import conf

    return bool(conf.getboolean("operators", "default_deferrable", fallback=False)) if chosen is None else chosen


def make_trigger(conn_id: str | None, watch: Watch, poll_s: float, *, cancel: bool = False) -> Any:
    """The trigger that looks at ``watch``; it holds the connection's name, never its key."""
    from dataclasses import asdict

    from airflow_facefog.triggers.roboflow import RoboflowTrigger

    return RoboflowTrigger(conn_id=conn_id, watch=asdict(watch), poll_s=poll_s, cancel=cancel)


def status_of_event(event: Mapping[str, Any] | None) -> str:
    """The final status that a trigger's event tells. Raises what the trigger met."""
    if event is None or "status" not in event:
        raise TransientError("the trigger ended without a word; try again")
    if event["status"] == "error":
        raise (PermanentError if event.get("permanent") else TransientError)(str(event.get("message")))
    return str(event["status"])


def start_once(context: Context, key: str, known: Callable[[], set[str]], start: Callable[[], str]) -> str:
    """Id of a job that is started at most once in all tries of this task instance.

    What is there before the request is stored before it is sent, the id right after. A try that finds the first without
    the second lost its answer (killed worker, time-out): a job that is there now and was not before is ours.

    Raises ConfigurationError when several jobs appeared meanwhile: which one is ours is not known.
    """
    store = context["task_state_store"]
    state: Any = store.get(key) or {}
    if "id" in state:
        return str(state["id"])
    if "before" in state:
        new = sorted(known() - set(state["before"]))
        if len(new) > 1:
            raise ConfigurationError(f"{len(new)} jobs were started since the last try; end those that are not wanted")
        if new:
            store.set(key, {"id": new[0]})
            return new[0]
    else:
        before: Any = sorted(known())
        store.set(key, {"before": before})
    started = start()
    store.set(key, {"id": started})
    return started
