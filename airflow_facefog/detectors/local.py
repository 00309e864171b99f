"""The embedded face detector: YuNet in onnxruntime, on the CPU, nothing leaves the process.

Numbers (accuracy, milliseconds, memory) are in ``docs/detectors.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_facefog.core.detector import DetectorInfo
from airflow_facefog.core.records import Detection
from airflow_facefog.detectors import yunet
from airflow_facefog.detectors.canary import Canary, bundled
from airflow_facefog.detectors.candidates import clip_to_frame, refuse_broken, to_detections
from airflow_facefog.detectors.frame import Fit, Window, check_pixels, cut, shrink, windows
from airflow_facefog.detectors.session import run_session, shared_session

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.floating]

CODE = "facefog.local.1"
"""Raise the number whenever scaling, decoding or thinning change: it is part of the fingerprint."""
LOWEST = 0.02
"""Scores below this are the model's background noise, not answers, whatever floor is asked for."""
MAX_UPSCALE = 4.0
GLANCE_SIDE = 256
STRIDE = 32


@dataclass(frozen=True, slots=True)
class LocalDetector:
    """YuNet faces. The input's long side is scaled into ``min_side``..``max_side`` px, small pictures at most 4-fold."""

    min_side: int = 1024
    max_side: int = 1600

    @property
    def info(self) -> DetectorInfo:
        """Identity; the fingerprint covers weights, scaling and this code's version."""
        text = "\0".join((CODE, yunet.SHA256, str(self.min_side), str(self.max_side)))
        return DetectorInfo(
            name="local",
            model_id="yunet",
            model_version="2023mar_int8bq",
            model_sha256=yunet.SHA256,
            fingerprint=hashlib.sha256(text.encode()).hexdigest(),
            classes=("face",),
        )

    def detect(self, pixels: Pixels, floor: float) -> Sequence[Detection]:
        """Return faces with confidence >= ``floor`` (but at least .02) in (h, w, 3) uint8 BGR, best first.

        Raises ImageError (answer not finite, too many regions) and DetectorError (model missing or altered).
        """
        import numpy as np

        width, height = check_pixels(pixels)
        found = [self._look(image, fit, max(floor, LOWEST)) for fit, image in self._inputs(pixels, width, height)]
        boxes, inside = clip_to_frame(np.concatenate([b for b, _ in found]), width, height)
        scores = np.concatenate([s for _, s in found])
        return to_detections(boxes[inside], scores[inside], "face", 0, "local")

    def canary(self) -> Canary:
        """The bundled portrait."""
        return bundled()

    def _inputs(self, pixels: Pixels, width: int, height: int) -> Iterator[tuple[Fit, Pixels]]:
        """Each window at full input size and, when that is much larger, once more at a glance."""
        for window in windows(width, height):
            long = max(window.width, window.height)
            factor = min(max(1.0, min(self.min_side / long, MAX_UPSCALE)), self.max_side / long)
            fit = _scale(window, factor)
            image = cut(pixels, fit)
            yield fit, image
            if long * factor >= 2 * GLANCE_SIDE:
                small = _scale(window, GLANCE_SIDE / long)
                yield small, shrink(image, small)

    def _look(self, image: Pixels, fit: Fit, floor: float) -> tuple[Floats, Floats]:
        """Boxes in the upright picture and scores of one model input."""
        import numpy as np

        wide, high = -(-fit.width // STRIDE) * STRIDE, -(-fit.height // STRIDE) * STRIDE
        blob = np.zeros((1, 3, high, wide), np.float32)
        blob[0, :, : fit.height, : fit.width] = image.transpose(2, 0, 1)
        session = shared_session(yunet.SHA256, yunet.float_model)
        answer = run_session(session, {"input": blob}, list(yunet.OUTPUTS))
        boxes, scores = yunet.decode_heads(dict(zip(yunet.OUTPUTS, answer, strict=True)), wide, high)
        refuse_broken(boxes, scores)
        rounded = scores.astype(np.float64).round(6)
        strong = rounded >= floor
        return fit.to_frame(boxes[strong]), rounded[strong]


def _scale(window: Window, factor: float) -> Fit:
    return Fit(window, max(1, round(window.width * factor)), max(1, round(window.height * factor)))
