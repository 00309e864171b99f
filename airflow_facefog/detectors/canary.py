"""The canary: a picture whose answer is known, shown to the detector before an attempt's first image and after its last.

A detector that broke silently (wrong weights, a runtime that computes garbage, a wrong export) would answer "nothing"
for every image and all of them would be published clear. So it must find what is known to be there.

The bundled picture is a 128 x 128 crop of NASA's portrait of Eileen Collins (public domain). For the embedded model one
check costs about 6 ms of CPU, model loading aside.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from airflow_facefog.core.boxes import iou
from airflow_facefog.core.detector import Detector
from airflow_facefog.core.errors import ConfigurationError, DetectorError, ImageError
from airflow_facefog.core.records import XYXY, Detection

if TYPE_CHECKING:
    from airflow_facefog.core.detector import Pixels

FLOOR = 0.10
MIN_IOU = 0.5
ALIKE_FROM = 0.3
"""Weaker detections may drop below the floor in one answer and not in the other."""
ALIKE_IOU = 0.8


@dataclass(frozen=True, slots=True)
class Canary:
    """``picture`` (h, w, 3) BGR must show ``class_name`` at ``min_confidence`` or more, at ``xyxy`` if that is given."""

    picture: Pixels
    class_name: str
    min_confidence: float
    xyxy: XYXY | None = None


@runtime_checkable
class HasCanary(Protocol):
    """A detector that brings its own canary; ``canary()`` returns None when none is configured."""

    def canary(self) -> Canary | None:
        """Return the picture and what must be found in it, or None."""
        ...


@functools.lru_cache(maxsize=1)
def bundled() -> Canary:
    """The bundled portrait: one face, (39, 21, 85, 78), at confidence .5 or more."""
    data = resources.files(__package__).joinpath("canary.png").read_bytes()
    return Canary(read_picture(data), "face", 0.5, (39.0, 21.0, 85.0, 78.0))


def read_picture(data: bytes) -> Pixels:
    """Decode a canary file to (h, w, 3) BGR, read-only. Raises ConfigurationError if it is no picture."""
    import cv2
    import numpy as np

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if pixels is None:
        raise ConfigurationError(f"the canary picture ({len(data)} bytes) cannot be decoded; give a PNG or JPEG")
    pixels.setflags(write=False)
    return pixels  # type: ignore[return-value]


def without_canary(detector: Detector) -> list[str]:
    """Names of those (the detector, or members of a union) that have no canary of their own: blind, they would pass.

    Raises ConfigurationError for a configured canary that cannot be shown.
    """
    from airflow_facefog.detectors.union import UnionDetector

    if isinstance(detector, UnionDetector):
        return [name for member in detector.members for name in without_canary(member)]
    return [] if _own(detector) else [detector.info.name]


def _own(detector: Detector) -> Canary | None:
    return detector.canary() if isinstance(detector, HasCanary) else None


def check_canary(detector: Detector) -> None:
    """Raise DetectorError unless ``detector`` finds its canary; a union's members are checked one by one.

    A detector without a canary of its own (which a run's policy must accept) is shown the bundled picture twice and must
    give one answer; one whose answers are kept (``cacheable``, so a retry repeats none) may be off by what servers with
    several kinds of hardware differ in.
    TransientError and PermanentError of the detector pass through.
    """
    from airflow_facefog.detectors.union import UnionDetector

    if isinstance(detector, UnionDetector):
        for member in detector.members:
            check_canary(member)
        return
    canary = _own(detector)
    if canary is None:
        _check_consistent(detector, bundled().picture)
        return
    found = _ask(detector, canary.picture)
    if not any(_matches(detection, canary) for detection in found):
        raise DetectorError(
            f"detector {detector.info.name!r} missed its canary: no {canary.class_name!r} at confidence "
            f">= {canary.min_confidence} where one is known to be, {len(found)} other detections; "
            "do not publish anything with it: check model file, runtime versions and settings"
        )


def _check_consistent(detector: Detector, picture: Pixels) -> None:
    first, second = _ask(detector, picture), _ask(detector, picture)
    same = _alike(first, second) if detector.info.cacheable else first == second
    if not same:
        raise DetectorError(
            f"detector {detector.info.name!r} gave two answers to one picture; "
            "a detector must be deterministic, or retries publish different images"
        )


def _ask(detector: Detector, picture: Pixels) -> list[Detection]:
    try:
        return list(detector.detect(picture, FLOOR))
    except ImageError as error:
        raise DetectorError(f"detector {detector.info.name!r} refused its canary picture: {error}") from None


def _alike(first: list[Detection], second: list[Detection]) -> bool:
    """Whether all that either answer is half sure of is in the other too, in nearly the same place."""
    return all(
        any(one.class_name == other.class_name and iou(one.xyxy, other.xyxy) >= ALIKE_IOU for other in others)
        for ones, others in ((first, second), (second, first))
        for one in ones
        if one.confidence >= ALIKE_FROM
    )


def _matches(detection: Detection, canary: Canary) -> bool:
    if detection.class_name.casefold() != canary.class_name.casefold() or detection.confidence < canary.min_confidence:
        return False
    return canary.xyxy is None or iou(detection.xyxy, canary.xyxy) >= MIN_IOU
