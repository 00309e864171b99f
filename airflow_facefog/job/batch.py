"""Batch, mapped: read, look, cover, and publish under the protocol; one commit per batch, the first wins.

``run_batch`` is the single-pass driver. ``detect_batch`` and ``fog_detected_batch`` are the staged one: two tasks, the same
bytes out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError, FogError, PlanMismatchError
from airflow_facefog.core.raw import sealed
from airflow_facefog.core.records import Status
from airflow_facefog.job.attempt import AttemptLog, Past, read_past
from airflow_facefog.job.cache import PredictionCache
from airflow_facefog.job.model import Attempt, Place, Plan, RootOpener, open_root_plain
from airflow_facefog.job.plan import item_uri, open_store
from airflow_facefog.job.recipe import resolve_recipe
from airflow_facefog.job.rows import Result, Rows, published
from airflow_facefog.job.source import Item, Source
from airflow_facefog.job.worker import Worker, run_in_order

if TYPE_CHECKING:
    from airflow_facefog.core.detector import Detector
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.detectors.roboflow.access import AccessOpener
    from airflow_facefog.job.engine import Engine
    from airflow_facefog.publish.protocol import Publisher
    from airflow_facefog.publish.store import Store

MICRO_IMAGES = 64
MICRO_BYTES = 128_000_000
"""A micro-batch is published when it holds this much: intents durable, then the objects."""

Progress = Callable[[int], None]


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


@sealed
def run_batch(
    plan: str, batch: str, *, attempt: Attempt, keys: KeyRing, open_root: RootOpener = open_root_plain,
    open_access: AccessOpener | None = None, audit_conn_id: str | None = None, workers: int | None = None,
    on_progress: Progress | None = None, predictions: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Process one batch and commit it; a batch that is committed already is returned without reading a pixel.

    Returns {"plan", "batch", "batch_id", "published", "quarantined", "failed", "skipped"}. Raises PlanMismatchError
    (another recipe: clear the list task too), DetectorError (canary missed), StoreError (a store is down).
    """
    from airflow_facefog.publish.protocol import read_commit

    job = open_job(plan, batch, keys, open_root, audit_conn_id, open_access)
    commit = read_commit(job.audit, job.plan.commit_key(job.batch_id))
    if commit is None:
        commit = _attempt(job, attempt, workers, on_progress, load_predictions(job, predictions))
    return {"plan": plan, "batch": batch, "batch_id": job.batch_id, **commit["counts"]}


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


def _attempt(
    job: Job, attempt: Attempt, workers: int | None, on_progress: Progress | None, predictions: Mapping[str, bytes]
) -> dict[str, Any]:
    prefix = job.plan.attempt_prefix(job.batch_id, attempt.attempt_id)
    past = read_past(job.audit, job.plan.attempt_prefix(job.batch_id))
    marks = AttemptLog(job.audit, prefix)
    marks.start()
    try:
        with_engine = make_engine(job, isolate=past.isolate)
        try:
            run = BatchRun(job, attempt, prefix, with_engine, past, marks, predictions)
            return run.commit(run.results(workers, on_progress))
        finally:
            marks.sent(with_engine.egress())
            with_engine.close()
    finally:
        marks.end()


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


