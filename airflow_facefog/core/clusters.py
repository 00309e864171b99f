"""Clusters of detections: several boxes around one thing become one, and none of them is thrown away.

A non-maximum suppression keeps the best box; measured on faces, that box alone covers 9 of 118 fully, the hull of all
members with a margin 114. So the hull is what counts here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_facefog.core import boxes
from airflow_facefog.core.records import XYXY, Detection, Polygon

CLUSTER_IOU = 0.30
"""A detection joins the most confident one that it overlaps this much."""

POLYGON_FIT = 0.50
"""Least IoU of a polygon's bounds with its own box; a polygon that lies elsewhere is not believed."""

POLYGON_AREA = 0.10
"""Least area of a polygon's convex hull as a share of its bounds; a sliver is not believed either."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Detections of one class around one thing, the most confident first."""

    members: tuple[Detection, ...]

    @property
    def best(self) -> Detection:
        """The most confident member."""
        return self.members[0]

    @property
    def hull(self) -> XYXY:
        """The box around all members."""
        return boxes.hull(m.xyxy for m in self.members)

    @property
    def detector(self) -> str:
        """The members' distinct detectors, sorted, joined with ``+``."""
        return "+".join(sorted({m.detector for m in self.members}))

    @property
    def polygon(self) -> Polygon | None:
        """Outline of the cluster: the only member's polygon, or the convex hull of all outlines; None without one.

        A member without a usable polygon counts with its box, so the outline never leaves a member out.
        """
        usable = [_usable_polygon(m) for m in self.members]
        if not any(usable):
            return None
        if len(usable) == 1:
            return usable[0]
        return boxes.convex_hull(
            point for member, polygon in zip(self.members, usable, strict=True)
            for point in polygon or boxes.corners(member.xyxy)
        )  # fmt: skip


def find_clusters(detections: Sequence[Detection]) -> list[Cluster]:
    """Cluster detections of one class greedily by confidence; the order of ``detections`` does not matter."""
    clusters: list[list[Detection]] = []
    for detection in sorted(detections, key=_order):
        home = next((c for c in clusters if boxes.iou(c[0].xyxy, detection.xyxy) >= CLUSTER_IOU), None)
        if home is None:
            clusters.append([detection])
        else:
            home.append(detection)
    return [Cluster(tuple(members)) for members in clusters]


def _order(detection: Detection) -> tuple[object, ...]:
    return (
        -detection.confidence, detection.detector, detection.class_name, detection.xyxy, detection.class_id,
        detection.polygon or (),
    )  # fmt: skip


def _usable_polygon(detection: Detection) -> Polygon | None:
    polygon = detection.polygon
    if polygon is None or len(polygon) < 3 or not all(math.isfinite(v) for point in polygon for v in point):
        return None
    outline = boxes.bounds(polygon)
    fits = boxes.iou(outline, detection.xyxy) >= POLYGON_FIT
    return polygon if fits and boxes.convex_area(polygon) >= POLYGON_AREA * boxes.area(outline) else None
