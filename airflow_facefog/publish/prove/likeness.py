"""Is one picture another one outside some regions, and inside them too? Luma only: chroma is what codecs share and drop.

Coarse: 32x32 cells of luma of each picture, in all eight orientations. Fine: tiles at full size for pictures of equal size,
at a common smaller size otherwise. Limits are for natural pictures; measured in ``docs/prove.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from airflow_facefog.core.codec.orient import upright
from airflow_facefog.core.codec.picture import Pixels
from airflow_facefog.core.records import IntXYXY

CELLS = 32
"""Side of the coarse picture."""

LEAST_CELLS = 64
"""Of 1024: with fewer outside the regions two pictures cannot be told apart."""

COARSE_RMS = 12.0
COARSE_CORRELATION = 0.95
"""Cells outside the regions: RMS in grey levels, and Pearson's r. Below either, a pair is never looked at closely."""

BAND = 24
"""px around a region that count neither way: a codec mixes fog and picture there (``core.verify.outside``)."""

TILE = 16
TILE_RMS = 18.0
TILE_SHARE = 0.95
"""Share of outside tiles of 16 px whose RMS is below the limit. A JPEG of quality 40 against another: 99 % of tiles."""

CORRELATION = 0.97
"""Pearson's r over all outside pixels."""

INSIDE_RMS = 8.0
INSIDE_TIMES = 2.5
"""A region differs when its RMS exceeds both the limit and this multiple of the outside's."""

SMALL_SIDE = 640
"""Longest side of the common size for pictures of different size."""

LEAST_REGION = 24
"""px of area that a region must have at the compared size to be judged."""

