"""V5: outside the masks the picture is the source's, in every 16-px tile, every pixel and every channel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from airflow_facefog.core.boxes import BLOCK
from airflow_facefog.core.fog.layers import Layer
from airflow_facefog.core.fog.masks import Grid, Pixels, covered_grid, expand, near
from airflow_facefog.core.records import IntXYXY
from airflow_facefog.core.verify.tiles import Sums, pixel_counts, plain_sums, planes, square_sums

TILE = 16
"""px. The chroma block of a 4:2:0 JPEG."""

LIMIT = 8.0
"""RMS per tile, grey levels, over all channels."""

BAND = 18
"""px around a mask in which a codec may mix fog and picture (chroma block plus upsampling): tested apart."""

BAND_LUMA_LIMIT = 12.0
"""RMS of Y in the band of a tile that exceeds LIMIT over all channels: measured up to 4.1 on photos, 8.2 on cartoons."""

BAND_CHROMA_LIMIT = 32.0
"""RMS of Cr and of Cb there: a chroma block that the mask's edge cuts mixes fog and picture (photos 18.6, cartoons 24.6)."""

BEST_PSNR = 99.0
"""dB, recorded when a lossy file came out equal."""


def judge_outside(source: Pixels, decoded: Pixels, layers: Sequence[Layer]) -> tuple[bool, float]:
    """Whether every tile is within the limit, and the PSNR of the outside in dB (at most 99).

    ``decoded`` is ours: covered pixels in it are overwritten with the source's, so that they count nowhere.
    """
    height, width = source.shape[:2]
    channels = source.size // (height * width)
    covered = covered_grid((layer.mask for layer in layers), height, width)
    neutralise(decoded, source, layers)
    sums = square_sums(decoded, source, TILE)
    counts = pixel_counts(height, width, TILE) * channels
    visible = (
        counts.sum() - channels * float(plain_sums(expand(covered, (0, 0), (0, 0, width, height)), TILE).sum()) / 255
    )
    bad = sums > LIMIT**2 * counts
    for layer in layers:
        tiles, worse = _edge_tiles(layer, sums, source, decoded, covered)
        bad[tiles] = worse
    return not bool(bad.any()), _psnr(float(sums.sum()), visible)


def neutralise(decoded: Pixels, source: Pixels, layers: Sequence[Layer]) -> None:
    """Overwrite the covered pixels of ``decoded`` with the source's."""
    for layer in layers:
        x1, y1, x2, y2 = layer.mask.box
        there, here = decoded[y1:y2, x1:x2], source[y1:y2, x1:x2]
        there[...] = here if layer.mask.full else cv2.copyTo(here, layer.mask.pixels(), there.copy())


def _edge_tiles(
    layer: Layer, sums: Sums, source: Pixels, decoded: Pixels, covered: Grid
) -> tuple[tuple[slice, slice], npt.NDArray[np.bool_]]:
    """The tiles within the band of one mask, and which of them fail, beyond the band or in it."""
    height, width = source.shape[:2]
    channels = source.size // (height * width)
    x1, y1, x2, y2 = box = _tiles_around(layer.mask.box, height, width)
    here, there = source[y1:y2, x1:x2], decoded[y1:y2, x1:x2]
    masked = expand(covered, (0, 0), box)
    band = np.asarray(cv2.subtract(_near(covered, box), masked), np.uint8)
    in_band = plain_sums(band, TILE) / 255
    beyond = pixel_counts(y2 - y1, x2 - x1, TILE) - plain_sums(masked, TILE) / 255 - in_band
    band_sums = _band_sums(here, there, band)
    tiles = slice(y1 // TILE, -(-y2 // TILE)), slice(x1 // TILE, -(-x2 // TILE))
    bad_band = band_sums > LIMIT**2 * channels * in_band
    if bad_band.any():
        bad_band &= _beyond_mixing(here, there, band, in_band)
    return tiles, np.asarray(bad_band | (sums[tiles] - band_sums > LIMIT**2 * channels * beyond), np.bool_)


def _band_sums(here: Pixels, there: Pixels, band: Pixels) -> Sums:
    """Squared differences of the band's pixels per tile."""
    only = np.zeros(here.shape, np.uint8)
    cv2.copyTo(cv2.absdiff(there, here), band, only)
    return square_sums(only, np.zeros_like(only), TILE)


def _beyond_mixing(here: Pixels, there: Pixels, band: Pixels, counts: Sums) -> npt.NDArray[np.bool_]:
    """Tiles whose band differs by more than a shared chroma block can do: Y, Cr and Cb are judged apart."""
    limits = (BAND_LUMA_LIMIT, BAND_CHROMA_LIMIT, BAND_CHROMA_LIMIT)
    pairs = zip(planes(here), planes(there), limits, strict=False)
    worse = [_band_sums(h, t, band) > limit**2 * counts for h, t, limit in pairs]
    return np.asarray(np.any(worse, axis=0), np.bool_)


def _near(covered: Grid, box: IntXYXY) -> Pixels:
    """Pixels of ``box`` within the band of any mask, the masked ones included."""
    pad = -(-BAND // BLOCK)
    column, row = max(0, box[0] // BLOCK - pad), max(0, box[1] // BLOCK - pad)
    part = covered[row : -(-box[3] // BLOCK) + pad, column : -(-box[2] // BLOCK) + pad]
    return near(part, (column * BLOCK, row * BLOCK), BAND, box)


def _tiles_around(box: IntXYXY, height: int, width: int) -> IntXYXY:
    x1, y1 = max(0, box[0] - BAND) // TILE * TILE, max(0, box[1] - BAND) // TILE * TILE
    x2, y2 = -(-(box[2] + BAND) // TILE) * TILE, -(-(box[3] + BAND) // TILE) * TILE
    return x1, y1, min(x2, width), min(y2, height)


def _psnr(total: float, count: float) -> float:
    if total <= 0.0 or count <= 0.0:
        return BEST_PSNR
    return min(BEST_PSNR, 10.0 * math.log10(255.0**2 * count / total))
