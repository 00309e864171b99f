"""Frozen records and closed vocabularies that pass between the rooms. Plain values: they compare, hash and print.

Boxes are ``xyxy`` floats in pixels of the **upright** image (EXIF orientation applied), origin top-left, half-open.
Confidence is 0..1. The audit records carry exactly the columns of ``audit/schema.py``, in its order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

XYXY = tuple[float, float, float, float]
IntXYXY = tuple[int, int, int, int]
Polygon = tuple[tuple[float, float], ...]

GRID = 64
"""Coordinates are rounded to 1/64 px at the detector's border, so that both drivers and every store agree."""


class Status(StrEnum):
    """Where a listed image ends: exactly one of these (promise P4)."""

    PUBLISHED = "published"
    QUARANTINED = "quarantined"
    FAILED = "failed"
    SKIPPED = "skipped"


class Action(StrEnum):
    """What the policy did with one cluster of detections."""

    FOGGED = "fogged"
    BELOW_THRESHOLD = "below_threshold"
    CLASS_IGNORED = "class_ignored"


class Reason(StrEnum):
    """Why an image or cluster ended as it did. Closed: the audit holds no other word."""

    # quarantined: the bytes were read and this recipe refuses them
    EMPTY_FILE = "empty_file"
    UNKNOWN_FORMAT = "unknown_format"
    UNSUPPORTED_FORMAT = "unsupported_format"
    MULTI_FRAME = "multi_frame"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    UNSUPPORTED_DEPTH = "unsupported_depth"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    DETECTOR_REFUSED = "detector_refused"
    TOO_MANY_DETECTIONS = "too_many_detections"
    ENCODE_FAILED = "encode_failed"
    VERIFY_FAILED = "verify_failed"
    CRASHED = "crashed"
    ALREADY_QUARANTINED = "already_quarantined"
    ERASED = "erased"
    # failed: no decision
    SOURCE_MISSING = "source_missing"
    SOURCE_CHANGED = "source_changed"
    SOURCE_UNREADABLE = "source_unreadable"
    SOURCE_OUTSIDE = "source_outside"
    REGIONS_UNREADABLE = "regions_unreadable"
    REGIONS_MISSING = "regions_missing"
    # skipped
    ALREADY_DONE = "already_done"
    # clusters
    METHOD_DOWNGRADED = "method_downgraded"
    REFOGGED = "refogged"


@dataclass(frozen=True, slots=True)
class Detection:
    """One prediction. ``xyxy`` in upright pixels, half-open; ``polygon`` in the same frame; ``confidence`` 0..1.

    ``human``: no prediction but what a person reported; it is always fogged, whatever the policy selects.

    Raises ValueError for non-finite numbers, an empty box or a confidence outside 0..1: a detector that says such a
    thing is broken, and a broken answer must never read as "no face".
    """

    xyxy: XYXY
    confidence: float
    class_name: str
    class_id: int = 0
    polygon: Polygon | None = None
    detector: str = ""
    human: bool = False

    def __post_init__(self) -> None:
        # numpy's float32 compares otherwise than the Python float that a stored prediction gives back
        x1, y1, x2, y2 = (float(v) for v in self.xyxy)
        object.__setattr__(self, "xyxy", (x1, y1, x2, y2))
        object.__setattr__(self, "confidence", float(self.confidence))
        if self.polygon is not None:
            object.__setattr__(self, "polygon", tuple((float(x), float(y)) for x, y in self.polygon))
        if not all(math.isfinite(v) for v in self.xyxy):
            raise ValueError(f"box {self.xyxy} is not finite")
        if x2 <= x1 or y2 <= y1:
            raise ValueError(f"box {self.xyxy} is empty")
        if not 0.0 <= self.confidence <= 1.0:
            raise ValueError(f"confidence {self.confidence} is outside 0..1")

    def on_grid(self) -> Detection:
        """Round outward to 1/64 px: the form in which every detector hands its boxes over."""
        x1, y1, x2, y2 = self.xyxy
        box = (math.floor(x1 * GRID) / GRID, math.floor(y1 * GRID) / GRID,
               math.ceil(x2 * GRID) / GRID, math.ceil(y2 * GRID) / GRID)  # fmt: skip
        polygon = self.polygon and tuple((round(x * GRID) / GRID, round(y * GRID) / GRID) for x, y in self.polygon)
        return replace(self, xyxy=box, polygon=polygon)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One listed item: a row of ``facefog_image``."""

    run_key: str
    generation: int
    source_ref: str
    status: str
    batch_id: str
    attempt_id: str
    image_id: str | None = None
    source_group: str | None = None
    source_etag: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    orientation_applied: int | None = None
    reason: str | None = None
    error_class: str | None = None
    output_uri: str | None = None
    output_sha256: str | None = None
    output_bytes: int | None = None
    n_detections: int = 0
    n_fogged: int = 0
    n_dropped: int = 0
    detect_floor: float | None = None
    verify_coverage: float | None = None
    verify_worst_score: float | None = None
    refogged: int = 0
    irreversible: int | None = None
    encode_mode: str | None = None
    outside_psnr: float | None = None
    t_read_ms: float | None = None
    t_detect_ms: float | None = None
    t_fog_ms: float | None = None
    t_write_ms: float | None = None
    try_number: int = 1
    duplicate_of: str | None = None
    done_run_key: str | None = None
    committed_at: str | None = None
    pixel_id: str | None = None
    leaf_idx: int | None = None


@dataclass(frozen=True, slots=True)
class DetectionRecord:
    """One cluster of detections, fogged or not: a row of ``facefog_detection``."""

    run_key: str
    generation: int
    source_ref: str
    image_id: str
    det_idx: int
    detector: str
    class_name: str
    confidence: float
    threshold: float
    x1: float
    y1: float
    x2: float
    y2: float
    n_members: int
    polygon: str | None
    action: str
    reason: str | None
    method: str | None
    params_hash: str | None
    fx1: int | None
    fy1: int | None
    fx2: int | None
    fy2: int | None
    irreversible: int | None
    source: str = "model"


@dataclass(frozen=True, slots=True)
class IntentRecord:
    """What an attempt is about to publish, durable before the object exists: a row of ``facefog_intent``."""

    run_key: str
    generation: int
    source_ref: str
    image_id: str
    attempt_id: str
    batch_id: str
    output_key: str
    output_sha256: str
    created_at: str
