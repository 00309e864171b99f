"""Turn a stored frame upright: EXIF orientations 1..8 (CIPA DC-008, tag 274)."""

from __future__ import annotations

import cv2
import numpy as np

from airflow_facefog.core.codec.picture import Pixels


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Apply ``orientation`` 1..8 to ``pixels`` (h, w[, c]); 5..8 exchange the sides. 1 returns the same array."""
    if orientation == 1:
        return pixels
    if orientation == 7:  # transverse
        return np.asarray(cv2.flip(cv2.transpose(pixels), -1), np.uint8)
    if orientation == 5:
        return np.asarray(cv2.transpose(pixels), np.uint8)
    if orientation in _FLIPS:
        return np.asarray(cv2.flip(pixels, _FLIPS[orientation]), np.uint8)
    return np.asarray(cv2.rotate(pixels, _TURNS[orientation]), np.uint8)


_FLIPS = {2: 1, 3: -1, 4: 0}
_TURNS = {6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
