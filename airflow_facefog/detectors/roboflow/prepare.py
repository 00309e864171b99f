"""From upright pixels to the JPEG that is sent: scaled by our own factors, nothing in it but pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_facefog.detectors.frame import Fit, Window

if TYPE_CHECKING:
    from airflow_facefog.core.detector import Pixels

QUALITY = 92
"""IJG. Detection suffers below 90; colour is kept at full resolution (4:4:4), small plates and faces need it."""
MAX_BYTES = 3_900_000
"""The hosted API takes 20 MB; 4 MB is what a 24-megapixel source may cost on the wire."""
PAD = 114
"""Gray of YOLO's own letterbox."""
MIN_SIDE = 32
MAX_ASPECT = 16
"""Servers letterbox what they get to 640 px and less: a thinner picture would have no rows left there."""
SMALLEST = 64
"""A long side that is not shrunk any further, whatever its size in bytes."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What goes to the server: JPEG bytes of ``width`` x ``height`` px, with the window at its top left as ``fit`` says."""

    data: bytes = field(repr=False)
    fit: Fit
    width: int
    height: int

    @property
    def long_side(self) -> int:
        """Long side of the picture's part, px."""
        return max(self.fit.width, self.fit.height)


def prepare(pixels: Pixels, window: Window, max_side: int, max_bytes: int = MAX_BYTES) -> Sent:
    """Scale ``window`` of (h, w, 3) uint8 BGR so that its long side is at most ``max_side`` px, and encode it.

    Smaller still while the JPEG exceeds ``max_bytes``; never enlarged. Same pixels, same bytes.
    """
    side = min(max_side, max(window.width, window.height))
    while True:
        factor = min(1.0, side / max(window.width, window.height))
        fit = Fit(window, max(1, round(window.width * factor)), max(1, round(window.height * factor)))
        image = _padded(_scaled(pixels, fit))
        data = _encode(image)
        if len(data) <= max_bytes or side <= SMALLEST:
            return Sent(data, fit, image.shape[1], image.shape[0])
        side = max(SMALLEST, int(side * max(0.5, min(0.95, math.sqrt(max_bytes / len(data)) * 0.95))))


def _scaled(pixels: Pixels, fit: Fit) -> Pixels:
    """Averaged, not sampled: at a fourth of the size, sampling would skip what is small."""
    import cv2

    w = fit.window
    part = pixels[w.y : w.y + w.height, w.x : w.x + w.width]
    if part.shape[:2] == (fit.height, fit.width):
        return part
    return cv2.resize(part, (fit.width, fit.height), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _padded(image: Pixels) -> Pixels:
    """Fill up at the right and bottom to at least 32 px a side and at most 16:1."""
    import cv2

    height, width = image.shape[:2]
    least = max(MIN_SIDE, -(-max(width, height) // MAX_ASPECT))
    below, right = max(0, least - height), max(0, least - width)
    if not (below or right):
        return image
    gray = (PAD, PAD, PAD)
    return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=gray)  # type: ignore[return-value]


def _encode(image: Pixels) -> bytes:
    import numpy as np
    import simplejpeg

    data: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(image), QUALITY, "BGR", "444", fastdct=False)
    return data
