"""V2, V3, V4: does the decoded file hold, under every mask, exactly the expected fog and nothing of what was there?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from airflow_facefog.core.boxes import BLOCK
from airflow_facefog.core.fog.layers import Layer, Patch
from airflow_facefog.core.fog.linkable import mosaic_cells
from airflow_facefog.core.fog.masks import Pixels
from airflow_facefog.core.policy import Method
from airflow_facefog.core.verify.tiles import Sums, channel_sums, luma, pixel_counts, regroup, square_sums

MAX_CELLS = 8
"""Cells along a side of a region; each is made of whole blocks."""

LUMA_LIMIT = 6.0
"""RMS of Y per cell, grey levels: measured on JPEG q50..98."""

SOFT_CODEC_LIMIT = 12.0
"""The same for WebP and AVIF, whose blocks and loop filters are not ours."""

MOSAIC_LIMIT = 16.0
"""The same for hard mosaic edges that a codec rounds off."""

CHROMA_LIMIT = 16.0
"""Mean of Cr and of Cb per cell, levels."""

LEAK_LIMIT = 0.10
"""Slope of the residue on the covered content: 0 = nothing of it, 1 = all of it is still there."""

LEAK_MIN_CONTRAST = 10.0
"""RMS between content and fog below which a slope means nothing; V2 alone decides there."""

ALPHA_LIMIT = 2.0
"""Alpha under a mask is written as 255; a lossy alpha plane may round it this far below."""


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Views:
    """The same box of expected (P), decoded (D) and source (O) picture; equal to P outside the layer's mask."""

    layer: Layer
    expected: Pixels
    decoded: Pixels
    source: Pixels


def views_of(layer: Layer, expected: Pixels, decoded: Pixels, source: Pixels) -> Views:
    """Cut everything but the layer's own mask out of the comparison."""
    if not layer.mask.full:
        outside = cv2.bitwise_not(layer.mask.pixels())
        decoded = np.asarray(cv2.copyTo(expected, outside, decoded.copy()), np.uint8)
        source = np.asarray(cv2.copyTo(expected, outside, source.copy()), np.uint8)
    return Views(layer, expected, decoded, source)


def inside_scores(views: Views, file_format: str) -> dict[str, float]:
    """Value over limit for each check by its name (``V2``, ``V3``): above 1 is a failure. ``file_format`` as encoded."""
    expected, decoded, source = (luma(p) for p in (views.expected, views.decoded, views.source))
    counts = _cells(pixel_counts(expected.shape[0], expected.shape[1], BLOCK) * views.layer.mask.grid)
    limit = _luma_limit(views.layer.method, file_format)
    fidelity = max(
        _rms(square_sums(decoded, expected, BLOCK), counts) / limit,
        _chroma_shift(views, counts) / CHROMA_LIMIT,
        _alpha_score(views),
    )
    return {"V2": fidelity, "V3": _leak(decoded, expected, source, float(counts.sum())) / LEAK_LIMIT}


def too_many_colours(patch: Patch) -> bool:
    """V4: a mosaic shows one colour for each cell at most, or it is not the mosaic that was asked for."""
    if patch.layer.method is not Method.PIXELATE:
        return False
    xs, ys = mosaic_cells(patch.layer.mask)
    colours = np.unique(patch.pixels.reshape(-1, patch.pixels.size // (ys[-1] * xs[-1])), axis=0)
    return len(colours) > (len(xs) - 1) * (len(ys) - 1)


def _rms(blocks: Sums, counts: Sums) -> float:
    return math.sqrt(float((_cells(blocks) / np.maximum(counts, 1.0)).max()))


def _chroma_shift(views: Views, counts: Sums) -> float:
    """Largest |mean of D-P| of a cell in Cr or Cb, from the means of B, G, R: both are linear in them."""
    if views.expected.ndim == 2:
        return 0.0
    shift = channel_sums(views.decoded, BLOCK)[:, :, :3] - channel_sums(views.expected, BLOCK)[:, :, :3]
    means = _cells(shift) / np.maximum(counts, 1.0)[:, :, None]
    blue, green, red = means[..., 0], means[..., 1], means[..., 2]
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    return float(max(np.abs(0.713 * (red - grey)).max(), np.abs(0.564 * (blue - grey)).max()))


def _alpha_score(views: Views) -> float:
    """Missing opacity under the mask over what a lossy alpha plane may lose; 0 without an alpha channel."""
    if views.expected.ndim == 2 or views.expected.shape[2] < 4:
        return 0.0
    alpha = views.decoded[:, :, 3][views.layer.mask.pixels() > 0]
    return (255 - int(alpha.min())) / ALPHA_LIMIT


def _cells(blocks: Sums) -> Sums:
    return regroup(blocks, -(-blocks.shape[0] // MAX_CELLS), -(-blocks.shape[1] // MAX_CELLS))


def _luma_limit(method: Method, file_format: str) -> float:
    if method is Method.PIXELATE:
        return MOSAIC_LIMIT
    return SOFT_CODEC_LIMIT if file_format in ("webp", "avif") else LUMA_LIMIT


def _leak(decoded: Pixels, expected: Pixels, source: Pixels, count: float) -> float:
    """g = sum (D-P)(O-P) / sum (O-P)², through the three squared distances, which are exact integers."""
    content = cv2.norm(source, expected, cv2.NORM_L2SQR)
    if content < LEAK_MIN_CONTRAST**2 * count:
        return 0.0
    residue = cv2.norm(decoded, expected, cv2.NORM_L2SQR)
    return max(0.0, float(residue + content - cv2.norm(decoded, source, cv2.NORM_L2SQR)) / (2.0 * content))
