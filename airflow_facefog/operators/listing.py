"""ListImagesOperator: the plan step. The only operator that knows source, destination, policy and detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_facefog.job.model import PlanRequest
from airflow_facefog.operators.border import fails_cleanly, identity, job_rights, place
from airflow_facefog.operators.policies import POLICY_FILES, PolicySpec, rendered_policy

if TYPE_CHECKING:
    from airflow.sdk import Context

PLAN_KEY = "plan"
"""XCom key of the plan's URI; the return value is the list of batches."""

CHOICES = ("layout", "dataset", "mirror", "batch_images", "batch_bytes", "retry_quarantined")
"""Fields of ``PlanRequest`` that keep its default unless given."""


class ListImagesOperator(BaseOperator):
    """List a source, freeze the plan of this run and return its batches: ``[{"plan", "batch", "n"}, …]``.

    :param source: folder, file or glob (templated); ``s3://conn_id@bucket/prefix`` opens it with a connection.
    :param destination: where anonymised images go (templated). Must not overlap ``source``.
    :param audit: where plans, intents and the audit go (templated). Must not lie in ``destination``.
    :param policy: mapping, ``.yaml`` path relative to the Dag file (both templated) or FogPolicy; None fogs everything.
    :param detector: JSON-able detector spec (templated), for example ``"local"``.
    :param key_conn_id: connection whose password is the master key; None is keyless mode.
    :param layout: ``named`` or ``content``. None here and below: the default of ``job.model.PlanRequest``.
    :param dataset: name of the dataset in ``destination`` (templated).
    :param mirror: withdraw what is gone under the listed prefix.
    :param batch_images: most images of a batch; grows when there would be more batches than ``[core] max_map_length``.
    :param batch_bytes: most bytes of a batch; grows likewise.
    :param retry_quarantined: decode images again that this recipe refused before.
    """

    template_fields: Sequence[str] = ("source", "destination", "audit", "policy", "detector", "key_conn_id", "dataset")
    template_ext: Sequence[str] = POLICY_FILES
    template_fields_renderers: ClassVar[dict[str, str]] = {"policy": "yaml", "detector": "json"}
    ui_color = "#dfe7ea"

    def __init__(
        self, *, source: str, destination: str, audit: str, policy: PolicySpec = None, detector: Any = "local",
        key_conn_id: str | None = None, layout: str | None = None, dataset: str | None = None,
        mirror: bool | None = None, batch_images: int | None = None, batch_bytes: int | None = None,
        retry_quarantined: bool | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.source = source
        self.destination = destination
        self.audit = audit
        self.policy = policy
        self.detector = detector
        self.key_conn_id = key_conn_id
        self.layout = layout
        self.dataset = dataset
        self.mirror = mirror
        self.batch_images = batch_images
        self.batch_bytes = batch_bytes
        self.retry_quarantined = retry_quarantined

    @fails_cleanly
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Plan the run. Raises AirflowFailException for what a retry would repeat."""
        from airflow_facefog.job.plan import make_plan

        batches = make_plan(self._request(context), **job_rights(self.key_conn_id))
        context["ti"].xcom_push(PLAN_KEY, batches[0]["plan"])
        return batches

    def _request(self, context: Context) -> PlanRequest:
        return PlanRequest(
            identity=identity(context),
            source=place(self.source),
            destination=place(self.destination),
            audit=place(self.audit),
            policy=rendered_policy(self.policy),
            detector=self.detector,
            key_conn_id=self.key_conn_id,
            max_batches=most_batches(),
            **{name: value for name in CHOICES if (value := getattr(self, name)) is not None},
        )


def most_batches() -> int:
    """``[core] max_map_length``: a longer list would fail the list task."""
    from airflow.sdk.configuration import conf

    return int(conf.getint("core", "max_map_length", fallback=1024))
