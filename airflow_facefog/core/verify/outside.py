"""V5: outside the masks the picture is the source's, in every 16-px tile, every pixel and every channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from airflow_facefog.core.boxes import BLOCK
from airflow_facefog.core.fog.layers import Layer
from airflow_facefog.core.fog.masks import Grid, Pixels, covered_grid, expand
from airflow_facefog.core.verify.tiles import Counts, Sums, pixel_counts, planes, span_counts, square_sums

LIMIT = 8.0
"""RMS per tile of 2x2 blocks (16 px: the chroma block of a 4:2:0 JPEG), grey levels, over all channels."""

CHOSEN_LIMIT = 20.0
"""The same when the policy names a quality instead of ``source``: that loss is wanted (16.4 on photos at JPEG q50)."""

BAND_BLOCKS = 3
"""Blocks around a mask in which a codec may mix fog and picture, tested apart: 24 px, the reach of a 4:1:1 chroma block."""

BAND_LUMA_LIMIT = 12.0
"""RMS of Y in the band of a tile that exceeds LIMIT over all channels: measured up to 4.1 on photos, 8.2 on cartoons."""

BAND_CHROMA_LIMIT = 32.0
"""RMS of Cr and of Cb there: a chroma block that the mask's edge cuts mixes fog and picture (photos 18.6, cartoons 24.6)."""

BEST_PSNR = 99.0
"""dB, recorded when a lossy file came out equal."""


def judge_outside(source: Pixels, decoded: Pixels, layers: Sequence[Layer], limit: float = LIMIT) -> tuple[bool, float]:
    """Whether every tile is within the limit, beyond the band and in it, and the PSNR of the outside in dB (at most 99).

    ``decoded`` is ours: covered pixels in it are overwritten with the source's, so that they count nowhere.
    """
    height, width = source.shape[:2]
    channels = source.size // (height * width)
    neutralise(decoded, source, layers)
    sums = _quads(square_sums(decoded, source, BLOCK))
    covered = covered_grid((layer.mask for layer in layers), height, width)
    rows, columns = span_counts(height, BLOCK), span_counts(width, BLOCK)
    hidden = float(rows @ (covered.astype(np.float64) @ columns))
    psnr = _psnr(float(sums.sum()), channels * (height * width - hidden))
    band = _band(covered)
    near = _totals(_quads(band)) > 0
    if ((_totals(sums) > limit**2 * channels * pixel_counts(height, width, 2 * BLOCK)) & ~near).any():
        return False, psnr
    tiles = np.nonzero(near)
    sizes = channels * _pairs(rows)[tiles[0]][:, :, None] * _pairs(columns)[tiles[1]][:, None, :]
    in_band, beyond = (_quads(g)[tiles[0], :, tiles[1]] for g in (band, 1 - (band | covered)))
    values = sums[tiles[0], :, tiles[1]]
    if _exceeds(values * beyond, sizes * beyond, limit).any():
        return False, psnr
    suspects = np.argwhere(near)[_exceeds(values * in_band, sizes * in_band, limit)]
    return not any(_beyond_mixing(source, decoded, band, (int(y), int(x)), limit) for y, x in suspects), psnr


def neutralise(decoded: Pixels, source: Pixels, layers: Sequence[Layer]) -> None:
    """Overwrite the covered pixels of ``decoded`` with the source's."""
    for layer in layers:
        x1, y1, x2, y2 = layer.mask.box
        there, here = decoded[y1:y2, x1:x2], source[y1:y2, x1:x2]
        there[...] = here if layer.mask.full else cv2.copyTo(here, layer.mask.pixels(), there.copy())


def _band(covered: Grid) -> Grid:
    """Blocks near a mask but in none, 1 = yes."""
    reach = 2 * BAND_BLOCKS + 1
    near = cv2.dilate(covered, np.ones((reach, reach), np.uint8))
    return np.asarray(cv2.subtract(near, covered), np.uint8)


def _quads(blocks: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Blocks as (tile rows, 2, tile columns, 2), padded with zeros to whole tiles."""
    rows, columns = blocks.shape
    even = np.zeros((rows + rows % 2, columns + columns % 2), blocks.dtype)
    even[:rows, :columns] = blocks
    return even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2)


def _pairs(counts: Counts) -> Counts:
    return np.append(counts, 0)[: len(counts) + len(counts) % 2].reshape(-1, 2)


def _totals(quads: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sums of the four blocks of each tile."""
    down = quads[:, 0] + quads[:, 1]
    return np.asarray(down[:, :, 0] + down[:, :, 1])


def _exceeds(sums: Sums, sizes: Sums, limit: float) -> npt.NDArray[np.bool_]:
    """Which of (n, 2, 2) tiles have an RMS above the limit; a tile without pixels has none."""
    return np.asarray(sums.sum(axis=(1, 2)) > limit**2 * sizes.sum(axis=(1, 2)), np.bool_)


def _beyond_mixing(source: Pixels, decoded: Pixels, band: Grid, tile: tuple[int, int], limit: float) -> bool:
    """Whether a tile's band differs by more than a shared chroma block can do: Y, Cr and Cb are judged apart."""
    top, left = (2 * BLOCK * at for at in tile)
    box = left, top, min(left + 2 * BLOCK, source.shape[1]), min(top + 2 * BLOCK, source.shape[0])
    inside = expand(band, (0, 0), box) > 0
    here, there = (planes(p[box[1] : box[3], box[0] : box[2]]) for p in (source, decoded))
    limits = (max(BAND_LUMA_LIMIT, limit), BAND_CHROMA_LIMIT, BAND_CHROMA_LIMIT)
    return any(
        float(((h[inside].astype(np.int32) - t[inside]) ** 2).mean()) > most**2
        for h, t, most in zip(here, there, limits, strict=False)
    )


def _psnr(total: float, count: float) -> float:
    if total <= 0.0 or count <= 0.0:
        return BEST_PSNR
    return min(BEST_PSNR, 10.0 * math.log10(255.0**2 * count / total))
