"""Exact sums over a grid of tiles, fast enough for every pixel of every image.

Rows are folded with ``cv2.accumulateSquare`` on strided views, strip by strip so that the accumulator stays in the cache:
about the price of ``np.array_equal`` on the whole frame. Integers in float32: exact up to 2^24 a tile, far above any limit.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from airflow_facefog.core.fog.masks import Pixels

Sums = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

STRIP_TILES = 16
"""Tile rows handled at once: for 8-px tiles of a 4000 px picture an accumulator of 768 kB."""


def square_sums(a: Pixels, b: Pixels, tile: int) -> Sums:
    """(tile rows, tile columns): sum of (a-b)² over each ``tile`` x ``tile`` px and all channels; edge tiles are smaller.

    ``a`` and ``b``: uint8 of one shape, (h, w) or (h, w, channels).
    """
    height, width = a.shape[:2]
    channels = a.size // (height * width)
    step = min(STRIP_TILES * tile, height)
    buffer = np.empty((step, *a.shape[1:]), np.uint8)
    parts = []
    for top in range(0, height, step):
        rows = min(step, height - top)
        cv2.absdiff(a[top : top + rows], b[top : top + rows], dst=buffer[:rows])
        flat = buffer[:rows].reshape(rows, width * channels)
        parts.append(_fold(flat, tile, np.ones((tile * channels, 1), np.float32), square=True))
    return np.concatenate(parts)[:, :, 0]


def channel_sums(a: Pixels, tile: int) -> Sums:
    """(tile rows, tile columns, channels): sum of each channel over each tile of (h, w) or (h, w, channels) uint8."""
    height, width = a.shape[:2]
    channels = a.size // (height * width)
    return _fold(
        a.reshape(height, width * channels), tile, np.tile(np.eye(channels, dtype=np.float32), (tile, 1)), square=False
    )


def luma(pixels: Pixels) -> Pixels:
    """Y of grey, BGR or BGRA pixels (BT.601)."""
    if pixels.ndim == 2:
        return pixels
    code = cv2.COLOR_BGR2GRAY if pixels.shape[2] == 3 else cv2.COLOR_BGRA2GRAY
    return np.asarray(cv2.cvtColor(pixels, code), np.uint8)


def planes(pixels: Pixels) -> list[Pixels]:
    """Y alone for grey, else Y, Cr, Cb; alpha is left out."""
    if pixels.ndim == 2:
        return [pixels]
    bgr = pixels if pixels.shape[2] == 3 else cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR)
    return [np.asarray(p, np.uint8) for p in cv2.split(cv2.cvtColor(bgr, cv2.COLOR_BGR2YCrCb))]


def span_counts(length: int, tile: int) -> Counts:
    """Pixels along one side in each tile: ``tile``, but for the rest at the end."""
    return np.minimum(tile, length - np.arange(0, length, tile))


def pixel_counts(height: int, width: int, tile: int) -> Sums:
    """Pixels in each tile of a picture."""
    return np.outer(span_counts(height, tile), span_counts(width, tile)).astype(np.float64)


def regroup(sums: Sums, rows: int, columns: int) -> Sums:
    """Join ``rows`` x ``columns`` neighbouring tiles into one; further axes stay."""
    down = np.add.reduceat(sums, np.arange(0, sums.shape[0], rows), axis=0)
    return np.asarray(np.add.reduceat(down, np.arange(0, sums.shape[1], columns), axis=1), np.float64)


def _fold(rows: Pixels, tile: int, select: npt.NDArray[np.float32], *, square: bool) -> Sums:
    """Sums over tiles of (h, n) values; ``select`` (values a tile row, outputs) says which value counts for which output."""
    folded = np.zeros((-(-rows.shape[0] // tile), rows.shape[1]), np.float32)
    add = cv2.accumulateSquare if square else cv2.accumulate
    for phase in range(min(tile, rows.shape[0])):
        part = rows[phase::tile]
        add(part, folded[: part.shape[0]])
    run, count = select.shape[0], folded.shape[0]
    whole = folded.shape[1] // run * run
    sums = (folded[:, :whole].reshape(-1, run) @ select).reshape(count, -1, select.shape[1])
    if whole < folded.shape[1]:
        rest = folded[:, whole:] @ select[: folded.shape[1] - whole]
        sums = np.concatenate([sums, rest[:, None, :]], axis=1)
    return sums.astype(np.float64)
