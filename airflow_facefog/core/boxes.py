"""Geometry of boxes in pure Python. ``xyxy`` floats: pixels of the upright image, origin top-left, half-open.

Everything here errs outward: a rounded, padded or clipped box never covers less of the image than the box it came from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from airflow_facefog.core.records import XYXY, IntXYXY, Polygon

BLOCK = 8
"""Side of a JPEG block, px. Masks are whole blocks: a block half covered lets the codec restore tiny faces."""

FAR = float(2**40)
"""Coordinates are cut to this before they become integers; no image is that large."""


def area(box: XYXY) -> float:
    """Area in px², 0 for an inverted box."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def intersection(a: XYXY, b: XYXY) -> XYXY:
    """The common part; inverted or empty when there is none."""
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def iou(a: XYXY, b: XYXY) -> float:
    """Intersection over union, 0..1."""
    if a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]:  # most pairs of a crowd
        return 0.0
    common = area(intersection(a, b))
    return common / (area(a) + area(b) - common)


def hull(boxes: Iterable[XYXY]) -> XYXY:
    """The smallest box around all ``boxes`` (at least one)."""
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)


def int_hull(boxes: Iterable[IntXYXY]) -> IntXYXY:
    """``hull`` of whole-pixel boxes."""
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)


def pad_box(box: XYXY, sides: float, top: float, bottom: float) -> XYXY:
    """Grow by fractions of the box's own width (``sides``, each side) and height (``top``, ``bottom``)."""
    x1, y1, x2, y2 = (min(max(v, -FAR), FAR) for v in box)
    width, height = x2 - x1, y2 - y1
    return x1 - sides * width, y1 - top * height, x2 + sides * width, y2 + bottom * height


def at_least(box: XYXY, side: float = BLOCK) -> XYXY:
    """Grow around the centre until both sides are at least ``side`` px."""
    x1, x2 = _at_least(box[0], box[2], side)
    y1, y2 = _at_least(box[1], box[3], side)
    return x1, y1, x2, y2


def circumscribed(box: XYXY) -> XYXY:
    """Bounding box of the ellipse through the four corners of ``box``: its axes are the box's sides times sqrt(2)."""
    grow_x = (math.sqrt(2.0) - 1.0) / 2.0 * (box[2] - box[0])
    grow_y = (math.sqrt(2.0) - 1.0) / 2.0 * (box[3] - box[1])
    return box[0] - grow_x, box[1] - grow_y, box[2] + grow_x, box[3] + grow_y


def touched(box: XYXY, width: int, height: int) -> IntXYXY:
    """Whole pixels of the image that ``box`` touches (floor/ceil outward); empty, with x2 <= x1 or y2 <= y1, outside."""
    x1, y1, x2, y2 = (min(max(v, -FAR), FAR) for v in box)
    return max(math.floor(x1), 0), max(math.floor(y1), 0), min(math.ceil(x2), width), min(math.ceil(y2), height)


def block_region(box: XYXY, width: int, height: int) -> IntXYXY:
    """The region to fog for ``box``: outward, at least 8x8, whole 8x8 blocks, clipped to the image. Never empty.

    A box outside the image becomes the nearest border block (fail closed). Idempotent.
    """
    x1, y1, x2, y2 = at_least(box)
    left, right = _block_span(x1, x2, width)
    upper, lower = _block_span(y1, y2, height)
    return left, upper, right, lower


def bounds(polygon: Polygon) -> XYXY:
    """Bounding box of a polygon with at least one point."""
    xs, ys = zip(*polygon, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def corners(box: XYXY) -> Polygon:
    """The box as a polygon."""
    x1, y1, x2, y2 = box
    return (x1, y1), (x2, y1), (x2, y2), (x1, y2)


def convex_hull(points: Iterable[tuple[float, float]]) -> Polygon:
    """Convex hull of points, counter-clockwise from the leftmost (Andrew's monotone chain)."""
    ordered = sorted(set(points))
    if len(ordered) < 3:
        return tuple(ordered)
    return tuple(_half_hull(ordered)[:-1] + _half_hull(ordered[::-1])[:-1])


def convex_area(polygon: Polygon) -> float:
    """Area of the polygon's convex hull in px² (shoelace formula)."""
    points = convex_hull(polygon)
    turned = points[1:] + points[:1]
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, turned, strict=True))) / 2.0


def _half_hull(ordered: list[tuple[float, float]]) -> list[tuple[float, float]]:
    chain: list[tuple[float, float]] = []
    for point in ordered:
        while len(chain) >= 2 and _cross(chain[-2], chain[-1], point) <= 0.0:
            chain.pop()
        chain.append(point)
    return chain


def _cross(o: tuple[float, float], a: tuple[float, float], b: tuple[float, float]) -> float:
    return (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0])


def _at_least(low: float, high: float, side: float) -> tuple[float, float]:
    if high - low >= side:
        return low, high
    middle = low + (high - low) / 2.0
    return min(low, middle - side / 2.0), max(high, middle + side / 2.0)


def _block_span(low: float, high: float, size: int) -> tuple[int, int]:
    low, high = max(min(low, FAR), -FAR), max(min(high, FAR), -FAR)
    first = min(max(math.floor(low), 0), size - 1)
    last = max(min(math.ceil(high), size), first + 1)
    first = max(0, min(first, last - BLOCK))  # at an edge the clipped rest may be thinner than a block
    last = min(size, max(last, first + BLOCK))
    return first // BLOCK * BLOCK, min(-(-last // BLOCK) * BLOCK, size)
