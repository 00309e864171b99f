"""Exact sums over a grid of tiles, fast enough for every pixel of every image.

Rows are folded with ``cv2.accumulateSquare`` on strided views, strip by strip so that the accumulator stays in the cache:
about the price of ``np.array_equal`` on the whole frame. Sums are exact below 2^24 a tile column, far above any limit.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from airflow_facefog.core.fog.masks import Pixels

Sums = npt.NDArray[np.float64]

STRIP_TILES = 16
"""Tile rows handled at once: 256 rows of a 4000 px picture make an accumulator of 768 kB."""


def square_sums(a: Pixels, b: Pixels, tile: int) -> Sums:
    """(tile rows, tile columns): sum of (a-b)² over each ``tile`` x ``tile`` px and all channels; edge tiles are smaller.

    ``a`` and ``b``: uint8 of one shape, (h, w) or (h, w, channels).
    """
    height, width = a.shape[:2]
    channels = a.size // (height * width)
    step = STRIP_TILES * tile
    parts = []
    for top in range(0, height, step):
        difference = cv2.absdiff(a[top : top + step], b[top : top + step])
        rows = np.asarray(difference, np.uint8).reshape(-1, width * channels)
        parts.append(_fold_columns(_fold_rows(rows, tile, square=True), tile * channels))
    return np.concatenate(parts)


def plain_sums(a: Pixels, tile: int) -> Sums:
    """(tile rows, tile columns) sums of one uint8 plane (h, w)."""
    return _fold_columns(_fold_rows(a, tile, square=False), tile)


def planes(pixels: Pixels) -> list[Pixels]:
    """Y alone for grey, else Y, Cr, Cb; alpha is left out."""
    if pixels.ndim == 2:
        return [pixels]
    bgr = pixels if pixels.shape[2] == 3 else cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR)
    return [np.asarray(p, np.uint8) for p in cv2.split(cv2.cvtColor(bgr, cv2.COLOR_BGR2YCrCb))]


def pixel_counts(height: int, width: int, tile: int) -> Sums:
    """Pixels in each tile of a picture."""
    rows = np.minimum(tile, height - np.arange(0, height, tile))
    columns = np.minimum(tile, width - np.arange(0, width, tile))
    return np.asarray(np.outer(rows, columns), np.float64)


def regroup(sums: Sums, rows: int, columns: int) -> Sums:
    """Join ``rows`` x ``columns`` neighbouring tiles into one."""
    down = np.add.reduceat(sums, np.arange(0, sums.shape[0], rows), axis=0)
    return np.asarray(np.add.reduceat(down, np.arange(0, sums.shape[1], columns), axis=1), np.float64)


def _fold_rows(rows: Pixels, tile: int, *, square: bool) -> npt.NDArray[np.float32]:
    """Sum every ``tile`` rows of (h, n) into one row of float32."""
    folded = np.zeros((-(-rows.shape[0] // tile), rows.shape[1]), np.float32)
    add = cv2.accumulateSquare if square else cv2.accumulate
    for phase in range(min(tile, rows.shape[0])):
        part = rows[phase::tile]
        add(part, folded[: part.shape[0]])
    return folded


def _fold_columns(folded: npt.NDArray[np.float32], run: int) -> Sums:
    """Sum every ``run`` columns into one; the last may be shorter."""
    whole = folded.shape[1] // run * run
    sums = folded[:, :whole].reshape(folded.shape[0], -1, run).sum(axis=2, dtype=np.float64)
    if whole == folded.shape[1]:
        return np.asarray(sums, np.float64)
    rest = folded[:, whole:].sum(axis=1, dtype=np.float64, keepdims=True)
    return np.concatenate([sums, rest], axis=1)
