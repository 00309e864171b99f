"""V5: outside the masks the picture is the source's, in every 16-px tile, every pixel and every channel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from airflow_facefog.core.boxes import BLOCK
from airflow_facefog.core.fog.layers import Layer
from airflow_facefog.core.fog.masks import Grid, Pixels, covered_grid, expand
from airflow_facefog.core.verify.tiles import Sums, pixel_counts, planes, square_sums

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
    sums = square_sums(decoded, source, BLOCK)
    counts = pixel_counts(height, width, BLOCK) * channels
    covered = covered_grid((layer.mask for layer in layers), height, width)
    psnr = _psnr(float(sums.sum()), float((counts * (covered == 0)).sum()))
    band = _band(covered) if layers else covered
    if _exceeds(sums * (band == 0), counts * ((band | covered) == 0), limit).any():
        return False, psnr
    suspects = np.argwhere(_exceeds(sums * band, counts * band, limit)) if layers else ()
    mixed = (_beyond_mixing(source, decoded, band, (int(row), int(column)), limit) for row, column in suspects)
    return not any(mixed), psnr


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


def _exceeds(sums: Sums, counts: Sums, limit: float) -> npt.NDArray[np.bool_]:
    """Which tiles of 2x2 blocks have an RMS above the limit; tiles without pixels have none."""
    return _tiles(sums) > limit**2 * _tiles(counts)


def _tiles(blocks: Sums) -> Sums:
    rows, columns = blocks.shape
    even = np.pad(blocks, ((0, rows % 2), (0, columns % 2)))
    down = even[0::2] + even[1::2]
    return np.asarray(down[:, 0::2] + down[:, 1::2], np.float64)


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
