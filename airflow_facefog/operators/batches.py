"""The mapped operators: one batch each. They know URIs of plan and batch, and nothing of the images in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_facefog.operators.border import attempt, fails_cleanly, job_rights

if TYPE_CHECKING:
    from airflow.sdk import Context

PREDICTIONS_KEY = "predictions"
"""XCom key under which DetectImagesOperator hands over the URI of its stored predictions."""


class _BatchOperator(BaseOperator):
    """What every batch step takes.

    :param plan: URI of the plan (templated, mapped).
    :param batch: URI of the batch file (templated, mapped).
    :param n: how many images it lists; shown, not used.
    :param audit_conn_id: connection that opens the audit, because URIs in XCom name none.
    :param key_conn_id: connection of the master key, as given to ListImagesOperator.
    :param workers: threads; None is the number of CPUs this process may use.
    """

    template_fields: Sequence[str] = ("plan", "batch", "n", "audit_conn_id", "key_conn_id")
    ui_color = "#dfe7ea"

    def __init__(
        self, *, plan: str, batch: str, n: int | None = None, audit_conn_id: str | None = None,
        key_conn_id: str | None = None, workers: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.plan = plan
        self.batch = batch
        self.n = n
        self.audit_conn_id = audit_conn_id
        self.key_conn_id = key_conn_id
        self.workers = workers

    def _step(self, context: Context) -> dict[str, Any]:
        return {
            "attempt": attempt(context),
            "audit_conn_id": self.audit_conn_id,
            "workers": self.workers,
            **job_rights(self.key_conn_id),
        }


class FogImagesOperator(_BatchOperator):
    """Detect, fog, verify and publish one batch in a single pass. Returns URIs and counts only."""

    @fails_cleanly
    def execute(self, context: Context) -> dict[str, Any]:
        """Run the batch, or return the result of the attempt that committed it before."""
        from airflow_facefog.job.batch import run_batch

        return run_batch(self.plan, self.batch, **self._step(context))


class DetectImagesOperator(_BatchOperator):
    """Staged mode, first half: detect one batch and store authenticated predictions in the audit."""

    @fails_cleanly
    def execute(self, context: Context) -> dict[str, Any]:
        """Detect, and hand over the URI of the predictions."""
        from airflow_facefog.job.staged import detect_batch

        result = detect_batch(self.plan, self.batch, **self._step(context))
        context["ti"].xcom_push(PREDICTIONS_KEY, result["predictions"])
        return result


class FogDetectedOperator(_BatchOperator):
    """Staged mode, second half: fog, verify and publish one batch from stored predictions.

    :param predictions: URI from DetectImagesOperator (templated). Entries that are missing or do not authenticate are
        detected again, never read as "no faces".
    """

    template_fields: Sequence[str] = (*_BatchOperator.template_fields, "predictions")

    def __init__(self, *, predictions: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.predictions = predictions

    @fails_cleanly
    def execute(self, context: Context) -> dict[str, Any]:
        """Run the batch; the published objects are byte-identical to those of a single pass."""
        from airflow_facefog.job.staged import fog_detected_batch

        return fog_detected_batch(self.plan, self.batch, self.predictions, **self._step(context))
