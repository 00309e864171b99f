"""One image is two functions: ``look`` (decode + detect) and ``cover`` (fog + encode + verify).

The single-pass driver decodes once and runs both; the staged driver stores what ``look`` saw and runs ``cover`` later on
the same bytes. Same input, policy, model and key: byte-identical output either way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from airflow_facefog.core.detector import Detections, used_floor
from airflow_facefog.core.errors import DetectorError, ImageError, SourceError
from airflow_facefog.core.records import Detection, Reason
from airflow_facefog.core.regions import Decided, decide, with_fill

if TYPE_CHECKING:
    from airflow_facefog.core.codec import Encoded, Picture
    from airflow_facefog.core.detector import Detector
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.core.policy import FogPolicy
    from airflow_facefog.core.raw import RawImage
    from airflow_facefog.core.verify import Verdict


@dataclass(frozen=True, slots=True)
class Looked:
    """What a detector saw in one picture. ``detections`` hold everything above their floor; nothing is filtered yet."""

    picture: Picture = field(repr=False)
    detections: Detections
    decode_ms: float
    detect_ms: float


@dataclass(frozen=True, slots=True)
class Covered:
    """A fogged, encoded and verified picture; ``encoded`` holds the only bytes that may be published."""

    encoded: Encoded
    decided: Decided
    verdict: Verdict
    refogged: bool
    fog_ms: float


def decode_upright(raw: RawImage, policy: FogPolicy) -> Picture:
    """Decode ``raw`` to upright 8-bit pixels within the policy's limits. Raises ImageError."""
    from airflow_facefog.core.codec import decode

    return decode(raw, policy.limits)


def pixel_id(picture: Picture, keys: KeyRing) -> str:
    """``KeyRing.pixel_id_of`` of a picture: the same for the same upright pixels in any lossless file, alpha aside."""
    return keys.pixel_id_of(picture.width, picture.height, hashlib.sha256(picture.bgr().data).digest())


def look(raw: RawImage, detector: Detector, policy: FogPolicy) -> Looked:
    """Decode ``raw`` and ask ``detector`` for everything above the policy's ``record_floor``.

    Raises ImageError when the image cannot be decoded or the detector refuses it, DetectorError when its answer is no list
    of detections; other errors fail the attempt.
    """
    started = perf_counter()
    picture = decode_upright(raw, policy)
    decoded = perf_counter()
    detections = _checked(detector.detect(picture.bgr(), policy.record_floor), detector)
    return Looked(picture, detections, (decoded - started) * 1e3, (perf_counter() - decoded) * 1e3)


def _checked(found: Sequence[Detection], detector: Detector) -> Detections:
    """Refuse what is no list of detections: an empty mapping or text must not read as "nothing found"."""
    if not isinstance(found, list | tuple) or not all(isinstance(item, Detection) for item in found):
        raise DetectorError(
            f"detector {detector.info.name!r} answered with a {type(found).__name__} that is no list of Detection; "
            "correct the detector"
        )
    return Detections(found, used_floor(found))


def cover(
    raw: RawImage, picture: Picture, detections: Sequence[Detection], policy: FogPolicy, keys: KeyRing,
    human: Sequence[Detection] = (),
) -> Covered:  # fmt: skip
    """Fog, encode and verify ``picture``; on a failed verification fill instead, and on another failure give up.

    ``raw`` names the noise field (``cid``); ``human``: what people reported about these bytes, fogged besides.
    Raises SourceError(REGIONS_UNREADABLE) when that does not fit the picture, ImageError(VERIFY_FAILED) when even fill does
    not verify, and ImageError(TOO_MANY_DETECTIONS) when rows that the policy selects would have to be dropped, or were
    never listed.
    """
    started = perf_counter()
    _check_complete(detections, policy)
    _check_inside(human, picture.width, picture.height)
    decided = decide([*detections, *human], policy, picture.width, picture.height, keyed=keys.keyed)
    cid = keys.content_id(raw.sha256)
    encoded, verdict = _attempt(picture, decided, policy, keys, cid)
    refogged = not verdict.ok
    if refogged:
        decided = with_fill(decided)
        encoded, verdict = _attempt(picture, decided, policy, keys, cid)
    if not verdict.ok:
        raise ImageError(
            Reason.VERIFY_FAILED, f"the output does not verify, not even filled ({', '.join(verdict.failures)})"
        )
    return Covered(encoded, decided, verdict, refogged, (perf_counter() - started) * 1e3)


def _check_complete(detections: Sequence[Detection], policy: FogPolicy) -> None:
    """An answer that is complete only from a higher confidence must still hold everything that the policy selects."""
    floor, needed = used_floor(detections), policy.lowest_threshold()
    if floor is not None and floor > needed:
        raise ImageError(
            Reason.TOO_MANY_DETECTIONS,
            f"the detector could list regions from confidence {floor:g} only, a rule fogs from {needed:g}; "
            "split the image, or let the detector answer more regions",
        )


def _check_inside(human: Sequence[Detection], width: int, height: int) -> None:
    """The regions that people reported were made for exactly these pixels; others were not meant."""
    for region in human:
        x1, y1, x2, y2 = region.xyxy
        if not region.human or x1 < 0 or y1 < 0 or x2 > width or y2 > height:
            raise SourceError(
                Reason.REGIONS_UNREADABLE, "a reported region does not fit this image; restore regions/ in the audit"
            )


def _attempt(
    picture: Picture, decided: Decided, policy: FogPolicy, keys: KeyRing, cid: bytes
) -> tuple[Encoded, Verdict]:
    from airflow_facefog.core.codec import encode
    from airflow_facefog.core.fog import fog
    from airflow_facefog.core.verify import verify

    encoded = encode(picture, fog(picture.pixels, decided, policy, keys, cid), policy.output)
    return encoded, verify(picture.pixels, encoded, decided, policy, keys, cid)
