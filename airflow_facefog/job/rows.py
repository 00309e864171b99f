"""Audit rows of one image, from what happened to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.records import Action, DetectionRecord, ImageRecord, Reason, Status

if TYPE_CHECKING:
    from airflow_facefog.core.codec import Encoded
    from airflow_facefog.core.errors import ImageError
    from airflow_facefog.core.regions import Decided, Decision
    from airflow_facefog.job.engine import Processed
    from airflow_facefog.job.model import Attempt, Plan
    from airflow_facefog.job.source import Item


@dataclass(frozen=True, slots=True)
class Result:
    """How one item ended: its audit rows and, when it is to be published, the verified bytes."""

    item: Item
    image: ImageRecord
    detections: tuple[DetectionRecord, ...] = ()
    encoded: Encoded | None = field(repr=False, default=None)


class Rows:
    """Builds the rows of one attempt at one batch."""

    def __init__(self, plan: Plan, batch_id: str, attempt: Attempt) -> None:
        self._plan = plan
        self._base: dict[str, Any] = {
            "run_key": plan.run_key,
            "generation": plan.generation,
            "batch_id": batch_id,
            "attempt_id": attempt.attempt_id,
            "try_number": attempt.try_number,
        }

    def refused(self, item: Item, status: Status, error: ImageError, image_id: str | None, read_ms: float) -> Result:
        """Quarantined or failed."""
        return self._short(item, status, error.reason, image_id, read_ms, error_class=type(error).__name__)

    def known(self, item: Item, image_id: str, read_ms: float, done: Mapping[str, str] | None) -> Result:
        """Skipped (``done``: the earlier output) or, without it, quarantined again without a look."""
        if done is None:
            return self._short(item, Status.QUARANTINED, Reason.ALREADY_QUARANTINED, image_id, read_ms)
        return self._short(item, Status.SKIPPED, Reason.ALREADY_DONE, image_id, read_ms, **done)

    def erased(self, item: Item, read_ms: float) -> Result:
        """Quarantined because the picture was erased: the row names the listed item, nothing of the picture."""
        short = self._short(item, Status.QUARANTINED, Reason.ERASED, None, read_ms)
        return replace(short, image=replace(short.image, source_etag=None))

    def processed(self, item: Item, image_id: str, read_ms: float, done: Processed) -> Result:
        """To be published; ``output_uri`` is filled in once the object is there."""
        covered = done.covered
        decided, verdict, encoded = covered.decided, covered.verdict, covered.encoded
        fogged = [decision for decision in decided.decisions if decision.action is Action.FOGGED]
        image = self._image(
            item,
            Status.PUBLISHED,
            image_id=image_id,
            width=done.width,
            height=done.height,
            format=done.format,
            orientation_applied=done.orientation,
            output_bytes=len(encoded.data),
            n_detections=len(decided.decisions),
            n_fogged=len(fogged),
            n_dropped=decided.n_dropped,
            detect_floor=done.detect_floor,
            verify_coverage=verdict.coverage,
            verify_worst_score=verdict.worst_score,
            refogged=int(covered.refogged),
            reason=Reason.REFOGGED.value if covered.refogged else None,
            irreversible=int(all(decision.irreversible for decision in fogged)) if fogged else None,
            encode_mode="+".join([encoded.mode, *done.changes]),
            outside_psnr=verdict.outside_psnr,
            t_read_ms=round(read_ms + done.decode_ms, 3),
            t_detect_ms=None if done.detect_ms is None else round(done.detect_ms, 3),
            t_fog_ms=round(covered.fog_ms, 3),
            pixel_id=done.pixel_id,
        )
        return Result(item, image, self._detections(item, image_id, decided), encoded)

    def _detections(self, item: Item, image_id: str, decided: Decided) -> tuple[DetectionRecord, ...]:
        return tuple(
            self._detection(item, image_id, index, decision) for index, decision in enumerate(decided.decisions)
        )

    def _detection(self, item: Item, image_id: str, index: int, decision: Decision) -> DetectionRecord:
        x1, y1, x2, y2 = decision.xyxy
        fx1, fy1, fx2, fy2 = decision.region or (None, None, None, None)
        return DetectionRecord(
            run_key=self._plan.run_key, generation=self._plan.generation, source_ref=item.source_ref,
            image_id=image_id, det_idx=index, detector=decision.detector, class_name=decision.class_name,
            confidence=decision.confidence, threshold=decision.threshold, x1=x1, y1=y1, x2=x2, y2=y2,
            n_members=decision.n_members, polygon=json.dumps(decision.polygon) if decision.polygon else None,
            action=decision.action.value, reason=decision.reason and decision.reason.value,
            method=decision.method and decision.method.value, params_hash=decision.params_hash,
            fx1=fx1, fy1=fy1, fx2=fx2, fy2=fy2,
            irreversible=None if decision.irreversible is None else int(decision.irreversible),
            source="human" if decision.human else "model",
        )  # fmt: skip

    def _short(
        self, item: Item, status: Status, reason: Reason, image_id: str | None, read_ms: float, **more: Any
    ) -> Result:
        return Result(
            item, self._image(item, status, image_id=image_id, reason=reason.value, t_read_ms=round(read_ms, 3), **more)
        )

    def _image(self, item: Item, status: Status, **columns: Any) -> ImageRecord:
        return ImageRecord(
            source_ref=item.source_ref,
            source_group=item.group,
            source_etag=item.etag,
            status=status.value,
            **self._base,
            **columns,
        )


def published(result: Result, output_uri: str, sha256: str, write_ms: float) -> Result:
    """The result once its object is in the store, without the bytes."""
    image = replace(result.image, output_uri=output_uri, output_sha256=sha256, t_write_ms=round(write_ms, 3))
    return replace(result, image=image, encoded=None)
