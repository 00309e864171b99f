"""``fog_images(…)``: list → fog every batch → publish, as one task group with safe settings.

The run fails when any batch failed or was skipped: publish runs after all of them, and its gate counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, AssetAlias, TaskGroup, XComArg, task_group

from airflow_facefog.detectors.spec import parse as parse_detector
from airflow_facefog.operators.batches import (
    PREDICTIONS_KEY,
    DetectImagesOperator,
    FogDetectedOperator,
    FogImagesOperator,
)
from airflow_facefog.operators.border import RETRIES, RETRY_DELAY, FogRetryPolicy, place
from airflow_facefog.operators.listing import PLAN_KEY, ListImagesOperator
from airflow_facefog.operators.policies import PolicySpec, check_policy, templated
from airflow_facefog.operators.publish import PublishOperator

Outlets = Asset | AssetAlias | Sequence[Asset | AssetAlias]
DEFAULT_POOL = "default_pool"
BATCH_NUMBER = "batch {{ ti.map_index }}"


class FogTaskGroup(TaskGroup):
    """The task group of ``fog_images``. ``output`` is the publish task's result, for the tasks that come after."""

    output: XComArg


def fog_images(
    group_id: str = "fog_images", *, source: str, destination: str, audit: str, policy: PolicySpec = None,
    detector: Any = "local", staged: bool = False, outlets: Outlets = (),
    asset_alias: str | AssetAlias | None = None, batch_images: int | None = None, batch_bytes: int | None = None,
    dataset: str | None = None, layout: str | None = None, mirror: bool | None = None,
    retry_quarantined: bool | None = None, key_conn_id: str | None = None, audit_conn_id: str | None = None,
    signing_conn_id: str | None = None, audit_sql_conn_id: str | None = None, workers: int | None = None,
    pool: str = DEFAULT_POOL, publish_pool: str = DEFAULT_POOL, max_active_tis_per_dagrun: int = 1, retries: int = RETRIES,
    retry_delay: timedelta = RETRY_DELAY, **task_kwargs: Any,
) -> FogTaskGroup:  # fmt: skip
    """Build the task group ``list_images >> fog (one task per batch) >> publish``.

    :param source: folder, file or glob of raw images (templated); ``s3://conn_id@bucket/prefix`` names a connection.
    :param destination: where anonymised images go (templated).
    :param audit: where plans, intents and the audit go (templated); apart from both others.
    :param policy: mapping or ``.yaml`` beside the Dag (both templated), FogPolicy, or None: fog everything.
    :param detector: JSON-able detector spec (templated).
    :param staged: detect and fog as two tasks per batch (same bytes), for GPU queues or to look at detections first.
    :param outlets: asset or assets that get an event when the run is published.
    :param asset_alias: alias that gets an event for the run's own destination, if the snapshot changed.
    :param batch_images: most images of a batch. None here and below: the default of ``job.model.PlanRequest``.
    :param batch_bytes: most bytes of a batch.
    :param dataset: name of the dataset in ``destination`` (templated).
    :param layout: ``named`` or ``content``.
    :param mirror: withdraw what is gone under the listed prefix.
    :param retry_quarantined: decode images again that this recipe refused before.
    :param key_conn_id: connection whose password is the master key; None is keyless mode.
    :param signing_conn_id: connection whose password is the signing key's PEM text; only the publish task gets it. None:
        the audit is sealed unsigned.
    :param audit_conn_id: connection that opens the audit; read from ``audit`` when that names one.
    :param audit_sql_conn_id: SQL connection for the audit tables.
    :param workers: threads of a batch; None is the number of CPUs its process may use.
    :param pool: pool of the batch tasks; give one with a slot per worker machine when several Dags fog at once.
    :param publish_pool: pool of the publish task; one slot where the store cannot create exclusively.
    :param max_active_tis_per_dagrun: batches of one run at a time; one batch already uses all CPUs of its worker.
    :param retries: of every task; only errors that a retry may cure are retried.
    :param retry_delay: of every task; longer when the other side asks for it.
    :param task_kwargs: for every task, for example ``queue`` or ``execution_timeout``.

    Raises PolicyError and ConfigurationError while the Dag is parsed, for what can be known then.
    """
    common = {"retries": retries, "retry_delay": retry_delay, "retry_policy": FogRetryPolicy(), **task_kwargs}
    access = {"key_conn_id": key_conn_id, "audit_conn_id": audit_conn_id or _conn_id(audit)}
    per_batch = {
        **common, **access, "workers": workers, "pool": pool, "map_index_template": BATCH_NUMBER,
        "max_active_tis_per_dagrun": max_active_tis_per_dagrun,
    }  # fmt: skip
    group = FogTaskGroup(group_id=group_id)
    check_policy(policy, group.dag)
    check_plain((source, destination, audit), detector)
    with group:
        listing = ListImagesOperator(
            task_id="list_images", source=source, destination=destination, audit=audit, policy=policy,
            detector=detector, key_conn_id=key_conn_id, layout=layout, dataset=dataset, mirror=mirror,
            batch_images=batch_images, batch_bytes=batch_bytes, retry_quarantined=retry_quarantined, **common,
        )  # fmt: skip
        listed: Any = listing.output
        fog = (_staged if staged else _single_pass)(listed, per_batch)
        publish = PublishOperator(
            task_id="publish", plan=listed[PLAN_KEY], audit_sql_conn_id=audit_sql_conn_id,
            signing_conn_id=signing_conn_id, outlets=_outlets(outlets, asset_alias),
            trigger_rule="all_done_min_one_success", pool=publish_pool, **access, **common,
        )  # fmt: skip
        [listing, fog] >> publish
    group.output = publish.output
    return group


def _single_pass(listed: Any, per_batch: Mapping[str, Any]) -> Any:
    return FogImagesOperator.partial(task_id="fog", **per_batch).expand_kwargs(listed)


def _staged(listed: Any, per_batch: Mapping[str, Any]) -> Any:
    """Detect and fog as a mapped group: with two chained expands one failed batch would skip all others."""

    @task_group(group_id="batch")
    def batch_group(plan: str, batch: str, n: int) -> None:
        detected: Any = DetectImagesOperator(task_id="detect", plan=plan, batch=batch, n=n, **per_batch).output
        FogDetectedOperator(
            task_id="fog", plan=plan, batch=batch, n=n, predictions=detected[PREDICTIONS_KEY], **per_batch
        )

    return batch_group.expand_kwargs(listed)


def _outlets(outlets: Outlets, alias: str | AssetAlias | None) -> list[Asset | AssetAlias]:
    outlets = [outlets] if isinstance(outlets, Asset | AssetAlias) else outlets
    extra = [] if alias is None else [AssetAlias(alias) if isinstance(alias, str) else alias]
    return [*outlets, *extra]


def check_plain(places: Sequence[str], detector: Any) -> None:
    """Refuse, while the Dag is parsed, what is wrong whatever the templates render to.

    Credentials in a URI above all: Airflow stores the text of every template field.
    """
    for text in places:
        if not templated(text):
            place(text)
    if not templated(detector):
        parse_detector(detector)


def _conn_id(audit: str) -> str | None:
    """The connection that ``audit`` names, if it can be read before rendering: batches open the audit too."""
    user, at, _ = str(audit).partition("://")[2].partition("/")[0].rpartition("@")
    return user if at and user else None
