"""What is certain about a replayed image although members of some clusters are lost; see ``replay`` for why they are.

A cluster's hull holds its best box, so its region holds that box's region. Clusters grow from the most confident member down,
so which detection leads one is known although its members are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_facefog.core import boxes
from airflow_facefog.core.clusters import CLUSTER_IOU
from airflow_facefog.core.policy import FogPolicy, FogRule, Method, Shape
from airflow_facefog.core.records import XYXY, Action

Row = Mapping[str, Any]
Counts = dict[str, int]
"""Kind of change (a field of ``replay.Outcome``) → clusters."""

DOUBT = "doubt"


def selected(row: Row, policy: FogPolicy) -> bool:
    """Whether the policy fogs a cluster with this best member."""
    rule = policy.rule_for(row["class_name"])
    return rule is not None and row["confidence"] >= rule.min_confidence


def best_box(row: Row) -> XYXY:
    """The best member's box."""
    return row["x1"], row["y1"], row["x2"], row["y2"]


def bounded(image: Row, rows: Sequence[Row], old: FogPolicy, new: FogPolicy) -> tuple[Counts, bool]:
    """The certain changes of the deciding ``rows``, and whether there may be more."""
    counts: Counts = {}
    doubtful = False
    leaders: list[Row] = []
    for row in sorted(rows, key=lambda row: -row["confidence"]):
        rule = new.rule_for(row["class_name"]) if selected(row, new) else None
        joined = rule is not None and any(_joins(row, leader) for leader in leaders)
        if row["action"] != Action.FOGGED:
            kind = DOUBT if joined else "newly_fogged"
        elif rule is None:
            kind = "no_longer_fogged"
        else:
            kind = DOUBT if joined else _difference(image, row, old, new, rule)
        if rule is not None and not joined:
            leaders.append(row)
        doubtful |= kind == DOUBT
        if kind != DOUBT:
            counts[kind] = counts.get(kind, 0) + 1
    return counts, doubtful


def _joins(row: Row, leader: Row) -> bool:
    same = row["class_name"].casefold() == leader["class_name"].casefold()
    return same and boxes.iou(best_box(row), best_box(leader)) >= CLUSTER_IOU


def _difference(image: Row, row: Row, old: FogPolicy, new: FogPolicy, rule: FogRule) -> str:
    """A fogged cluster that stays fogged."""
    was = old.rule_for(row["class_name"])
    if was is None:
        return DOUBT
    linkable = was.method.linkable or rule.method.linkable
    if was.method is not rule.method and not linkable:
        return "other_method"
    if new.fill_color != old.fill_color and (rule.method is Method.FILL or image["refogged"]):
        return "other_method"
    if rule.shape is not Shape.POLYGON and _grows(image, row, rule):
        return "other_region"
    flags = [(p.accept_linkable, p.frame_sequence) for p in (old, new)]
    settled = was.method is rule.method and (not linkable or flags[0] == flags[1])
    name = row["class_name"]
    same_mask = (was.margin_for(name), was.shape) == (rule.margin_for(name), rule.shape)
    whole = bool(row["n_members"] == 1 or rule.min_confidence <= was.min_confidence)
    return "unchanged" if settled and same_mask and whole else DOUBT


def _grows(image: Row, row: Row, rule: FogRule) -> bool:
    """Whether the best box alone would be fogged beyond the recorded region."""
    margin = rule.margin_for(row["class_name"])
    outline = boxes.pad_box(best_box(row), margin.sides, margin.top, margin.bottom)
    if rule.shape is Shape.ELLIPSE:
        outline = boxes.circumscribed(boxes.at_least(outline))
    region = boxes.block_region(outline, image["width"], image["height"])
    recorded = (row["fx1"], row["fy1"], row["fx2"], row["fy2"])
    return boxes.int_hull([region, recorded]) != recorded
