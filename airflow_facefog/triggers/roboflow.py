"""Wait for Roboflow without a worker slot: a training's end, a version that is generated, a version with a model.

A trigger holds names only; the key is read from the connection inside the triggerer. Its event says how the wait ended;
faults are events too, so that the task decides about retries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_facefog.core.errors import FogError, PermanentError
from airflow_facefog.hooks.roboflow_wait import Watch, look

if TYPE_CHECKING:
    from airflow_facefog.detectors.roboflow.access import Access
    from airflow_facefog.hooks.roboflow_api import RoboflowApi

FAULTS_IN_A_ROW = 10
"""Looks that may fail one after the other before the task hears of it."""


class RoboflowTrigger(BaseTrigger):
    """Fires ``{"status": …}`` with a final status, or ``{"status": "error", "message", "permanent"}``.

    :param conn_id: connection of type ``roboflow``; None: the triggerer's environment.
    :param watch: fields of ``Watch``.
    :param poll_s: seconds between looks.
    :param cancel: cancel the training when a person kills the waiting task.
    """

    def __init__(self, conn_id: str | None, watch: dict[str, Any], poll_s: float = 30.0, cancel: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.watch = watch
        self.poll_s = poll_s
        self.cancel = cancel

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments; no secret among them."""
        kwargs = {"conn_id": self.conn_id, "watch": self.watch, "poll_s": self.poll_s, "cancel": self.cancel}
        return "airflow_facefog.triggers.roboflow.RoboflowTrigger", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every ``poll_s`` seconds; single faults are waited out."""
        watch = Watch(**self.watch)
        faults = 0
        while True:
            try:
                status = await self._ask(lambda api: look(api, watch))
                faults = 0
                if status is not None:
                    yield TriggerEvent({"status": status})  # type: ignore[no-untyped-call]
                    return
            except PermanentError as error:
                yield _failed(error, permanent=True)
                return
            except Exception as error:
                faults += 1
                if faults >= FAULTS_IN_A_ROW:
                    yield _failed(error, permanent=False)
                    return
            await asyncio.sleep(self.poll_s)

    async def on_kill(self) -> None:
        """A person ended the waiting task: end the training too."""
        watch = Watch(**self.watch)
        if self.cancel and watch.training_id is not None:
            training_id = watch.training_id
            await self._ask(lambda api: api.end_training(api.ref(watch.project), watch.version, training_id))

    async def _ask(self, question: Callable[[RoboflowApi], Any]) -> Any:
        from airflow_facefog.hooks.roboflow import access_async

        access = await access_async(self.conn_id)
        return await asyncio.to_thread(_with_api, access, question)


def _with_api(access: Access, question: Callable[[RoboflowApi], Any]) -> Any:
    from airflow_facefog.hooks.roboflow_api import RoboflowApi

    api = RoboflowApi(access)
    try:
        return question(api)
    finally:
        api.close()


def _failed(error: Exception, *, permanent: bool) -> TriggerEvent:
    text = str(error) if isinstance(error, FogError) else type(error).__name__
    event = {"status": "error", "message": text, "permanent": permanent}
    return TriggerEvent(event)  # type: ignore[no-untyped-call]
