"""From the upright picture to what a model sees, and back: windows, scaling and the exact inverse.

Elongated pictures (beyond 3:1) are cut along their long side into overlapping 3:1 windows: scaled as a whole, a 12:1
panorama would shrink every face below what a model can see. Windows overlap by the short side, so a region that is not
longer than the short side lies whole in one of them. Their number is bounded (32): a 30000 x 1 strip gets longer windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_facefog.core.errors import DetectorError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.floating]

MAX_ASPECT = 3
MAX_STEPS = 32


@dataclass(frozen=True, slots=True)
class Window:
    """Part of the upright picture: left, top, width, height in whole pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Fit:
    """How a window lies in a model's input: scaled to ``width`` x ``height`` px, then moved by ``left``, ``top``."""

    window: Window
    width: int
    height: int
    left: int = 0
    top: int = 0

    def to_frame(self, boxes: Floats) -> Floats:
        """Map xyxy (n, 4) from the model's input to the upright picture, with the factors of this very resize."""
        import numpy as np

        shift = np.array([self.left, self.top] * 2, np.float64)
        factor = np.array([self.window.width / self.width, self.window.height / self.height] * 2, np.float64)
        origin = np.array([self.window.x, self.window.y] * 2, np.float64)
        frame: Floats = (boxes.astype(np.float64) - shift) * factor + origin
        return frame


def cut(pixels: Pixels, fit: Fit) -> Pixels:
    """Cut the window out of ``pixels`` (h, w, 3) and resize it, bilinear (area averaging costs 18x at 12 MP)."""
    import cv2

    w = fit.window
    part = pixels[w.y : w.y + w.height, w.x : w.x + w.width]
    if part.shape[:2] == (fit.height, fit.width):
        return part
    return cv2.resize(part, (fit.width, fit.height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def shrink(image: Pixels, fit: Fit) -> Pixels:
    """Average an already cut window down to the size of ``fit``."""
    import cv2

    return cv2.resize(image, (fit.width, fit.height), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def check_pixels(pixels: Pixels) -> tuple[int, int]:
    """Return (width, height) of (h, w, 3) uint8 pixels. Raises DetectorError for anything else: a caller's bug."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype.name != "uint8" or 0 in pixels.shape:
        raise DetectorError(f"a detector takes (h, w, 3) uint8 BGR pixels, not {pixels.shape} {pixels.dtype.name}")
    return pixels.shape[1], pixels.shape[0]


def windows(width: int, height: int) -> Iterator[Window]:
    """Cover ``width`` x ``height`` px by one window, or by overlapping ones when it is longer than 3:1."""
    long, short = max(width, height), min(width, height)
    if long <= MAX_ASPECT * short:
        yield Window(0, 0, width, height)
        return
    overlap = max(short, math.ceil(long / (2 * MAX_STEPS)))
    length, step = MAX_ASPECT * overlap, (MAX_ASPECT - 1) * overlap
    for start in range(0, max(long - overlap, 1), step):
        size = min(length, long - start)
        yield Window(start, 0, size, height) if width >= height else Window(0, start, width, size)
