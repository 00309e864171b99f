"""What the policy does with the detections of one image: clusters, actions, methods, regions. Light, pure Python.

The order of the detections never matters: everything is sorted first, so a retry and both drivers decide alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from airflow_facefog.core import boxes
from airflow_facefog.core.clusters import Cluster, find_clusters
from airflow_facefog.core.errors import PolicyError
from airflow_facefog.core.policy import Family, FogPolicy, FogRule, Margins, Method, Shape, class_family
from airflow_facefog.core.records import XYXY, Action, Detection, IntXYXY, Polygon, Reason

FOG_VERSION = "1"
"""Changes whenever the same decisions could give other pixels; part of the recipe."""

MIN_LINKABLE_SIDE = 48
"""px. Below it a mosaic or blur has too few cells to cover anything: fog instead."""

MERGE_IOU = 0.30
"""Regions of one method whose hulls overlap this much are fogged as one."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to one cluster of detections.

    ``confidence``, ``xyxy`` and ``class_name`` are the best member's; ``hull`` is the box around all ``n_members``;
    ``detector`` joins the members' distinct detectors with ``+``. From ``method`` to ``params_hash`` all is None unless
    fogged: ``margin_box`` is hull + margin (float px, may leave the image), ``region`` the pixels' bounding box, in whole 8x8
    blocks. ``threshold`` of an ignored class is the record floor. ``human``: a person reported it.
    """

    class_name: str
    detector: str
    confidence: float
    threshold: float
    xyxy: XYXY
    hull: XYXY
    n_members: int
    polygon: Polygon | None
    action: Action
    reason: Reason | None = None
    method: Method | None = None
    shape: Shape | None = None
    margin_box: XYXY | None = None
    region: IntXYXY | None = None
    irreversible: bool | None = None
    params_hash: str | None = None
    human: bool = False


@dataclass(frozen=True, slots=True)
class Decided:
    """All decisions of one image in a fixed order; ``n_dropped`` clusters were neither fogged nor recorded."""

    decisions: tuple[Decision, ...]
    n_dropped: int = 0

    @property
    def fogged(self) -> tuple[Decision, ...]:
        """The decisions that cover pixels."""
        return tuple(d for d in self.decisions if d.action is Action.FOGGED)


def decide(detections: Sequence[Detection], policy: FogPolicy, width: int, height: int, *, keyed: bool) -> Decided:
    """Decide about every detection of one upright image of ``width`` x ``height`` px.

    What a person reported is always fogged, by its own decision and under ``other_rule`` where its class is ignored.
    Raises PolicyError when a rule in force wants a linkable method and there is no master key.
    """
    if not keyed:
        _refuse_linkable(policy)
    human = [Cluster((d,)) for d in detections if d.human]
    fogged = [_fogged(c, rule_of(c.best.class_name, policy, True), policy, width, height) for c in human]
    others: list[Decision] = []
    for class_name, members in _by_class(d for d in detections if not d.human).items():
        rule = policy.rule_for(class_name)
        if rule is None:
            others += [_row(c, policy.record_floor, Action.CLASS_IGNORED) for c in find_clusters(members)]
            continue
        above = [m for m in members if m.confidence >= rule.min_confidence]
        below = [m for m in members if m.confidence < rule.min_confidence]
        fogged += [_fogged(c, rule, policy, width, height) for c in find_clusters(above)]
        others += [_row(c, rule.min_confidence, Action.BELOW_THRESHOLD) for c in find_clusters(below)]
    return _recorded(_merge(fogged, policy), others, policy)


def rule_of(class_name: str, policy: FogPolicy, human: bool) -> FogRule:
    """The rule under which a fogged cluster of this class was fogged."""
    rule = policy.rule_for(class_name)
    assert rule is not None or human, "only what a person reported is fogged without a rule"
    return rule or policy.other_rule


def with_fill(decided: Decided) -> Decided:
    """The same masks with one constant colour: what is tried after verify refused an image."""
    return replace(decided, decisions=tuple(_filled(d) for d in decided.decisions))


def _filled(decision: Decision) -> Decision:
    if decision.action is not Action.FOGGED:
        return decision
    return replace(
        decision,
        method=Method.FILL,
        reason=Reason.REFOGGED,
        irreversible=True,
        params_hash=_hash(Method.FILL, decision.params_hash),
    )


def _refuse_linkable(policy: FogPolicy) -> None:
    rules = dict(policy.rules)
    if policy.other_classes == "fog":
        rules["other_rule"] = policy.other_rule
    for name, rule in rules.items():
        if rule.method.linkable:
            raise PolicyError(f"rule {name!r}: {rule.method} needs a master key; make one, or use fog or fill")


def _by_class(detections: Iterable[Detection]) -> dict[str, list[Detection]]:
    groups: dict[str, list[Detection]] = {}
    for detection in detections:
        groups.setdefault(detection.class_name.casefold(), []).append(detection)
    return groups


def _row(cluster: Cluster, threshold: float, action: Action) -> Decision:
    best = cluster.best
    return Decision(
        best.class_name, cluster.detector, best.confidence, threshold, best.xyxy, cluster.hull, len(cluster.members),
        cluster.polygon, action, human=best.human,
    )  # fmt: skip


def _fogged(cluster: Cluster, rule: FogRule, policy: FogPolicy, width: int, height: int) -> Decision:
    row = _row(cluster, rule.min_confidence, Action.FOGGED)
    margin = rule.margin_for(row.class_name)
    margin_box = boxes.pad_box(row.hull, margin.sides, margin.top, margin.bottom)
    shape = Shape.BOX if rule.shape is Shape.POLYGON and row.polygon is None else rule.shape
    region = boxes.block_region(_outline(row, shape, margin, margin_box), width, height)
    method = _allowed_method(rule.method, row.class_name, region, policy)
    return replace(
        row,
        reason=None if method is rule.method else Reason.METHOD_DOWNGRADED,
        method=method,
        shape=shape,
        margin_box=margin_box,
        region=region,
        irreversible=not method.linkable,
        params_hash=_params_hash(method, shape, margin, policy),
    )


def _outline(row: Decision, shape: Shape, margin: Margins, margin_box: XYXY) -> XYXY:
    if shape is Shape.ELLIPSE:
        return boxes.circumscribed(boxes.at_least(margin_box))
    if shape is Shape.POLYGON and row.polygon is not None:
        left, top, right, bottom = boxes.bounds(row.polygon)
        dx, dy_top, dy_bottom = polygon_margin(row.hull, margin_box)
        return left - dx, top - dy_top, right + dx, bottom + dy_bottom
    return margin_box


def polygon_margin(hull: XYXY, margin_box: XYXY) -> tuple[float, float, float]:
    """Dilation of a polygon in px (each side, top, bottom): the cluster's margin plus 1 px for rounded vertices."""
    return hull[0] - margin_box[0] + 1.0, hull[1] - margin_box[1] + 1.0, margin_box[3] - hull[3] + 1.0


