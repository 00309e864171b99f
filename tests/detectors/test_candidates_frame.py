"""Thinning never uncovers what a policy would fog; windows and scaling cover the picture and invert exactly."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.records import Reason
from airflow_facefog.detectors import candidates
from airflow_facefog.detectors.candidates import clip_to_frame, thin, to_detections
from airflow_facefog.detectors.frame import Fit, Window, cut, windows


@st.composite
def raw_boxes(draw):
    """Jittered boxes around a few faces, with scores: xyxy (n, 4), scores (n,)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    faces = rng.uniform(0, 300, (draw(st.integers(1, 4)), 2))
    n = draw(st.integers(0, 60))
    corner = faces[rng.integers(0, len(faces), n)] + rng.normal(0, 4, (n, 2))
    size = rng.uniform(30, 50, (n, 2))
    return np.concatenate([corner, corner + size], axis=1), rng.uniform(0, 1, n).round(6)


def _iou(a, b):
    side = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = side.clip(0).prod()
    return common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)


def _hulls(boxes, scores):
    """The hull of each group, grouped the slow and obvious way."""
    rest = [boxes[i] for i in np.argsort(-scores, kind="stable")]
    hulls = []
    while rest:
        group = [box for box in rest if box is rest[0] or _iou(rest[0], box) >= candidates.GROUP_IOU]
        rest = [box for box in rest if not any(box is member for member in group)]
        hulls.append(np.concatenate([np.min(group, axis=0)[:2], np.max(group, axis=0)[2:]]))
    return np.array(hulls).reshape(-1, 4)


@settings(max_examples=50, deadline=None)
@given(raw_boxes(), st.floats(0, 1))
def test_thinning_keeps_every_hull_at_every_threshold(raw, threshold):
    """Whatever threshold a policy sets, hulls of kept boxes equal hulls of all boxes to within 1/32 of the best side."""
    boxes, scores = raw
    kept = thin(boxes, scores)
    boxes_kept, scores_kept = boxes[kept], scores[kept]
    all_hulls = _hulls(boxes[scores >= threshold], scores[scores >= threshold])
    kept_hulls = _hulls(boxes_kept[scores_kept >= threshold], scores_kept[scores_kept >= threshold])
    assert len(all_hulls) == len(kept_hulls)
    assert np.abs(all_hulls - kept_hulls).max(initial=0) <= 50 / candidates.HULL_CELLS


@settings(max_examples=50, deadline=None)
@given(raw_boxes(), st.floats(0, 1))
def test_thinning_at_a_floor_is_a_prefix(raw, floor):
    """Best first, and a higher floor keeps exactly those of a lower floor that reach it."""
    boxes, scores = raw
    strong = np.flatnonzero(scores >= floor)
    kept = thin(boxes, scores)
    assert (np.diff(scores[kept]) <= 0).all()
    assert strong[thin(boxes[strong], scores[strong])].tolist() == [i for i in kept if scores[i] >= floor]


@pytest.mark.parametrize(("limit", "n"), [("MAX_RAW", 8), ("MAX_DETECTIONS", 8)])
def test_too_many_regions_refuse_the_image(monkeypatch, limit, n):
    """A list that would have to be cut off is refused: what is cut off would stay clear."""
    corner = np.arange(n)[:, None] * np.array([[20.0, 0.0]])
    boxes, scores = np.concatenate([corner, corner + 10], axis=1), np.full(n, 0.5)
    monkeypatch.setattr(candidates, limit, n)
    assert len(to_detections(boxes, scores, "face", 0, "x")) == n
    monkeypatch.setattr(candidates, limit, n - 1)
    with pytest.raises(ImageError) as refused:
        to_detections(boxes, scores, "face", 0, "x")
    assert refused.value.reason is Reason.TOO_MANY_DETECTIONS


def test_clipping_keeps_what_touches_the_picture():
    """Boxes are cut at the frame; only those without any area inside are gone."""
    boxes = np.array([[-5, -5, 5, 5], [90, 40, 130, 60], [-9, 0, 0, 9], [100, 0, 110, 9], [0, 0, 0.01, 0.01]], float)
    clipped, inside = clip_to_frame(boxes, 100, 50)
    assert clipped[inside].tolist() == [[0, 0, 5, 5], [90, 40, 100, 50], [0, 0, 0.01, 0.01]]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40_000), st.integers(1, 40_000))
def test_windows_cover_the_picture(width, height):
    """Windows lie inside the picture, leave no gap, overlap by the short side, and are never more than 32."""
    parts = list(windows(width, height))
    assert len(parts) <= 32
    assert all(p.x >= 0 and p.y >= 0 and p.x + p.width <= width and p.y + p.height <= height for p in parts)
    wide = width >= height
    spans = [(p.x, p.x + p.width) if wide else (p.y, p.y + p.height) for p in parts]
    assert spans[0][0] == 0
    assert spans[-1][1] == max(width, height)
    assert all(before[1] - after[0] >= min(width, height) for before, after in pairwise(spans))
    assert all((p.height if wide else p.width) == min(width, height) for p in parts) or len(parts) == 1


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 1600), st.integers(1, 1600),
    st.integers(0, 50), st.integers(0, 50), st.integers(0, 900), st.integers(0, 900),
)  # fmt: skip
def test_a_fit_maps_its_corners_to_its_window(w, h, width, height, left, top, x, y):
    """The corners of the scaled window are the corners of the window, with each axis's own factor."""
    fit = Fit(Window(x, y, w, h), width, height, left, top)
    corners = np.array([[left, top, left + width, top + height]], np.float32)
    assert fit.to_frame(corners)[0] == pytest.approx([x, y, x + w, y + h])


def test_cutting_takes_the_window():
    """The pixels a model sees are those of the window, resized; unscaled they are not copied."""
    pixels = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)
    window = Window(5, 10, 20, 8)
    assert np.shares_memory(cut(pixels, Fit(window, 20, 8)), pixels)
    assert (cut(pixels, Fit(window, 20, 8)) == pixels[10:18, 5:25]).all()
    assert cut(pixels, Fit(window, 40, 16)).shape == (16, 40, 3)
