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
from airflow_facefog.detectors.canary import Canary, bundled
from airflow_facefog.detectors.candidates import clip_to_frame, refuse_broken, to_detections
from airflow_facefog.detectors.frame import Fit, Window, check_pixels, cut, shrink, windows
from airflow_facefog.detectors.session import run_session, shared_session

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.floating]

CODE = "facefog.local.2"
"""Raise the number whenever scaling, decoding or thinning change: it is part of the fingerprint."""
LOWEST = 0.02
"""Scores below this are the model's background noise, not answers, whatever floor is asked for."""
MAX_UPSCALE = 4.0
GLANCE_SIDE = 256
STRIDE = 32
CLOSE_UP = 256
"""px of model input. YuNet is made for faces of 10..300 px: a larger box in the full look is believed as far as the glance,
where it is small enough to be judged, sees it too. Measured: supported faces .83 and more, false ones .21 and less."""
SUPPORT_IOU = 0.30


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
        found = [self._see(pixels, window) for window in windows(width, height)]
        boxes, inside = clip_to_frame(np.concatenate([b for b, _ in found]), width, height)
        scores = np.concatenate([s for _, s in found])
        inside &= scores >= max(floor, LOWEST)
        return to_detections(boxes[inside], scores[inside], "face", 0, "local")

    def canary(self) -> Canary:
        """The bundled portrait."""
        return bundled()

    def _see(self, pixels: Pixels, window: Window) -> tuple[Floats, Floats]:
        """Boxes in the upright picture and scores of one window: at full input size and, when that is large, at a glance.

        A box too large for the full look counts as far as the glance confirms it.
        """
        import numpy as np

        long = max(window.width, window.height)
        factor = min(max(1.0, min(self.min_side / long, MAX_UPSCALE)), self.max_side / long)
        fit = _scale(window, factor)
        image = cut(pixels, fit)
        boxes, scores = self._look(image, fit)
        if long * factor < 2 * GLANCE_SIDE:
            return boxes, scores
        small = _scale(window, GLANCE_SIDE / long)
        glanced, glanced_scores = self._look(shrink(image, small), small)
        large = _longest_side(boxes) * factor >= CLOSE_UP
        scores[large] = (scores[large] * _support(boxes[large], glanced, glanced_scores)).round(6)
        return np.concatenate([boxes, glanced]), np.concatenate([scores, glanced_scores])

    def _look(self, image: Pixels, fit: Fit) -> tuple[Floats, Floats]:
        """Boxes in the upright picture and scores (>= LOWEST) of one model input."""
        import numpy as np

        wide, high = -(-fit.width // STRIDE) * STRIDE, -(-fit.height // STRIDE) * STRIDE
        blob = np.zeros((1, 3, high, wide), np.float32)
        blob[0, :, : fit.height, : fit.width] = image.transpose(2, 0, 1)
        session = shared_session(yunet.SHA256, yunet.float_model)
        answer = run_session(session, {"input": blob}, list(yunet.OUTPUTS))
        boxes, scores = yunet.decode_heads(dict(zip(yunet.OUTPUTS, answer, strict=True)), wide, high)
        refuse_broken(boxes, scores)
        rounded = scores.astype(np.float64).round(6)
        strong = rounded >= LOWEST
        return fit.to_frame(boxes[strong]), rounded[strong]


def _longest_side(boxes: Floats) -> Floats:
    side: Floats = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0.0)
    return side


def _support(boxes: Floats, glanced: Floats, scores: Floats) -> Floats:
    """For each box 0..1: twice the best score of a glanced box that overlaps it, at most 1."""
    import numpy as np

    if not len(boxes) or not len(glanced):
        return np.zeros(len(boxes))
    low = np.maximum(boxes[:, None, :2], glanced[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], glanced[None, :, 2:])
    common = (high - low).clip(min=0.0).prod(axis=2)
    area, glanced_area = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, glanced))
    iou = common / (area[:, None] + glanced_area[None, :] - common)
    best = np.where(iou > SUPPORT_IOU, scores[None, :], 0.0).max(axis=1)
    support: Floats = np.minimum(1.0, 2.0 * best)
    return support


def _scale(window: Window, factor: float) -> Fit:
    return Fit(window, max(1, round(window.width * factor)), max(1, round(window.height * factor)))