def _allowed_method(method: Method, class_name: str, region: IntXYXY, policy: FogPolicy) -> Method:
    if not method.linkable:
        return method
    family = class_family(class_name)
    if family in (Family.PLATE, Family.TEXT) or (method is Method.BLUR and family is not Family.FACE):
        return Method.FOG
    if min(region[2] - region[0], region[3] - region[1]) < MIN_LINKABLE_SIDE:
        return Method.FOG
    return method if policy.accept_linkable and not policy.frame_sequence else Method.FOG


def _merge(fogged: list[Decision], policy: FogPolicy) -> list[Decision]:
    """Join overlapping regions of one method: every member's region becomes the whole of the joined ones.

    A group that grew can newly meet only the groups before it, so only these are looked at again.
    """
    groups = [(d.hull, [d]) for d in sorted(fogged, key=_order)]
    at = 0
    while at < len(groups):
        partner = next((i for i in range(at + 1, len(groups)) if _mergeable(*groups[at], *groups[i])), None)
        if partner is None:
            at += 1
            continue
        while partner is not None:
            _absorb(groups, at, partner)
            earlier = next((i for i in range(at) if _mergeable(*groups[i], *groups[at])), None)
            at, partner = (at, None) if earlier is None else (earlier, at)
    return [d for _, members in groups for d in _joined(members, policy)]


def _absorb(groups: list[tuple[XYXY, list[Decision]]], at: int, partner: int) -> None:
    other_box, other_members = groups.pop(partner)
    box, members = groups[at]
    groups[at] = (boxes.hull((box, other_box)), members + other_members)


def _mergeable(box: XYXY, members: list[Decision], other_box: XYXY, other_members: list[Decision]) -> bool:
    return members[0].method is other_members[0].method and boxes.iou(box, other_box) >= MERGE_IOU


def _joined(members: list[Decision], policy: FogPolicy) -> list[Decision]:
    if len(members) == 1:
        return members
    region = boxes.int_hull([d.region for d in members if d.region])
    result = []
    for member in members:
        rule = rule_of(member.class_name, policy, member.human)
        assert member.method is not None
        margin = rule.margin_for(member.class_name)
        params = _params_hash(member.method, Shape.BOX, margin, policy)
        result.append(replace(member, shape=Shape.BOX, region=region, params_hash=params))
    return result


def _recorded(fogged: list[Decision], others: list[Decision], policy: FogPolicy) -> Decided:
    worth = sorted((d for d in others if d.confidence >= policy.record_floor), key=lambda d: (-d.confidence, _order(d)))
    kept = worth[: max(0, policy.max_recorded - len(fogged))]
    return Decided(tuple(sorted(fogged + kept, key=_order)), len(others) - len(kept))


def _order(decision: Decision) -> tuple[object, ...]:
    x1, y1, x2, y2 = decision.xyxy
    return (
        decision.detector, decision.class_name, y1, x1, y2, x2, -decision.confidence, decision.action.value,
        decision.hull, decision.n_members, decision.polygon or (),
    )  # fmt: skip


def _params_hash(method: Method, shape: Shape, margin: Margins, policy: FogPolicy) -> str:
    fill = ",".join(str(v) for v in policy.fill_color)
    return _hash(method, shape, margin.sides, margin.top, margin.bottom, FOG_VERSION, fill)


def _hash(*parts: object) -> str:
    """16 hex digits that name how a region was covered."""
    return hashlib.sha256("\0".join(str(p) for p in parts).encode()).hexdigest()[:16]
