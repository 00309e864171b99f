"""V0: is every recorded detection that the policy selects inside its mask? From records, policy and arithmetic alone."""

from __future__ import annotations

import cv2
import numpy as np

from airflow_facefog.core import boxes
from airflow_facefog.core.fog.masks import LARGEST_VERTEX, Mask, expand, mask_of
from airflow_facefog.core.policy import FogPolicy, Shape
from airflow_facefog.core.records import Action, IntXYXY
from airflow_facefog.core.regions import Decided, Decision


def least_coverage(decided: Decided, policy: FogPolicy, height: int, width: int) -> float:
    """Smallest share of any selected detection's box + margin that lies inside its mask: 1.0 or the device failed.

    A detection that the policy selects and nobody fogged counts 0.
    """
    return min((_covered_share(d, policy, height, width) for d in decided.decisions), default=1.0)


def _covered_share(decision: Decision, policy: FogPolicy, height: int, width: int) -> float:
    rule = policy.rule_for(decision.class_name) or (policy.other_rule if decision.human else None)
    if decision.action is not Action.FOGGED:
        return 1.0 if rule is None or decision.confidence < rule.min_confidence else 0.0
    if rule is None or decision.region is None or decision.margin_box is None:
        return 0.0
    margin = rule.margin_for(decision.class_name)
    hull = boxes.hull((decision.hull, decision.xyxy))
    wanted = boxes.pad_box(hull, margin.sides, margin.top, margin.bottom)
    mask = mask_of(decision)
    if decision.shape is Shape.POLYGON:
        return _polygon_share(decision, mask)
    return _box_share(boxes.touched(wanted, width, height), mask)


def _box_share(wanted: IntXYXY, mask: Mask) -> float:
    """Covered share of the wanted pixels; a box outside the image wants none and has its border block."""
    area = max(0, wanted[2] - wanted[0]) * max(0, wanted[3] - wanted[1])
    if area == 0:
        return 1.0
    left, top = max(wanted[0], mask.box[0]), max(wanted[1], mask.box[1])
    right, bottom = min(wanted[2], mask.box[2]), min(wanted[3], mask.box[3])
    if right <= left or bottom <= top:
        return 0.0
    if mask.full:
        return (right - left) * (bottom - top) / area
    return cv2.countNonZero(expand(mask.grid, (mask.box[0], mask.box[1]), (left, top, right, bottom))) / area


def _polygon_share(decision: Decision, mask: Mask) -> float:
    """Covered share of the polygon's own pixels inside the mask's box (that box holds polygon and margin)."""
    points = np.asarray(decision.polygon, np.float64)
    if np.abs(points).max() > LARGEST_VERTEX:
        return 1.0 if mask.full else 0.0
    wanted = np.zeros((mask.box[3] - mask.box[1], mask.box[2] - mask.box[0]), np.uint8)
    cv2.fillPoly(wanted, [np.rint(points - mask.box[:2]).astype(np.int32)], (255,))
    area = cv2.countNonZero(wanted)
    return cv2.countNonZero(cv2.bitwise_and(wanted, mask.pixels())) / area if area else 1.0
