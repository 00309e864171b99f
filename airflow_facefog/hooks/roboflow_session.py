"""One HTTP session to the management API: requests that may be repeated, requests that may not, and what a status means."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from airflow_facefog.core.errors import ConfigurationError, FogError, PermanentError
from airflow_facefog.core.raw import sealed
from airflow_facefog.detectors.roboflow.http import Session

MEANINGS = {
    400: "it does not take this request; check the settings of the task",
    403: "this key may not do that, or the workspace's quota is used up; check the key's scopes and the plan",
    404: "there is no such workspace, project, version or training; check their names",
    409: "it contradicts what is there already, or the version is still being made; look at it in the workspace",
    422: "it does not take these settings; check those of the task",
}
"""What a status means here. All others mean the same as for pictures (``detectors.roboflow.faults``)."""


class ApiSession(Session):
    """A session that can also send a request exactly once, and says what a status means for datasets and trainings."""

    @sealed
    def call(self, method: str, path: str, **request: Any) -> Any:
        """As ``Session.call``, in the words of the management API."""
        return self._told(lambda: Session.call(self, method, path, **request))

    @sealed
    def once(self, method: str, path: str, *, json_body: Any = None) -> Any:
        """Send a request that must not be repeated. Raises as ``call`` does; a TransientError says nothing about its fate."""
        ends = time.monotonic() + self._access.timeout_s
        request = {"method": method, "url": self._base_url + path, "params": {}, "json": json_body}
        return self._told(lambda: self._try(request, ends))

    @staticmethod
    def _told(ask: Callable[[], Any]) -> Any:
        problem: PermanentError
        try:
            return ask()
        except PermanentError as error:
            status = status_of(error)
            if status not in MEANINGS:
                raise
            _, said, rest = str(error).partition(" (it says: ")
            problem = ConfigurationError(f"the Roboflow API answered {status}: {MEANINGS[status]}{said}{rest}")
        raise problem


def status_of(error: FogError) -> int | None:
    """The HTTP status that an error of the session names."""
    found = re.search(r"answered (\d{3})\b", str(error))
    return int(found[1]) if found else None
