"""Mosaic and blur: covered pixels influence the output, so both stay linkable to the source photo.

Means are exact integers from an integral image; noise is keyed, so who lacks the key cannot subtract it.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from airflow_facefog.core.fog.masks import Mask, Pixels
from airflow_facefog.core.fog.noise import cell_noise, soft_noise

MAX_CELLS = 6
"""Most mosaic cells along a side; more are recognisable (10 cells: 73 % rank-1 against fogged galleries)."""

MIN_CELL = 12
"""Least side of a mosaic cell, px."""

MAX_BLUR_SIDE = 24
"""Longest side of the shrunken region before the Gaussian, cells."""

BLUR_NOISE_ZERO = 26


def mosaic_cells(mask: Mask) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Edges (x, y) of the mosaic's cells relative to the mask's box, px: at most 6 cells a side."""
    width, height = mask.box[2] - mask.box[0], mask.box[3] - mask.box[1]
    cell = _cell(width, height)
    return _edges(width, -(-width // cell), cell), _edges(height, -(-height // cell), cell)


def render_pixelate(mask: Mask, inside: Pixels, seed: bytes) -> Pixels:
    """A patch of flat cells: the mean of ``inside`` (the mask's box) plus one keyed value for each cell."""
    xs, ys = mosaic_cells(mask)
    cell = _cell(mask.box[2] - mask.box[0], mask.box[3] - mask.box[1])
    noise = [[cell_noise(seed, cell, mask.box[0] + int(x), mask.box[1] + int(y)) for x in xs[:-1]] for y in ys[:-1]]
    means = _means(inside, xs, ys) + np.array(noise, np.int64)[:, :, None]
    flat = _opaque(np.clip(means, 0, 255).astype(np.uint8))
    patch = flat.repeat(np.diff(ys), axis=0).repeat(np.diff(xs), axis=1)
    return patch[:, :, 0] if inside.ndim == 2 else patch


def render_blur(mask: Mask, inside: Pixels, seed: bytes) -> Pixels:
    """A patch blurred on a grid of at most 24x24 with sigma = a quarter of its side, plus a soft keyed field."""
    width, height = mask.box[2] - mask.box[0], mask.box[3] - mask.box[1]
    side = max(width, height)
    nx, ny = (max(1, min(MAX_BLUR_SIDE, side) * s // side) for s in (width, height))
    small = _means(inside, np.arange(nx + 1) * width // nx, np.arange(ny + 1) * height // ny).astype(np.uint8)
    soft = cv2.GaussianBlur(small, (0, 0), max(nx, ny) / 4.0, borderType=cv2.BORDER_REPLICATE).reshape(ny, nx, -1)
    noise = cv2.resize(soft_noise(seed, mask.box), (nx, ny), interpolation=cv2.INTER_LINEAR_EXACT)
    noisy = soft.astype(np.int64) + (noise.astype(np.int64) - BLUR_NOISE_ZERO)[:, :, None]
    flat = _opaque(np.clip(noisy, 0, 255).astype(np.uint8))
    patch = cv2.resize(flat, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return np.asarray(patch, np.uint8)


def _cell(width: int, height: int) -> int:
    return max(-(-max(width, height) // MAX_CELLS), MIN_CELL)


def _edges(length: int, count: int, cell: int) -> npt.NDArray[np.intp]:
    return np.minimum(np.arange(count + 1) * cell, length)


def _means(inside: Pixels, xs: npt.NDArray[np.intp], ys: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """(rows, columns, channels) means of the cells between the edges, rounded half up."""
    total = cv2.integral(inside, sdepth=cv2.CV_64F)[ys][:, xs].astype(np.int64)
    total = total.reshape(len(ys), len(xs), -1)
    sums = total[1:, 1:] - total[:-1, 1:] - total[1:, :-1] + total[:-1, :-1]
    sizes = (np.diff(ys)[:, None] * np.diff(xs)[None, :])[:, :, None]
    return np.asarray((2 * sums + sizes) // (2 * sizes), np.int64)


def _opaque(cells: Pixels) -> Pixels:
    if cells.shape[2] == 4:
        cells[:, :, 3] = 255
    return cells
