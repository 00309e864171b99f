"""Several detectors as one: every member looks at every picture, and each detection keeps its member's name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_facefog.core.detector import Detections, Detector, DetectorInfo, used_floor
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.records import Detection

if TYPE_CHECKING:
    from airflow_facefog.core.detector import Pixels


@dataclass(frozen=True, slots=True)
class UnionDetector:
    """All detections of all ``members``, in their order. One member that raises fails the picture for all.

    Raises ConfigurationError when there is no member.
    """

    members: tuple[Detector, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise ConfigurationError("a union of no detectors would find nothing in every image; give at least one")

    @property
    def info(self) -> DetectorInfo:
        """Joined identity: ``classes`` is None as soon as one member's are unknown."""
        infos = [member.info for member in self.members]
        classes: tuple[str, ...] | None = ()
        for info in infos:
            classes = None if classes is None or info.classes is None else (*classes, *info.classes)
        hosts = sorted({info.remote_host for info in infos if info.remote_host})
        return DetectorInfo(
            name="union",
            model_id="+".join(info.model_id for info in infos),
            model_version="+".join(info.model_version for info in infos),
            model_sha256=_digest([info.model_sha256 for info in infos]),
            fingerprint=_digest([info.fingerprint for info in infos]),
            classes=classes and tuple(dict.fromkeys(classes)),
            remote_host=",".join(hosts) or None,
            concurrency=max((info.concurrency for info in infos if info.concurrency), default=None),
            cacheable=any(info.cacheable for info in infos),
        )

    def detect(self, pixels: Pixels, floor: float) -> Sequence[Detection]:
        """Return the members' detections, concatenated; raises whatever a member raises."""
        answers = [member.detect(pixels, floor) for member in self.members]
        used = [higher for higher in map(used_floor, answers) if higher is not None]
        return Detections((detection for answer in answers for detection in answer), max(used, default=None))

    def egress(self) -> dict[str, dict[str, float]]:
        """What all members sent out, by host."""
        total: dict[str, dict[str, float]] = {}
        for member in self.members:
            ask = getattr(member, "egress", None)
            for host, sent in (ask() if callable(ask) else {}).items():
                sums = total.setdefault(host, {})
                sums.update({name: sums.get(name, 0) + value for name, value in sent.items()})
        return total

    def close(self) -> None:
        """Close the members that can be closed."""
        for member in self.members:
            close = getattr(member, "close", None)
            if callable(close):
                close()


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(("facefog/union/1", *parts)).encode()).hexdigest()
