"""Read what a training reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_facefog.operators.border import fails_cleanly, place
from airflow_facefog.operators.roboflow.base import RoboflowOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class RoboflowModelMetricsOperator(RoboflowOperator):
    """Write metrics and curves of a version's newest model; returns the scores, 0..1, and the files' URIs.

    The result is {"model_id", "map50", "map50_95", "precision", "recall", "epochs", "files"}; a score that Roboflow does
    not report is None. Files: ``metrics.json``, ``curves.parquet`` (one row per epoch), ``curves.png``.

    :param project: ``workspace/project`` or ``project`` (templated).
    :param version: number (templated).
    :param destination: folder or bucket prefix for the files (templated); a retry writes them again, the same.
    """

    template_fields: Sequence[str] = (*RoboflowOperator.template_fields, "project", "version", "destination")

    def __init__(self, *, project: str, version: int | str, destination: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.project = project
        self.version = version
        self.destination = destination

    @fails_cleanly
    def execute(self, context: Context) -> dict[str, Any]:
        """Read, draw, write."""
        from airflow_facefog.hooks.connections import open_root
        from airflow_facefog.hooks.roboflow_metrics import read_metrics, write_metrics
        from airflow_facefog.job.plan import open_store

        store = open_store(place(self.destination), open_root)
        with self.api() as api:
            metrics = read_metrics(api, api.ref(self.project), self.version)
        return {**metrics.scores(), "files": write_metrics(metrics, store)}
