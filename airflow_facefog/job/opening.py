"""Open one batch: plan, stores, items, detector. What every step after the plan starts with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_facefog.core.errors import ConfigurationError, PlanMismatchError
from airflow_facefog.job.model import Place, Plan, RootOpener
from airflow_facefog.job.plan import item_uri, open_store
from airflow_facefog.job.recipe import resolve_recipe
from airflow_facefog.job.source import Item, Source

if TYPE_CHECKING:
    from airflow_facefog.core.detector import Detector
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.detectors.roboflow.access import AccessOpener
    from airflow_facefog.job.engine import Engine
    from airflow_facefog.publish.store import Store


@dataclass(frozen=True, slots=True)
class Job:
    """One opened batch: plan, stores, items."""

    plan: Plan
    batch_id: str
    items: tuple[Item, ...]
    audit: Store
    destination: Store
    source: Source
    keys: KeyRing
    open_access: AccessOpener | None = None

    def detector(self) -> Detector:
        """The plan's detector, with this process's rights."""
        from airflow_facefog.detectors import resolve

        return resolve(self.plan.detector, self.open_access, self.plan.policy.allow_remote_inference)


def open_job(
    plan_uri: str, batch_uri: str, keys: KeyRing, open_root: RootOpener, audit_conn_id: str | None,
    open_access: AccessOpener | None = None,
) -> Job:  # fmt: skip
    """Open plan, batch and stores, and check that this process has the plan's recipe.

    Raises ConfigurationError when plan or batch is missing, PlanMismatchError when the recipe is another.
    """
    plan, audit = open_plan(plan_uri, open_root, audit_conn_id)
    batch_id = batch_uri.rpartition("/")[2].removesuffix(".json")
    _, recipe = resolve_recipe(plan.detector, plan.policy, keys, open_access)
    if recipe != plan.recipe_hash:
        raise PlanMismatchError(
            "policy, model, key or fog version differ from the plan's "
            f"(recipe {recipe[:12]} here, {plan.recipe_hash[:12]} planned); clear the list task too"
        )
    body = audit.get(plan.batch_key(batch_id))
    if body is None:
        raise ConfigurationError(f"batch {batch_id} of run {plan.run_key} is not in the audit; clear the list task")
    items = tuple(make_item(plan.source, *entry, keys=keys) for entry in json.loads(body)["items"])
    source = Source(
        open_root(plan.source.uri, plan.source.conn_id),
        local_root=plan.source.local_path if plan.source.is_local else None,
        max_bytes=plan.policy.limits.max_bytes,
    )
    return Job(plan, batch_id, items, audit, open_store(plan.destination, open_root), source, keys, open_access)


def open_plan(plan_uri: str, open_root: RootOpener, audit_conn_id: str | None) -> tuple[Plan, Store]:
    """Read ``plan.json`` and open its audit store. Raises ConfigurationError when there is no such plan."""
    root, found, rest = plan_uri.rpartition("/plans/")
    if not found:
        raise ConfigurationError("this is not the URI of a plan; pass on what the list task returned")
    audit = open_store(Place(root, audit_conn_id), open_root)
    data = audit.get(f"plans/{rest}")
    if data is None:
        raise ConfigurationError("the plan is not in the audit; clear the list task")
    return Plan.from_json(json.loads(data)), audit


def make_item(root: Place, key: str, size: int, etag: str, *, keys: KeyRing) -> Item:
    """Name an item by its ``source_ref``; its group names its folder."""
    uri = item_uri(root, key)
    return Item(keys.source_ref(uri), key, size, etag, keys.source_ref(uri.rpartition("/")[0])[:16])


def make_engine(job: Job, *, isolate: bool) -> Engine:
    """In this process, or a spawned child after an earlier attempt died without an exception."""
    from airflow_facefog.job.machine import calm_process

    calm_process()
    if isolate:
        from airflow_facefog.detectors import open_accesses
        from airflow_facefog.job.child import ChildEngine

        return ChildEngine(
            job.plan.detector, open_accesses(job.plan.detector, job.open_access), job.plan.policy, job.keys
        )
    from airflow_facefog.job.engine import LocalEngine

    return LocalEngine(job.detector(), job.plan.policy, job.keys)


def load_predictions(job: Job, uri: str | None) -> dict[str, bytes]:
    """Read stored predictions: ``source_ref`` → line. A missing file means detecting again, never "nothing found"."""
    if not uri:
        return {}
    data = job.audit.get(uri.removeprefix(job.audit.uri()).lstrip("/")) or b""
    lines: dict[str, bytes] = {}
    for line in data.splitlines():
        reference, _, entry = line.partition(b" ")
        lines[reference.decode("ascii", "replace")] = entry
    return lines
