"""The views over the audit tables, in the order in which they are created (some read earlier ones).

Their text is the same on SQLite, PostgreSQL and DuckDB, and so are their results (sums of floats within rounding).
"""

from __future__ import annotations

from airflow_facefog.audit.questions.detections import DETECTIONS
from airflow_facefog.audit.questions.images import PUBLISHED, REFUSED
from airflow_facefog.audit.questions.life import LIFE
from airflow_facefog.audit.questions.runs import RUNS
from airflow_facefog.audit.questions.view import PREFIX, View

__all__ = ["PREFIX", "VIEWS", "View", "view_named"]

VIEWS: tuple[View, ...] = (*RUNS, *PUBLISHED, *REFUSED, *DETECTIONS, *LIFE)
"""Create in this order, drop in the reverse."""


def view_named(name: str) -> View:
    """The view of this name, with or without its prefix. Raises KeyError that lists the names."""
    for view in VIEWS:
        if name in (view.name, view.name.removeprefix(PREFIX)):
            return view
    raise KeyError(f"no audit view {name!r}; there are: {', '.join(view.name for view in VIEWS)}")
