"""Turn one raw image into one verified output: in this process, or in a spawned child after an attempt died."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from airflow_facefog.core.detector import Detections, used_floor
from airflow_facefog.core.pipeline import Covered, cover, decode_upright, look, pixel_id
from airflow_facefog.core.raw import RawImage, sealed

if TYPE_CHECKING:
    from airflow_facefog.core.codec import Picture
    from airflow_facefog.core.detector import Detector
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.core.policy import FogPolicy
    from airflow_facefog.core.records import Detection

Egress = dict[str, dict[str, float]]
"""What left this machine: host → calls, bytes, credits."""


@dataclass(frozen=True, slots=True)
class Processed:
    """What the audit needs of one image, and the bytes to publish. Holds nothing raw; travels between processes."""

    width: int
    height: int
    format: str
    orientation: int
    changes: tuple[str, ...]
    covered: Covered = field(repr=False)
    decode_ms: float
    detect_ms: float | None
    detect_floor: float | None
    seen: Detections | None = field(repr=False, default=None)
    pixel_id: str | None = None


class Engine(Protocol):
    """Processes one image at a time; several threads may call it."""

    def process(self, raw: RawImage, stored: Sequence[Detection] | None, human: Sequence[Detection] = ()) -> Processed:
        """Detect (unless ``stored`` says what was seen) and cover, what people reported (``human``) too.

        Raises ImageError to quarantine.
        """
        ...

    def check_canary(self) -> None:
        """Raise DetectorError when the detector misses its canary."""
        ...

    def egress(self) -> Egress:
        """What was sent to which host so far."""
        ...

    def close(self) -> None:
        """Free what the engine holds."""
        ...


class LocalEngine:
    """Runs in this process."""

    def __init__(self, detector: Detector, policy: FogPolicy, keys: KeyRing) -> None:
        self.detector = detector
        self._policy = policy
        self._keys = keys

    @sealed
    def process(self, raw: RawImage, stored: Sequence[Detection] | None, human: Sequence[Detection] = ()) -> Processed:
        """See Engine."""
        if stored is None:
            looked = look(raw, self.detector, self._policy)
            covered = cover(raw, looked.picture, looked.detections, self._policy, self._keys, human)
            done = _processed(looked.picture, covered, looked.detections, looked.decode_ms, looked.detect_ms)
            return self._named(done, looked.picture)
        picture = decode_upright(raw, self._policy)
        covered = cover(raw, picture, stored, self._policy, self._keys, human)
        return self._named(_processed(picture, covered, stored, 0.0, None), picture)

    def _named(self, done: Processed, picture: Picture) -> Processed:
        """With the pixel id, when the policy asks for it."""
        return replace(done, pixel_id=pixel_id(picture, self._keys)) if self._policy.record_pixel_id else done

    def check_canary(self) -> None:
        """See Engine."""
        from airflow_facefog.detectors.canary import check_canary

        check_canary(self.detector)

    def egress(self) -> Egress:
        """See Engine."""
        return egress_of(self.detector)

    def close(self) -> None:
        """Close what the detector holds open, such as connections."""
        close_detector(self.detector)


def close_detector(detector: Detector) -> None:
    """Call a detector's ``close()`` if it has one."""
    close = getattr(detector, "close", None)
    if callable(close):
        close()


def egress_of(detector: Detector) -> Egress:
    """What a detector sent out; empty for one that has no ``egress()``."""
    ask = getattr(detector, "egress", None)
    return dict(ask()) if callable(ask) else {}


def add_egress(one: Egress, other: Egress) -> Egress:
    """The sums by host."""
    return {
        host: {
            name: one.get(host, {}).get(name, 0) + other.get(host, {}).get(name, 0)
            for name in {**one.get(host, {}), **other.get(host, {})}
        }
        for host in {**one, **other}
    }


def _processed(
    picture: Picture, covered: Covered, detections: Sequence[Detection], decode_ms: float, detect_ms: float | None
) -> Processed:
    header, floor = picture.header, used_floor(detections)
    seen = Detections(detections, floor) if detect_ms is not None else None
    return Processed(
        picture.width, picture.height, header.format, header.orientation, picture.changes, covered, decode_ms, detect_ms,
        floor, seen,
    )  # fmt: skip
