"""The staged driver: one task looks, another covers. Stored predictions are authenticated; a missing or wrong entry means
detecting again, never "no faces"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.pipeline import look
from airflow_facefog.core.predictions import seal_prediction
from airflow_facefog.core.raw import sealed
from airflow_facefog.job.attempt import AttemptLog, read_past
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.cache import PredictionCache
from airflow_facefog.job.engine import close_detector, egress_of
from airflow_facefog.job.erased import Erasures
from airflow_facefog.job.model import Attempt, RootOpener, open_root_plain
from airflow_facefog.job.opening import Job, open_job
from airflow_facefog.job.worker import run_in_order

if TYPE_CHECKING:
    from airflow_facefog.core.detector import Detector
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.detectors.roboflow.access import AccessOpener
    from airflow_facefog.job.source import Item


@sealed
def detect_batch(
    plan: str, batch: str, *, attempt: Attempt, keys: KeyRing, open_root: RootOpener = open_root_plain,
    open_access: AccessOpener | None = None, audit_conn_id: str | None = None, workers: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Look at every image of a batch and store what was seen. Returns {"plan", "batch", "predictions", "n"}.

    An image that cannot be looked at gets no entry: the fog step meets the same error and quarantines it. After an attempt
    died without an exception nothing is looked at here: the fog step does it, image by image, in a child process.
    """
    from airflow_facefog.publish.protocol import read_commit

    job = open_job(plan, batch, keys, open_root, audit_conn_id, open_access)
    key = f"predictions/{job.plan.home}/{job.batch_id}/{attempt.attempt_id}.jsonl"
    lines: list[bytes] = []
    if read_commit(job.audit, job.plan.commit_key(job.batch_id)) is None:
        lines = _look_at_all(job, attempt, workers)
    job.audit.create(key, b"\n".join(lines))
    return {"plan": plan, "batch": batch, "predictions": job.audit.uri(key), "n": len(lines)}


@sealed
def fog_detected_batch(
    plan: str, batch: str, predictions: str, *, attempt: Attempt, keys: KeyRing,
    open_root: RootOpener = open_root_plain, open_access: AccessOpener | None = None,
    audit_conn_id: str | None = None, workers: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Cover every image of a batch from stored predictions; see ``run_batch`` for what it returns and raises."""
    return run_batch(
        plan, batch, attempt=attempt, keys=keys, open_root=open_root, open_access=open_access,
        audit_conn_id=audit_conn_id, workers=workers, predictions=predictions,
    )  # fmt: skip


def _look_at_all(job: Job, attempt: Attempt, workers: int | None) -> list[bytes]:
    from airflow_facefog.detectors.canary import check_canary
    from airflow_facefog.job.machine import calm_process, usable_cpus

    prefix = job.plan.attempt_prefix(job.batch_id)
    past = read_past(job.audit, prefix)
    marks = AttemptLog(job.audit, f"{prefix}{attempt.attempt_id}/")
    if past.isolate:
        return []
    marks.start()
    detector = job.detector()
    try:
        calm_process()
        check_canary(detector)
        looker = _Looker(job, detector)
        threads = workers or detector.info.concurrency or usable_cpus()
        lines = [line for line in run_in_order(looker.look, job.items, threads) if line]
        check_canary(detector)
        return lines
    finally:
        marks.sent(egress_of(detector))
        close_detector(detector)
        marks.end()


class _Looker:
    def __init__(self, job: Job, detector: Detector) -> None:
        self._job = job
        self._detector = detector
        self._cache = PredictionCache(job.plan, job.audit, job.keys)
        self._erasures = Erasures(job.audit, job.keys)

    @sealed
    def look(self, item: Item) -> bytes | None:
        job = self._job
        try:
            raw = job.source.read(item, job.keys)
            if raw.image_id in self._erasures:
                return None  # nobody looks at it again; the fog step says so
            known = self._cache.find(raw.image_id)
            if known is not None:
                return None  # the fog step finds it in the cache too
            looked = look(raw, self._detector, job.plan.policy)
        except ImageError:
            return None  # no entry: the fog step decides, on the same bytes
        width, height = looked.picture.width, looked.picture.height
        self._cache.keep(raw.image_id, width, height, looked.detections)
        entry = seal_prediction(
            job.keys, source_ref=item.source_ref, image_id=raw.image_id, width=width, height=height,
            recipe_hash=job.plan.recipe_hash, detections=looked.detections,
        )  # fmt: skip
        return item.source_ref.encode() + b" " + entry