class BatchRun:
    """One attempt at one batch."""

    def __init__(
        self, job: Job, attempt: Attempt, prefix: str, engine: Engine, past: Past, marks: AttemptLog,
        predictions: Mapping[str, bytes],
    ) -> None:  # fmt: skip
        from airflow_facefog.publish.done import DoneIndex
        from airflow_facefog.publish.protocol import Publisher, Scope

        plan = job.plan
        self._job = job
        self._attempt = attempt
        self._prefix = prefix
        self._engine = engine
        self._isolated = past.isolate
        self._marks = marks
        self._publisher: Publisher = Publisher(
            job.audit, job.destination, Scope(plan.run_key, plan.generation, job.batch_id, attempt.attempt_id, prefix)
        )
        self._worker = Worker(
            plan, job.keys, job.source, engine, Rows(plan, job.batch_id, attempt),
            DoneIndex.load(
                job.destination, job.audit, plan.dataset, plan.base_snapshot, recipe_hash=plan.recipe_hash,
                source_refs=[item.source_ref for item in job.items],
            ),
            PredictionCache(plan, job.audit, job.keys), killers=past.killers,
            before=marks.holds if past.isolate else None, predictions=predictions,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"BatchRun({self._job.batch_id})"

    def results(self, workers: int | None, on_progress: Progress | None) -> list[Result]:
        """Process all items and publish in micro-batches; the canary is checked first and before every intent."""
        from airflow_facefog.job.machine import usable_cpus

        self._engine.check_canary()
        wanted = workers or self._job.plan.detector_info.get("concurrency") or usable_cpus()
        threads = 1 if self._isolated else wanted
        ended: list[Result] = []
        micro: list[Result] = []
        size = 0
        for result in run_in_order(self._worker.run, self._job.items, threads):
            micro.append(result)
            size += len(result.encoded.data) if result.encoded else 0
            if len(micro) >= MICRO_IMAGES or size >= MICRO_BYTES:
                ended += self._publish(micro)
                micro, size = [], 0
            if on_progress is not None:
                on_progress(1)
        return ended + self._publish(micro)

    def _publish(self, micro: Sequence[Result]) -> list[Result]:
        from airflow_facefog.publish.protocol import Pending

        pending: list[Pending] = []
        for result in micro:
            if result.encoded is not None:
                pending.append(self._pending(result))
        if not micro:
            return []
        self._engine.check_canary()
        self._marks.sent(self._engine.egress())  # now: an attempt that is killed has no end to say it at
        if not pending:
            return list(micro)
        started = perf_counter()
        keys = self._publisher.publish(pending)
        each_ms = (perf_counter() - started) * 1e3 / len(pending)
        hashes = {item.source_ref: item.sha256 for item in pending}
        return [
            published(result, self._job.destination.uri(keys[ref]), hashes[ref], each_ms) if ref in hashes else result
            for result in micro
            for ref in (result.item.source_ref,)
        ]

    def _pending(self, result: Result) -> Any:
        import hashlib

        from airflow_facefog.publish.layout import output_key
        from airflow_facefog.publish.protocol import Pending

        encoded = result.encoded
        assert encoded is not None
        assert result.image.image_id is not None
        sha256 = hashlib.sha256(encoded.data).hexdigest()
        layout, key = self._job.plan.layout, result.item.key
        return Pending(
            result.item.source_ref, result.image.image_id, output_key(layout, key, sha256, encoded.extension),
            output_key(layout, key, sha256, encoded.extension, full=True), sha256, encoded,
        )  # fmt: skip

    def commit(self, results: Sequence[Result]) -> dict[str, Any]:
        """Write image and detection parts, then the commit; return the winner's commit."""
        from airflow_facefog.publish.protocol import write_commit, write_part

        job = self._job
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        images = [replace(result.image, committed_at=now) for result in results]
        detections = [row for result in results for row in result.detections]
        if len(images) != len(job.items):
            raise FogError(f"batch {job.batch_id}: {len(images)} results for {len(job.items)} items")
        statuses = Counter(image.status for image in images)
        body = {
            "batch_id": job.batch_id,
            "attempt_id": self._attempt.attempt_id,
            "try_number": self._attempt.try_number,
            "map_index": self._attempt.map_index,
            "committed_at": now,
            "counts": {status.value: statuses.get(status.value, 0) for status in Status},
            "image": write_part(job.audit, f"{self._prefix}image.parquet", "facefog_image", images),
            "detection": write_part(job.audit, f"{self._prefix}detection.parquet", "facefog_detection", detections),
            "intents": self._publisher.parts,
        }
        return write_commit(job.audit, job.plan.commit_key(job.batch_id), self._attempt.attempt_id, body)


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
