"""Batch, mapped: read, look, cover, and publish under the protocol; one commit per batch, the first wins.

``run_batch`` is the single-pass driver. ``detect_batch`` and ``fog_detected_batch`` are the staged one: two tasks, the same
bytes out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import FogError
from airflow_facefog.core.raw import sealed
from airflow_facefog.core.records import Status
from airflow_facefog.job.attempt import AttemptLog, Past, read_past
from airflow_facefog.job.cache import PredictionCache
from airflow_facefog.job.erased import Erasures
from airflow_facefog.job.model import Attempt, RootOpener, open_root_plain
from airflow_facefog.job.opening import Job, load_predictions, make_engine, open_job
from airflow_facefog.job.reported import Reported
from airflow_facefog.job.rows import Result, Rows, published
from airflow_facefog.job.worker import Worker, run_in_order

if TYPE_CHECKING:
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.detectors.roboflow.access import AccessOpener
    from airflow_facefog.job.engine import Engine
    from airflow_facefog.publish.protocol import Publisher

MICRO_IMAGES = 64
MICRO_BYTES = 128_000_000
"""A micro-batch is published when it holds this much: intents durable, then the objects."""

Progress = Callable[[int], None]
Accept = Callable[[Result], None]


@sealed
def run_batch(
    plan: str, batch: str, *, attempt: Attempt, keys: KeyRing, open_root: RootOpener = open_root_plain,
    open_access: AccessOpener | None = None, audit_conn_id: str | None = None, workers: int | None = None,
    on_progress: Progress | None = None, predictions: str | None = None, accept: Accept | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Process one batch and commit it; a batch that is committed already is returned without reading a pixel.

    ``accept`` sees each result before anything of it is written, and may raise to fail the attempt.
    Returns {"plan", "batch", "batch_id", "published", "quarantined", "failed", "skipped"}. Raises PlanMismatchError
    (another recipe: clear the list task too), DetectorError (canary missed), StoreError (a store is down).
    """
    from airflow_facefog.publish.protocol import read_commit

    job = open_job(plan, batch, keys, open_root, audit_conn_id, open_access)
    commit = read_commit(job.audit, job.plan.commit_key(job.batch_id))
    if commit is None:
        commit = _attempt(job, attempt, workers, on_progress, load_predictions(job, predictions), accept)
    return {"plan": plan, "batch": batch, "batch_id": job.batch_id, **commit["counts"]}


def _attempt(
    job: Job,
    attempt: Attempt,
    workers: int | None,
    on_progress: Progress | None,
    predictions: Mapping[str, bytes],
    accept: Accept | None,
) -> dict[str, Any]:
    prefix = job.plan.attempt_prefix(job.batch_id, attempt.attempt_id)
    past = read_past(job.audit, job.plan.attempt_prefix(job.batch_id))
    marks = AttemptLog(job.audit, prefix)
    marks.start()
    try:
        with_engine = make_engine(job, isolate=past.isolate)
        try:
            run = BatchRun(job, attempt, prefix, with_engine, past, marks, predictions)
            return run.commit(run.results(workers, on_progress, accept))
        finally:
            marks.sent(with_engine.egress())
            with_engine.close()
    finally:
        marks.end()


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
            PredictionCache(plan, job.audit, job.keys), Erasures(job.audit, job.keys),
            Reported(job.audit, job.keys), killers=past.killers,
            before=marks.holds if past.isolate else None, predictions=predictions,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"BatchRun({self._job.batch_id})"

    def results(self, workers: int | None, on_progress: Progress | None, accept: Accept | None = None) -> list[Result]:
        """Process all items and publish in micro-batches; the canary is checked first and before every intent."""
        from airflow_facefog.job.machine import usable_cpus

        self._engine.check_canary()
        wanted = workers or self._job.plan.detector_info.get("concurrency") or usable_cpus()
        threads = 1 if self._isolated else wanted
        ended: list[Result] = []
        micro: list[Result] = []
        size = 0
        for result in run_in_order(self._worker.run, self._job.items, threads):
            if accept is not None:
                accept(result)
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

        if all(result.image.status == Status.SKIPPED for result in micro):
            return list(micro)  # nothing was looked at
        pending: list[Pending] = [self._pending(result) for result in micro if result.encoded is not None]
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
