"""Masks of regions. Every mask is a union of whole 8x8 blocks of the output grid, so it is kept as a small block grid.

Sizes are px unless said; ``Grid`` arrays are (rows, columns) of blocks, uint8, 1 = covered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from airflow_facefog.core import boxes
from airflow_facefog.core.boxes import BLOCK
from airflow_facefog.core.policy import Shape
from airflow_facefog.core.records import XYXY, IntXYXY
from airflow_facefog.core.regions import Decision, polygon_margin

Pixels = npt.NDArray[np.uint8]
Grid = npt.NDArray[np.uint8]

LARGEST_VERTEX = 2.0**24
"""px. Polygons beyond it do not fit the rasteriser's fixed point; their whole region is covered."""


@dataclass(frozen=True, eq=False, slots=True)
class Mask:
    """``grid`` (rows, columns) over ``box``, whose left and top are multiples of 8; the last blocks may be cut off."""

    box: IntXYXY
    grid: Grid

    @property
    def full(self) -> bool:
        """Whether the mask is the whole box."""
        return bool(self.grid.all())

    @property
    def short(self) -> int:
        """The shorter side of the box, px."""
        return min(self.box[2] - self.box[0], self.box[3] - self.box[1])

    def pixels(self) -> Pixels:
        """(h, w) uint8 over the box, 255 = covered."""
        return expand(self.grid, (0, 0), (0, 0, self.box[2] - self.box[0], self.box[3] - self.box[1]))


def mask_of(decision: Decision) -> Mask:
    """The mask of a fogged decision. A shape that covers nothing of its region covers all of it (fail closed)."""
    region = decision.region
    assert region is not None
    grid = np.ones(_grid_shape(region), np.uint8)
    if decision.shape is Shape.ELLIPSE and decision.margin_box is not None:
        grid = _ellipse(region, boxes.at_least(decision.margin_box))
    elif decision.shape is Shape.POLYGON and decision.margin_box is not None:
        grid = _polygon(region, decision, polygon_margin(decision.hull, decision.margin_box))
    return Mask(region, grid if grid.any() else np.ones_like(grid))


def covered_grid(masks: Iterable[Mask], height: int, width: int) -> Grid:
    """The union of ``masks`` as one grid over a picture of ``height`` x ``width``."""
    grid = np.zeros((-(-height // BLOCK), -(-width // BLOCK)), np.uint8)
    for mask in masks:
        x, y = mask.box[0] // BLOCK, mask.box[1] // BLOCK
        rows, columns = mask.grid.shape
        grid[y : y + rows, x : x + columns] |= mask.grid
    return grid


def expand(grid: Grid, origin: tuple[int, int], box: IntXYXY) -> Pixels:
    """Pixels of ``box`` (h, w), 255 = covered, from a grid whose first block starts at ``origin`` (x, y)."""
    x1, y1, x2, y2 = box[0] - origin[0], box[1] - origin[1], box[2] - origin[0], box[3] - origin[1]
    part = grid[y1 // BLOCK : -(-y2 // BLOCK), x1 // BLOCK : -(-x2 // BLOCK)] * np.uint8(255)
    pixels = part.repeat(BLOCK, axis=1).repeat(BLOCK, axis=0)
    x, y = x1 % BLOCK, y1 % BLOCK
    return pixels[y : y + y2 - y1, x : x + x2 - x1]


def near(grid: Grid, origin: tuple[int, int], distance: int, box: IntXYXY) -> Pixels:
    """Pixels of ``box`` within ``distance`` px (Chebyshev) of the covered ones of ``grid``, these included; 255 = yes.

    ``box`` must lie within ``distance`` of the grid. Whole blocks are dilated as blocks, only the rest as pixels: equal to
    dilating the pixels and 64 times cheaper.
    """
    whole, rest = divmod(distance, BLOCK)
    pad = whole + 2
    wide = cv2.copyMakeBorder(grid, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    wide = cv2.dilate(wide, _square(whole))
    start = (origin[0] - pad * BLOCK, origin[1] - pad * BLOCK)
    room = (box[0] - rest, box[1] - rest, box[2] + rest, box[3] + rest)
    pixels = expand(np.asarray(wide, np.uint8), start, room)
    if rest:
        pixels = np.asarray(cv2.dilate(pixels, _square(rest)), np.uint8)[rest:-rest, rest:-rest]
    return pixels


def _square(radius: int) -> npt.NDArray[Any]:
    return np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)


def _grid_shape(box: IntXYXY) -> tuple[int, int]:
    return -(-(box[3] - box[1]) // BLOCK), -(-(box[2] - box[0]) // BLOCK)


def _ellipse(region: IntXYXY, inner: XYXY) -> Grid:
    """Blocks that the ellipse through the corners of ``inner`` touches."""
    rows, columns = _grid_shape(region)
    across = _gap(region[0], columns, inner[0], inner[2])
    down = _gap(region[1], rows, inner[1], inner[3])
    # 1e-9: a corner of the box lies on the ellipse exactly, rounding must not push its block out
    return (across[None, :] + down[:, None] <= 1.0 + 1e-9).astype(np.uint8)


def _gap(start: int, count: int, low: float, high: float) -> npt.NDArray[np.float64]:
    """Squared distance of each block from the centre, in semi-axes (half the side times sqrt 2)."""
    centre, axis = (low + high) / 2.0, (high - low) / math.sqrt(2.0)
    first = start + BLOCK * np.arange(count, dtype=np.float64)
    distance = np.maximum(np.maximum(first - centre, centre - (first + BLOCK)), 0.0)
    return np.asarray((distance / axis) ** 2, np.float64)


def _polygon(region: IntXYXY, decision: Decision, margin: tuple[float, float, float]) -> Grid:
    """Blocks within the margin of any block that the polygon touches; holes are filled."""
    rows, columns = _grid_shape(region)
    points = np.asarray(decision.polygon, np.float64)
    if np.abs(points).max() > LARGEST_VERTEX:
        return np.ones((rows, columns), np.uint8)
    room = np.zeros((rows * BLOCK, columns * BLOCK), np.uint8)
    vertices = np.rint(points - (region[0], region[1])).astype(np.int32)
    cv2.fillPoly(room, [vertices], (1,))
    outlines, _ = cv2.findContours(room, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(room, outlines, -1, (1,), cv2.FILLED)  # fillPoly leaves holes where a polygon crosses itself
    grid = room.reshape(rows, BLOCK, columns, BLOCK).max(axis=(1, 3))
    side, top, bottom = (math.ceil(m / BLOCK) for m in margin)
    kernel = np.ones((top + bottom + 1, 2 * side + 1), np.uint8)
    return np.asarray(cv2.dilate(grid, kernel, anchor=(side, bottom)), np.uint8)
