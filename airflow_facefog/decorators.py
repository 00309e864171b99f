"""``@task.fog``: the function returns the URIs of raw images; the one task plans, fogs and publishes them.

For small runs. The list of URIs never becomes an XCom: only the result of publishing does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, determine_kwargs, task_decorator_factory

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.job.model import Place, PlanRequest
from airflow_facefog.operators.border import (
    RETRIES,
    RETRY_DELAY,
    FogRetryPolicy,
    attempt,
    fails_cleanly,
    identity,
    job_rights,
    place,
)
from airflow_facefog.operators.policies import POLICY_FILES, PolicySpec, rendered_policy
from airflow_facefog.operators.publish import announce, sql_sink

if TYPE_CHECKING:
    from airflow.sdk import Context

NOTHING = Place("memory://facefog-nothing-listed")
"""Stands for the source of a run whose function returned no image."""


class Named:
    """What the function returned, kept out of the locals of frames that an exception may carry to Airflow."""

    __slots__ = ("sources",)

    def __init__(self, sources: Any) -> None:
        self.sources = sources

    def __repr__(self) -> str:
        return "Named(…)"


class FogDecoratedOperator(DecoratedOperator):
    """Plans, fogs and finalises the images that the decorated function names.

    :param destination: where anonymised images go (templated).
    :param audit: where plans, intents and the audit go (templated).
    :param policy: as for ``fog_images``.
    :param detector: JSON-able detector spec (templated).
    :param key_conn_id: connection whose password is the master key; None is keyless mode.
    :param signing_conn_id: connection whose password is the signing key's PEM text; None seals unsigned.
    :param audit_sql_conn_id: SQL connection for the audit tables.
    :param layout: ``named`` or ``content``.
    :param dataset: name of the dataset in ``destination`` (templated).
    :param workers: threads; None is the number of CPUs this process may use.
    """

    custom_operator_name: str = "@task.fog"
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields, "destination", "audit", "policy", "detector", "key_conn_id",
        "signing_conn_id", "audit_sql_conn_id", "dataset",
    )  # fmt: skip
    template_ext: Sequence[str] = POLICY_FILES
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers, "policy": "yaml", "detector": "json",
    }  # fmt: skip
    ui_color = "#cfe3d6"

    def __init__(
        self, *, python_callable: Callable[..., Any], op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None, destination: str, audit: str, policy: PolicySpec = None,
        detector: Any = "local", key_conn_id: str | None = None, signing_conn_id: str | None = None,
        audit_sql_conn_id: str | None = None, layout: str = "named", dataset: str = "default",
        workers: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs)
        self.destination = destination
        self.audit = audit
        self.policy = policy
        self.detector = detector
        self.key_conn_id = key_conn_id
        self.signing_conn_id = signing_conn_id
        self.audit_sql_conn_id = audit_sql_conn_id
        self.layout = layout
        self.dataset = dataset
        self.workers = workers

    def execute(self, context: Context) -> dict[str, Any]:
        """Call the function, then run all three steps on the images it names."""
        return _fog_named(self, context, self._named(context))

    def _named(self, context: Context) -> Named:
        kwargs = determine_kwargs(self.python_callable, self.op_args, {**context, **self.op_kwargs})
        return Named(self.python_callable(*self.op_args, **kwargs))

    def request(self, context: Context, sources: Any) -> PlanRequest:
        """The plan's request for these sources. Raises ConfigurationError unless they are a list of URIs."""
        if not isinstance(sources, list | tuple) or not all(isinstance(uri, str) for uri in sources):
            raise ConfigurationError("a @task.fog function returns a list of image URIs (strings)")
        places = [place(uri) for uri in sources]
        return PlanRequest(
            identity=identity(context), source=places[0] if places else NOTHING, destination=place(self.destination),
            audit=place(self.audit),
            policy=rendered_policy(self.policy), detector=self.detector, layout=self.layout, dataset=self.dataset,
            key_conn_id=self.key_conn_id, sources=tuple(sources),
        )  # fmt: skip


@fails_cleanly
def _fog_named(operator: FogDecoratedOperator, context: Context, named: Named) -> dict[str, Any]:
    from airflow_facefog.hooks.keys import signing_key
    from airflow_facefog.job.batch import run_batch
    from airflow_facefog.job.finalise import finalise
    from airflow_facefog.job.plan import make_plan

    request = operator.request(context, named.sources)
    rights = job_rights(operator.key_conn_id)
    step: dict[str, Any] = {"attempt": attempt(context), "audit_conn_id": request.audit.conn_id}
    batches = make_plan(request, **rights)
    for entry in batches:
        run_batch(entry["plan"], entry["batch"], workers=operator.workers, **step, **rights)
    result = finalise(
        batches[0]["plan"], sql=sql_sink(operator.audit_sql_conn_id), signer=signing_key(operator.signing_conn_id),
        keys=rights["keys"], open_root=rights["open_root"], **step,
    )  # fmt: skip
    announce(context, operator.outlets, result)
    return result


def fog_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """``@task.fog(destination=…, audit=…)``: see ``FogDecoratedOperator`` for the arguments.

    Retries are set here because Airflow's default is none; only errors that a retry may cure are retried.
    """
    retrying: dict[str, Any] = {"retries": RETRIES, "retry_delay": RETRY_DELAY, "retry_policy": FogRetryPolicy()}
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=FogDecoratedOperator, **{**retrying, **kwargs}
    )
