"""What can be waited for at Roboflow, and one look at it. Light; knows no Airflow."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_facefog.core.errors import ConfigurationError, TransientError

if TYPE_CHECKING:
    from airflow_facefog.hooks.roboflow_api import RoboflowApi

GOOD = ("finished", "completed", "succeeded", "trained")
BAD = ("failed", "error", "stopped", "cancelled", "canceled")
WAITS = ("training", "generated", "model")


@dataclass(frozen=True, slots=True)
class Watch:
    """What is waited for: ``training`` (by id), ``generated`` or ``model`` of ``project`` version ``version``."""

    wait: str
    project: str
    version: str
    training_id: str | None = None

    def __post_init__(self) -> None:
        if self.wait not in WAITS or (self.wait == "training") != bool(self.training_id):
            raise ConfigurationError(f"wait {self.wait!r} is not one of {', '.join(WAITS)}, or lacks its training id")


def look(api: RoboflowApi, watch: Watch) -> str | None:
    """``finished``, another final status, or None: not yet. Raises as the API does."""
    ref = api.ref(watch.project)
    if watch.training_id is not None:
        status = str(api.training(ref, watch.version, watch.training_id)["status"]).casefold()
        return "finished" if status in GOOD else status if status in BAD else None
    version = api.version(ref, watch.version)
    ready = bool(version.get("model")) if watch.wait == "model" else not version.get("generating")
    return "finished" if ready else None


def poll(api: RoboflowApi, watch: Watch, poll_s: float, timeout_s: float) -> str:
    """Look until there is a final status. Raises TransientError after ``timeout_s``: a retry goes on waiting."""
    ends = time.monotonic() + timeout_s
    while True:
        status = look(api, watch)
        if status is not None:
            return status
        if time.monotonic() + poll_s > ends:
            raise TransientError(
                f"{watch.wait} of {watch.project} is not ready after {timeout_s:.0f} s; a retry waits on"
            )
        time.sleep(poll_s)
