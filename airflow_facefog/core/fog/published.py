"""The only view of a picture that the irreversible methods get: pixels outside every mask."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from airflow_facefog.core.fog.masks import Grid, Pixels, expand
from airflow_facefog.core.records import IntXYXY


class Published:
    """Windows on a picture in which everything under any mask is zero, so that no covered pixel can be read."""

    __slots__ = ("_covered", "_pixels")

    def __init__(self, pixels: Pixels, covered: Grid) -> None:
        self._pixels = pixels
        self._covered = covered

    def __repr__(self) -> str:
        return f"Published{self._pixels.shape}"

    @property
    def height(self) -> int:
        """Rows, px."""
        return int(self._pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns, px."""
        return int(self._pixels.shape[1])

    @property
    def channels(self) -> int:
        """1, 3 or 4."""
        return 1 if self._pixels.ndim == 2 else int(self._pixels.shape[2])

    def window(self, box: IntXYXY, wanted: Pixels | None = None) -> Window:
        """Pixels of ``box`` that are outside every mask and, if given, inside ``wanted`` (h, w, 255 = yes); else zero."""
        x1, y1, x2, y2 = box
        seen = cv2.bitwise_not(expand(self._covered, (0, 0), box))
        if wanted is not None:
            seen = cv2.bitwise_and(seen, wanted)
        part = self._pixels[y1:y2, x1:x2]
        safe = np.zeros(part.shape, np.uint8)
        cv2.copyTo(part, seen, safe)
        return Window(safe, int(cv2.countNonZero(seen)))


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Window:
    """``pixels`` with ``count`` of them visible and all others zero."""

    pixels: Pixels
    count: int

    def sums(self) -> tuple[int, ...]:
        """Sum of the visible pixels for each channel, exact."""
        return tuple(int(v) for v in cv2.sumElems(self.pixels))