FLAT = 4.0
"""Standard deviation of luma below which a picture has nothing to recognise it by."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """Two pictures that are equal outside. ``different``: regions that differ; ``judged`` of them could be compared."""

    correlation: float
    outside_rms: float
    judged: int
    different: int
    scale: float
    orientation: int


def cells(luma: Pixels) -> npt.NDArray[np.float32]:
    """(1024,) float32: the coarse picture."""
    return np.asarray(cv2.resize(luma, (CELLS, CELLS), interpolation=cv2.INTER_AREA), np.float32).ravel()


def outside_cells(regions: Sequence[IntXYXY], width: int, height: int) -> npt.NDArray[np.float32]:
    """(32, 32) float32: 1 where a cell and its band touch no region."""
    free = np.ones((CELLS, CELLS), np.float32)
    for x1, y1, x2, y2 in regions:
        left, right = (x1 - BAND / 2) * CELLS / width, (x2 + BAND / 2) * CELLS / width
        top, bottom = (y1 - BAND / 2) * CELLS / height, (y2 + BAND / 2) * CELLS / height
        free[max(0, int(top)) : int(np.ceil(bottom)), max(0, int(left)) : int(np.ceil(right))] = 0
    return free


def coarse(
    strangers: npt.NDArray[np.float32], published: npt.NDArray[np.float32], free: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """(n,) best RMS of ``strangers`` (n, 1024) against one published picture over eight orientations (inf: no likeness),
    and the orientation 1..8 that turns the published picture into the stranger."""
    if free.sum() < LEAST_CELLS:
        return np.full(len(strangers), np.inf), np.ones(len(strangers), np.int64)
    grid = published.reshape(CELLS, CELLS)
    turned = [(_turn(grid, o).ravel(), _turn(free, o).ravel()) for o in range(1, 9)]
    c, m = (np.stack(side, axis=1) for side in zip(*turned, strict=True))
    n = m.sum(axis=0)
    sx, sxx, sxc = strangers @ m, np.square(strangers) @ m, strangers @ (c * m)
    sc, scc = (c * m).sum(axis=0), (np.square(c) * m).sum(axis=0)
    rms = np.sqrt(np.maximum((sxx - 2 * sxc + scc) / n, 0))
    spread = np.sqrt(np.maximum(sxx - sx**2 / n, 0) * np.maximum(scc - sc**2 / n, 0))
    r = (sxc - sx * sc / n) / np.maximum(spread, 1e-6)
    rms = np.where((rms <= COARSE_RMS) & (r >= COARSE_CORRELATION), rms, np.inf)
    best = rms.argmin(axis=1)
    return rms[np.arange(len(rms)), best].astype(np.float64), best.astype(np.int64) + 1


def fine(stranger: Pixels, published: Pixels, regions: Sequence[IntXYXY], orientation: int) -> Likeness | None:
    """Compare luma pictures (h, w); ``published`` is turned by ``orientation`` first. None: not equal outside."""
    labels = _labels(regions, published.shape[1], published.shape[0])
    published, labels = upright(published, orientation), upright(labels, orientation)
    width, scale = published.shape[1], stranger.shape[1] / published.shape[1]
    if stranger.shape != published.shape:
        stranger, published, labels = _common(stranger, published, labels)
    outside = _beyond(labels, max(2, round(BAND * published.shape[1] / width)))
    difference = np.subtract(stranger, published, dtype=np.float32)
    rms = _equal_outside(stranger, published, difference, outside)
    if rms is None:
        return None
    judged, different = _inside(difference, labels, min(len(regions), 255), rms[1])
    return Likeness(rms[0], rms[1], judged, different, scale, orientation)


def same_shape(
    width: int, height: int, widths: npt.NDArray[np.int32], heights: npt.NDArray[np.int32]
) -> npt.NDArray[np.bool_]:
    """Which pictures have this size, turned or not."""
    same = ((widths == width) & (heights == height)) | ((widths == height) & (heights == width))
    return np.asarray(same, np.bool_)


def same_aspect(
    width: int, height: int, widths: npt.NDArray[np.int32], heights: npt.NDArray[np.int32]
) -> npt.NDArray[np.bool_]:
    """Which pictures could be this one at another size, turned or not: sides in proportion but for rounding."""
    room = 1.5 / min(width, height) + 0.005
    ratio = widths / np.maximum(heights, 1)
    close = np.abs(ratio * height / width - 1) <= room
    return np.asarray((close | (np.abs(ratio * width / height - 1) <= room)) & (widths > 0), np.bool_)


def _turn(grid: npt.NDArray[np.float32], orientation: int) -> npt.NDArray[np.float32]:
    turned = {
        1: grid, 2: grid[:, ::-1], 3: grid[::-1, ::-1], 4: grid[::-1], 5: grid.T, 6: np.rot90(grid, -1),
        7: grid[::-1, ::-1].T, 8: np.rot90(grid),
    }[orientation]  # fmt: skip
    return np.ascontiguousarray(turned)


def _labels(regions: Sequence[IntXYXY], width: int, height: int) -> Pixels:
    """(h, w) uint8: number of the region of each pixel, 0 outside; regions beyond the 255th share the last number."""
    labels = np.zeros((height, width), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(regions, 1):
        labels[max(0, y1) : y2, max(0, x1) : x2] = min(number, 255)
    return labels


def _common(stranger: Pixels, published: Pixels, labels: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    """Both at a size at which the kernel that resized one of them no longer matters."""
    height, width = min(stranger.shape, published.shape, key=lambda shape: shape[0] * shape[1])
    shrink = min(1.0, SMALL_SIDE / max(width, height)) / (1.5 if max(width, height) < 1.5 * SMALL_SIDE else 1.0)
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    small = [np.asarray(cv2.resize(p, size, interpolation=cv2.INTER_AREA), np.uint8) for p in (stranger, published)]
    return small[0], small[1], np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _beyond(labels: Pixels, band: int) -> npt.NDArray[np.bool_]:
    kernel = np.ones((2 * band + 1, 2 * band + 1), np.uint8)
    return np.asarray(cv2.dilate((labels > 0).astype(np.uint8), kernel) == 0, np.bool_)


def _equal_outside(
    stranger: Pixels, published: Pixels, difference: npt.NDArray[np.float32], outside: npt.NDArray[np.bool_]
) -> tuple[float, float] | None:
    """(Pearson's r, RMS) over the outside when it is equal up to a codec's noise, else None."""
    if outside.sum() < LEAST_CELLS:
        return None
    one, other = stranger[outside].astype(np.float32), published[outside].astype(np.float32)
    if min(one.std(), other.std()) < FLAT:
        return None
    r = float(np.corrcoef(one, other)[0, 1])
    counts, sums = _tiles(outside.astype(np.float32)), _tiles(np.square(difference) * outside)
    whole = counts >= TILE
    share = float((sums[whole] <= TILE_RMS**2 * counts[whole]).mean()) if whole.any() else 0.0
    return (r, float(np.sqrt(sums.sum() / counts.sum()))) if r >= CORRELATION and share >= TILE_SHARE else None


def _inside(difference: npt.NDArray[np.float32], labels: Pixels, regions: int, outside_rms: float) -> tuple[int, int]:
    """(regions large enough to compare, those of them that differ)."""
    counts = np.bincount(labels.ravel(), minlength=regions + 1)[1:]
    sums = np.bincount(labels.ravel(), weights=np.square(difference).ravel(), minlength=regions + 1)[1:]
    judged = counts >= LEAST_REGION
    rms = np.sqrt(sums[judged] / counts[judged])
    return int(judged.sum()), int((rms > max(INSIDE_RMS, INSIDE_TIMES * outside_rms)).sum())


def _tiles(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Sums over tiles of 16 px; the last ones are smaller."""
    down = np.add.reduceat(values, np.arange(0, values.shape[0], TILE), axis=0)
    return np.asarray(np.add.reduceat(down, np.arange(0, values.shape[1], TILE), axis=1), np.float32)
