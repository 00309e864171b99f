"""The one way in which the container walker says no."""

from __future__ import annotations

from typing import NoReturn

from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.records import Reason


def refuse(message: str) -> NoReturn:
    """Raise ImageError VERIFY_FAILED."""
    raise ImageError(Reason.VERIFY_FAILED, message)
