"""The embedded face detector: YuNet in onnxruntime, on the CPU, nothing leaves the process.

Numbers (accuracy, milliseconds, memory) are in ``docs/detectors.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_facefog.core.detector import DetectorInfo
from airflow_facefog.core.records import Detection
from airflow_facefog.detectors import yunet
from airflow_facefog.detectors.candidates import clip_to_frame, refuse_broken, to_detections
from airflow_facefog.detectors.frame import Fit, Window, check_pixels, windows
from airflow_facefog.detectors.session import shared_session

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.floating]

CODE = "facefog.local.1"
"""Raise the number whenever scaling, decoding or thinning change: it is part of the fingerprint."""
LOWEST = 0.02
"""Scores below this are the model's background noise, not answers, whatever floor is asked for."""
MAX_UPSCALE = 8.0
STRIDE = 32


@dataclass(frozen=True, slots=True)
class LocalDetector:
    """YuNet faces. The input's long side is scaled into ``min_side``..``max_side`` px, small pictures at most 8-fold."""

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
        found = [self._look(pixels, window, max(floor, LOWEST)) for window in windows(width, height)]
        boxes, inside = clip_to_frame(np.concatenate([b for b, _ in found]), width, height)
        scores = np.concatenate([s for _, s in found])
        return to_detections(boxes[inside], scores[inside], "face", 0, "local")

    def _look(self, pixels: Pixels, window: Window, floor: float) -> tuple[Floats, Floats]:
        """Boxes in the upright picture and scores of one window."""
        import numpy as np

        fit = self._fit(window)
        wide, high = -(-fit.width // STRIDE) * STRIDE, -(-fit.height // STRIDE) * STRIDE
        blob = np.zeros((1, 3, high, wide), np.float32)
        blob[0, :, : fit.height, : fit.width] = fit.scaled(pixels).transpose(2, 0, 1)
        session = shared_session(yunet.SHA256, yunet.float_model)
        answer = session.run(list(yunet.OUTPUTS), {"input": blob})
        boxes, scores = yunet.decode_heads(dict(zip(yunet.OUTPUTS, answer, strict=True)), wide, high)
        refuse_broken(boxes, scores)
        rounded = scores.astype(np.float64).round(6)
        strong = rounded >= floor
        return fit.to_frame(boxes[strong]), rounded[strong]

    def _fit(self, window: Window) -> Fit:
        long = max(window.width, window.height)
        factor = min(max(1.0, min(self.min_side / long, MAX_UPSCALE)), self.max_side / long)
        return Fit(window, max(1, round(window.width * factor)), max(1, round(window.height * factor)))
