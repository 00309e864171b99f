"""What a detector is. Implementations live in ``detectors/``; users bring their own by a dotted path.

Contract (``airflow_facefog.testing.DetectorContract`` tests it): thread-safe; the same pixels give the same answer; boxes
in upright pixels on the 1/64-px grid (``Detection.on_grid``); everything with confidence >= ``floor`` is returned and
nothing is filtered by class; a broken answer raises, it never reads as "nothing found".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from airflow_facefog.core.records import Detection

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
else:
    Pixels = Any


@dataclass(frozen=True, slots=True)
class DetectorInfo:
    """What the audit records about a detector.

    ``fingerprint`` changes whenever the answers could (weights, input scaling, decoding) and is part of the recipe.
    ``classes`` lists every class it can emit, or is None when that is unknown. ``remote_host`` is None when pixels stay
    in this process or this network. ``concurrency``: threads that a job should call it from (None: one per CPU).
    ``cacheable``: its answers cost something, so they are kept by content and a retry pays nothing twice.
    """

    name: str
    model_id: str
    model_version: str
    model_sha256: str
    fingerprint: str
    classes: tuple[str, ...] | None
    remote_host: str | None = None
    concurrency: int | None = None
    cacheable: bool = False


class Detections(tuple[Detection, ...]):
    """An answer that says from which confidence it really is complete.

    ``floor`` is None when that is the floor that was asked for, else the higher one that was used, because the detector
    could not list everything below it.
    """

    floor: float | None

    def __new__(cls, found: Iterable[Detection] = (), floor: float | None = None) -> Self:
        """Take ``found`` in its order."""
        answer = super().__new__(cls, found)
        answer.floor = floor
        return answer


def used_floor(found: Sequence[Detection]) -> float | None:
    """The ``floor`` of an answer; None for a plain sequence, which is complete as asked."""
    return found.floor if isinstance(found, Detections) else None


class Detector(Protocol):
    """Finds regions in one picture."""

    @property
    def info(self) -> DetectorInfo:
        """Identity and abilities; cheap, loads no model."""
        ...

    def detect(self, pixels: Pixels, floor: float) -> Sequence[Detection]:
        """Return all detections with confidence >= ``floor`` in ``pixels`` (h, w, 3) uint8 BGR, upright.

        Raises ImageError to refuse this image, TransientError when a retry may help, PermanentError otherwise.
        """
        ...
