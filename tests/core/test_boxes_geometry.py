"""Boxes: everything errs outward, at any size and anywhere."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_facefog.core import boxes

COORDINATE = st.floats(-500, 1500, allow_nan=False)
SIDE = st.one_of(st.floats(0.01, 12), st.floats(0.01, 900))
SIZE = st.integers(1, 700)


@st.composite
def any_box(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """A box of any size from 0.01 px, inside the image, across its border or outside."""
    x, y = draw(COORDINATE), draw(COORDINATE)
    return x, y, x + draw(SIDE), y + draw(SIDE)


@given(any_box(), SIZE, SIZE)
@settings(max_examples=50)
def test_region_holds_every_touched_pixel(box: boxes.XYXY, width: int, height: int) -> None:
    """Every pixel that a box touches lies inside its region, and the region inside the image."""
    x1, y1, x2, y2 = boxes.block_region(box, width, height)
    t = boxes.touched(box, width, height)
    assert 0 <= x1 < x2 <= width
    assert 0 <= y1 < y2 <= height
    if t[0] < t[2] and t[1] < t[3]:
        assert x1 <= t[0] and y1 <= t[1] and t[2] <= x2 and t[3] <= y2  # noqa: PT018


@given(any_box(), SIZE, SIZE)
@settings(max_examples=50)
def test_region_is_whole_blocks_and_not_small(box: boxes.XYXY, width: int, height: int) -> None:
    """A region is at least 8x8 unless the image is smaller, and its edges lie on the block grid or the image's edge."""
    x1, y1, x2, y2 = boxes.block_region(box, width, height)
    assert x2 - x1 >= min(8, width)
    assert y2 - y1 >= min(8, height)
    assert x1 % 8 == 0
    assert y1 % 8 == 0
    assert x2 % 8 == 0 or x2 == width
    assert y2 % 8 == 0 or y2 == height


@given(any_box(), SIZE, SIZE)
@settings(max_examples=50)
def test_region_growth_is_idempotent(box: boxes.XYXY, width: int, height: int) -> None:
    """Growing a region again changes nothing."""
    region = boxes.block_region(box, width, height)
    assert boxes.block_region(region, width, height) == region


@pytest.mark.parametrize(
    ("box", "width", "height", "region"),
    [
        ((10.2, 10.2, 40.9, 40.9), 640, 480, (8, 8, 48, 48)),
        ((16, 16, 24, 24), 640, 480, (16, 16, 24, 24)),
        ((100.5, 100.5, 100.51, 100.51), 640, 480, (96, 96, 112, 112)),
        ((-90, -90, -50, -50), 640, 480, (0, 0, 8, 8)),
        ((900, 900, 950, 950), 640, 480, (632, 472, 640, 480)),
        ((900, 100, 950, 110), 801, 480, (792, 96, 801, 112)),
        ((800.2, 0, 830, 9), 801, 480, (792, 0, 801, 16)),
        ((1, 1, 2, 2), 5, 3, (0, 0, 5, 3)),
        ((-1e300, -1e300, 1e300, 1e300), 640, 480, (0, 0, 640, 480)),
    ],
)
def test_region_examples(box: boxes.XYXY, width: int, height: int, region: boxes.IntXYXY) -> None:
    """Known boxes: rounding outward, the last column, borders, outside, tiny images, absurd numbers."""
    assert boxes.block_region(box, width, height) == region


@given(any_box(), st.floats(0, 2), st.floats(0, 2), st.floats(0, 2))
@settings(max_examples=50)
def test_padding_never_shrinks(box: boxes.XYXY, sides: float, top: float, bottom: float) -> None:
    """A padded box holds the box."""
    x1, y1, x2, y2 = boxes.pad_box(box, sides, top, bottom)
    assert x1 <= box[0] and y1 <= box[1] and box[2] <= x2 and box[3] <= y2  # noqa: PT018


def test_padding_is_a_fraction_of_the_own_side() -> None:
    """Sides grow by the width, top and bottom by the height."""
    assert boxes.pad_box((100, 100, 200, 300), 0.2, 0.35, 0.25) == (80, 30, 220, 350)


@given(any_box())
@settings(max_examples=50)
def test_circumscribed_ellipse_holds_the_corners(box: boxes.XYXY) -> None:
    """The corners of a box lie on the ellipse whose bounding box is returned."""
    outer = boxes.circumscribed(box)
    middle_x, middle_y = (outer[0] + outer[2]) / 2, (outer[1] + outer[3]) / 2
    across, down = (outer[2] - outer[0]) / 2, (outer[3] - outer[1]) / 2
    for x, y in boxes.corners(box):
        assert math.isclose(((x - middle_x) / across) ** 2 + ((y - middle_y) / down) ** 2, 1.0, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 10, 10), (30, 30, 40, 40), 0.0),
    ],
)
def test_iou(a: boxes.XYXY, b: boxes.XYXY, value: float) -> None:
    """Intersection over union of known pairs, either way round."""
    assert boxes.iou(a, b) == pytest.approx(value)
    assert boxes.iou(b, a) == pytest.approx(value)


def test_hulls() -> None:
    """The hull is the smallest box around all, in floats and in whole pixels."""
    assert boxes.hull([(1.5, 9, 3, 10), (2, 4, 8, 5)]) == (1.5, 4, 8, 10)
    assert boxes.int_hull([(0, 8, 16, 24), (8, 0, 24, 16)]) == (0, 0, 24, 24)


def test_convex_hull_drops_inner_points_and_measures_area() -> None:
    """A square with a point inside is the square; a line has no area."""
    square = ((0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0), (2.0, 2.0), (4.0, 4.0))
    assert set(boxes.convex_hull(square)) == {(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0)}
    assert boxes.convex_area(square) == 16.0
    assert boxes.convex_area(((0.0, 0.0), (1.0, 1.0), (2.0, 2.0))) == 0.0
