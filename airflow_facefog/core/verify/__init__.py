"""Prove the final bytes. Heavy (numpy, cv2): import it inside functions of the light half.

Inputs are the source pixels, the encoded bytes, the recorded decisions, policy and keys; never the fogger's own masks or
arrays. Everything is recomputed and compared with what a consumer would decode.

V0 coverage · V1 lossless: bit-equal to the expected picture · V2 inside equals the expected fog · V3 nothing of the content
leaks · V4 a mosaic is a mosaic · V5 outside unchanged within the codec's own loss · V6 only pixels in the container
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from airflow_facefog.core import boxes
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.fog.layers import Patch, layers_of, render_layers
from airflow_facefog.core.fog.masks import Pixels
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy
from airflow_facefog.core.records import IntXYXY
from airflow_facefog.core.regions import Decided
from airflow_facefog.core.verify.coverage import least_coverage
from airflow_facefog.core.verify.inside import inside_scores, too_many_colours, views_of
from airflow_facefog.core.verify.outside import CHOSEN_LIMIT, LIMIT, judge_outside, neutralise

if TYPE_CHECKING:
    from airflow_facefog.core.codec import Encoded

__all__ = ["Verdict", "verify"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``ok`` only when ``failures`` (names of checks, ``V0`` to ``V6``) is empty.

    ``coverage`` and ``worst_score`` are None when nothing was or should have been fogged. ``worst_score`` is the largest
    value/limit of V2 and V3, 0 for a bit-equal lossless file, None for one that differs. ``outside_psnr`` in dB is None
    for lossless files and capped at 99 otherwise.
    """

    ok: bool
    coverage: float | None
    worst_score: float | None
    outside_psnr: float | None
    failures: tuple[str, ...]


def verify(source: Pixels, encoded: Encoded, decided: Decided, policy: FogPolicy, keys: KeyRing, cid: bytes) -> Verdict:
    """Judge the final bytes of one image. ``source``: the upright uint8 pixels that were fogged, all channels.

    Never raises for a bad file: what cannot be decoded has failed.
    """
    from airflow_facefog.core import codec

    try:
        codec.check_container(encoded.data, encoded.format)
        decoded = codec.decode_output(encoded.data, encoded.format, encoded.channels)
    except ImageError:
        return Verdict(False, None, None, None, ("V6",))
    if decoded.shape != source.shape or decoded.dtype != source.dtype:
        return Verdict(False, None, None, None, ("V1",))
    share = least_coverage(decided, policy, *source.shape[:2]) if decided.decisions else 1.0
    patches = render_layers(layers_of(decided), source, policy, keys, cid)
    failures = {"V0"} if share < 1.0 else set()
    failures |= {"V4" for patch in patches if too_many_colours(patch)}
    check = _check_lossless if encoded.lossless else _check_lossy
    limit = LIMIT if policy.output.quality == "source" else CHOSEN_LIMIT
    more, worst, psnr = check(source, _own(decoded), patches, encoded.format, limit)
    failures |= more
    fogged = bool(decided.fogged)
    covered = share if fogged or share < 1.0 else None
    return Verdict(not failures, covered, worst if fogged else None, psnr, tuple(sorted(failures)))


def _check_lossless(
    source: Pixels, decoded: Pixels, patches: Sequence[Patch], _format: str, _limit: float
) -> tuple[set[str], float | None, float | None]:
    """V1: equal to the expected picture, bit for bit, over the whole frame."""
    same = all(
        np.array_equal(_cut(decoded, patch.layer.mask.box), _expected(source, patches, index))
        for index, patch in enumerate(patches)
    )
    neutralise(decoded, source, [patch.layer for patch in patches])
    same = same and cv2.norm(decoded, source, cv2.NORM_INF) == 0.0
    return (set(), 0.0, None) if same else ({"V1"}, None, None)


def _check_lossy(
    source: Pixels, decoded: Pixels, patches: Sequence[Patch], file_format: str, limit: float
) -> tuple[set[str], float | None, float | None]:
    """V2, V3 under every mask, V5 everywhere else."""
    failures: set[str] = set()
    worst = 0.0
    for index, patch in enumerate(patches):
        box = patch.layer.mask.box
        views = views_of(patch.layer, _expected(source, patches, index), _cut(decoded, box), _cut(source, box))
        scores = inside_scores(views, file_format)
        failures |= {name for name, score in scores.items() if not score <= 1.0}
        worst = max(worst, *scores.values())
    fine, psnr = judge_outside(source, decoded, [patch.layer for patch in patches], limit)
    return (failures if fine else failures | {"V5"}), worst, psnr


def _expected(source: Pixels, patches: Sequence[Patch], index: int) -> Pixels:
    """P within the box of one patch: the source with every patch pasted in order."""
    box = patches[index].layer.mask.box
    expected, first = _cut(source, box).copy(), 0
    if patches[index].layer.mask.full:  # nothing pasted before it shows
        expected, first = patches[index].pixels, index + 1
    for patch in patches[first:]:
        if boxes.area(boxes.intersection(patch.layer.mask.box, box)) > 0:
            expected = expected.copy()
            patch.paste(expected, (box[0], box[1]))
    return expected


def _cut(pixels: Pixels, box: IntXYXY) -> Pixels:
    return pixels[box[1] : box[3], box[0] : box[2]]


def _own(decoded: Pixels) -> Pixels:
    """A writable, contiguous array that the outside check may overwrite."""
    return np.require(decoded, requirements=["C", "W"])
