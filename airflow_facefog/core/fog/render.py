"""The irreversible methods. They get geometry, a seed and ``Published``: no covered pixel is within their reach."""

from __future__ import annotations

import cv2
import numpy as np

from airflow_facefog.core.fog.masks import Mask, Pixels, near
from airflow_facefog.core.fog.noise import COARSE, FINE, fog_field
from airflow_facefog.core.fog.published import Published
from airflow_facefog.core.records import IntXYXY

MIN_RING_PIXELS = 16
"""Fewer visible pixels around a region give no colour: grey then."""

OPAQUE = 255
GREY = (128, 128, 128)


def render_fog(mask: Mask, base: Published, seed: bytes) -> Pixels:
    """A patch for the mask's box: the quantised mean colour of the ring around the mask, plus the noise field.

    0 bits of the covered pixels are in it. (The inside's own mean would be linkable: rank-1 .54 of 160 photos.)
    """
    luma, red_difference, blue_difference = ring_colour(mask, base)
    noise = fog_field(seed, mask.short, mask.box)
    level = noise + np.uint8(luma - (COARSE + FINE))  # 12..244: cannot wrap
    if base.channels == 1:
        return level
    # BT.601 full range back to B, G, R
    shifts = np.array(
        [
            _rounded(1773 * blue_difference),
            -_rounded(714 * red_difference + 344 * blue_difference),
            _rounded(1403 * red_difference),
            0,
        ],
        np.float64,
    )
    coloured = cv2.cvtColor(level, cv2.COLOR_GRAY2BGR if base.channels == 3 else cv2.COLOR_GRAY2BGRA)
    coloured = cv2.add(coloured, np.maximum(shifts, 0.0))
    return np.asarray(cv2.subtract(coloured, np.maximum(-shifts, 0.0)), np.uint8)


def render_fill(mask: Mask, base: Published, color: tuple[int, int, int]) -> Pixels:
    """A patch of one constant colour, (R, G, B) 0..255; its luma in a grey picture."""
    height, width = mask.box[3] - mask.box[1], mask.box[2] - mask.box[0]
    red, green, blue = color
    if base.channels == 1:
        return np.full((height, width), (299 * red + 587 * green + 114 * blue + 500) // 1000, np.uint8)
    patch = np.empty((height, width, base.channels), np.uint8)
    patch[0] = np.array((blue, green, red, OPAQUE)[: base.channels], np.uint8)
    patch[1:] = patch[0]
    return patch


def ring_colour(mask: Mask, base: Published) -> tuple[int, int, int]:
    """(Y, Cr-128, Cb-128) of the visible pixels within max(4, short/8) px of the mask, quantised to steps of 16, 8, 8.

    Y lies in 48..208, the differences in -32..32; grey pictures have differences 0. Exact integers throughout.
    """
    total, count = [0, 0, 0, 0], 0
    reach = max(4, mask.short // 8)
    for box in _ring_boxes(mask, base, reach):
        wanted = None if mask.full else near(mask.grid, (mask.box[0], mask.box[1]), reach, box)
        window = base.window(box, wanted)
        total = [a + b for a, b in zip(total, window.sums(), strict=True)]
        count += window.count
    if count < MIN_RING_PIXELS:
        return 128, 0, 0
    if base.channels == 1:
        return min(max(_quantised(total[0], count, 16), 48), 208), 0, 0
    blue, green, red = total[:3]
    luma = 299 * red + 587 * green + 114 * blue  # thousandths, times count
    return (
        min(max(_quantised(luma, 1000 * count, 16), 48), 208),
        min(max(_quantised(713 * (1000 * red - luma), 1_000_000 * count, 8), -32), 32),
        min(max(_quantised(564 * (1000 * blue - luma), 1_000_000 * count, 8), -32), 32),
    )


def _ring_boxes(mask: Mask, base: Published, reach: int) -> list[IntXYXY]:
    """Boxes that hold the ring: four strips around a full mask (its inside is never touched), else one."""
    x1, y1, x2, y2 = mask.box
    left, top = max(0, x1 - reach), max(0, y1 - reach)
    right, bottom = min(base.width, x2 + reach), min(base.height, y2 + reach)
    if not mask.full:
        return [(left, top, right, bottom)]
    strips = [(left, top, right, y1), (left, y2, right, bottom), (left, y1, x1, y2), (x2, y1, right, y2)]
    return [s for s in strips if s[2] > s[0] and s[3] > s[1]]


def _quantised(value: int, scale: int, step: int) -> int:
    """``value / scale`` rounded to the nearest multiple of ``step``, halves upward."""
    return step * ((2 * value + step * scale) // (2 * step * scale))


def _rounded(thousandths: int) -> int:
    return (thousandths + 500) // 1000
