"""What the tests of the Roboflow hooks share. Imports no airflow."""

from __future__ import annotations

import io
import logging
import traceback
from typing import Any

from standin import GOOD_KEY, StandIn

from airflow_facefog.detectors.roboflow.access import Access, Secret
from airflow_facefog.hooks.roboflow_api import RoboflowApi

STATUSES = (400, 401, 402, 403, 404, 405, 409, 422, 423, 429, 500, 501, 502, 503, 504)


def access_to(standin: StandIn, key: str = GOOD_KEY, **options: Any) -> Access:
    """An access whose every address is the stand-in; impatient."""
    settings = {"timeout_s": 5.0, "rate_per_s": 1000.0, **options}
    return Access(api_key=Secret(key), inference_url=standin.url, api_url=standin.url, **settings)


def api_to(standin: StandIn, **options: Any) -> RoboflowApi:
    """Management calls to the stand-in."""
    return RoboflowApi(access_to(standin, **options))


def told(error: BaseException) -> str:
    """Everything that a log, a callback or a debugger may show of an exception: message, chain, frames with locals."""
    texts = [repr(error), str(error), repr(vars(error))]
    link: BaseException | None = error
    while link is not None:
        shown = traceback.TracebackException.from_exception(link, capture_locals=True)
        for frame in shown.stack:
            if "/airflow_facefog/" not in frame.filename:  # a test's or the client's own variables hold the key
                frame.locals = None
        texts += shown.format(chain=False)
        link = link.__cause__ or link.__context__
    return "\n".join(texts)


class Heard(logging.Handler):
    """Keeps every log line of this process, formatted with its exception."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = io.StringIO()
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.text.write(self.format(record) + "\n")
