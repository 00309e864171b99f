"""Decisions: clusters, actions, margins, methods, merging, order."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_facefog.core import boxes
from airflow_facefog.core.errors import PolicyError
from airflow_facefog.core.policy import FogPolicy, Method, Shape, load_policy
from airflow_facefog.core.records import Action, Detection, Polygon, Reason
from airflow_facefog.core.regions import Decided, Decision, decide, with_fill

WIDTH, HEIGHT = 640, 480


def seen(x: float, y: float, side: float, confidence: float = 0.9, name: str = "face", **more: Any) -> Detection:
    """A square detection."""
    return Detection((x, y, x + side, y + side), confidence, name, **more)


def decided(*detections: Detection, keyed: bool = True, **settings: Any) -> Decided:
    """Decide under the default policy with some settings changed."""
    return decide(detections, load_policy(settings), WIDTH, HEIGHT, keyed=keyed)


def only(result: Decided) -> Decision:
    """The single decision."""
    assert len(result.decisions) == 1
    return result.decisions[0]


def test_cluster_is_the_hull_of_all_members() -> None:
    """Two boxes around one face make one decision: the best's numbers, everybody's hull."""
    decision = only(decided(seen(100, 100, 50, 0.6), seen(105, 110, 50, 0.9, detector="b")))
    assert (decision.confidence, decision.n_members, decision.detector) == (0.9, 2, "+b")
    assert decision.hull == (100, 100, 155, 160)
    assert decision.xyxy == (105, 110, 155, 160)


def test_detector_names_of_a_cluster_are_sorted_and_distinct() -> None:
    """A union of detectors names each once."""
    found = [seen(100, 100, 50, c, detector=d) for c, d in ((0.9, "yunet"), (0.8, "roboflow"), (0.7, "yunet"))]
    assert only(decided(*found)).detector == "roboflow+yunet"


def test_classes_are_compared_casefolded() -> None:
    """``Face`` and ``face`` are one class."""
    assert only(decided(seen(100, 100, 50, name="Face"), seen(101, 100, 50, 0.5))).n_members == 2


def test_default_margins_of_a_face() -> None:
    """Sides .20 of the width, top .35 and bottom .25 of the height, then whole blocks."""
    decision = only(decided(seen(200, 200, 100)))
    assert decision.margin_box == (180, 165, 320, 325)
    assert decision.region == (176, 160, 320, 328)
    assert (decision.method, decision.shape, decision.irreversible) == (Method.FOG, Shape.BOX, True)


def test_below_threshold_is_recorded_apart() -> None:
    """A weak box never joins a strong one and covers nothing."""
    result = decided(seen(100, 100, 50, 0.9), seen(102, 100, 50, 0.2))
    actions = {d.confidence: d.action for d in result.decisions}
    assert actions == {0.9: Action.FOGGED, 0.2: Action.BELOW_THRESHOLD}
    weak = next(d for d in result.decisions if d.confidence == 0.2)
    assert (weak.region, weak.method, weak.threshold) == (None, None, 0.25)


def test_threshold_itself_is_fogged() -> None:
    """Confidence equal to min_confidence is enough."""
    assert only(decided(seen(10, 10, 50, 0.25))).action is Action.FOGGED


@pytest.mark.parametrize(("other", "action"), [("fog", Action.FOGGED), ("ignore", Action.CLASS_IGNORED)])
def test_unlisted_classes_follow_the_policy(other: str, action: Action) -> None:
    """An unlisted class is fogged by default and ignored only when that is written down."""
    assert only(decided(seen(10, 10, 50, name="dog"), other_classes=other)).action is action


def test_box_outside_the_image_is_fogged_at_the_border() -> None:
    """A detection outside the picture fails closed: the nearest border block."""
    decision = only(decided(seen(-400, -300, 20)))
    assert (decision.action, decision.region) == (Action.FOGGED, (0, 0, 8, 8))


def test_recorded_rows_are_limited_but_fogged_ones_never_dropped() -> None:
    """``max_recorded`` drops the weakest unfogged rows and counts them."""
    strong = [seen(60 * i, 10, 20, 0.9) for i in range(4)]
    weak = [seen(60 * i, 200, 20, 0.11 + 0.01 * i) for i in range(5)]
    result = decided(*strong, *weak, max_recorded=5)
    assert (len(result.fogged), len(result.decisions), result.n_dropped) == (4, 5, 4)
    assert min(d.confidence for d in result.decisions) == pytest.approx(0.15)
    everything = decided(*strong, *weak, max_recorded=1)
    assert (len(everything.decisions), everything.n_dropped) == (4, 5)


def test_rows_below_the_record_floor_are_counted_not_recorded() -> None:
    """What the detector says below the floor is dropped, and the count says so."""
    result = decided(seen(10, 10, 20, 0.05), seen(100, 10, 20, 0.12))
    assert [d.confidence for d in result.decisions] == [0.12]
    assert result.n_dropped == 1


DETECTION = st.builds(
    seen,
    st.integers(-50, 700).map(lambda v: v / 2),
    st.integers(-50, 500).map(lambda v: v / 2),
    st.sampled_from([0.25, 3.0, 20.0, 60.0, 200.0]),
    st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.5, 0.9]),
    st.sampled_from(["face", "Face", "plate"]),
    detector=st.sampled_from(["a", "b"]),
)


@given(st.lists(DETECTION, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_order_of_detections_does_not_matter(found: list[Detection], chance: random.Random) -> None:
    """Shuffled detections give the same decisions in the same order."""
    shuffled = list(found)
    chance.shuffle(shuffled)
    assert decided(*shuffled) == decided(*found)


@given(st.lists(DETECTION, max_size=12))
@settings(max_examples=50, deadline=None)
def test_every_selected_detection_lies_inside_a_region(found: list[Detection]) -> None:
    """Each pixel touched by a detection at or above the threshold is in the region of a fogged decision of its class."""
    result = decided(*found)
    for detection in found:
        if detection.confidence < 0.25:
            continue
        t = boxes.touched(detection.xyxy, WIDTH, HEIGHT)
        regions = [d.region for d in result.fogged if d.class_name.casefold() == detection.class_name.casefold()]
        assert any(
            r is not None and r[0] <= t[0] and r[1] <= t[1] and t[2] <= r[2] and t[3] <= r[3]
            for r in regions
        ) or t[2] <= t[0] or t[3] <= t[1]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "name", "side", "expected"),
    [
        ("pixelate", "face", 100, Method.PIXELATE),
        ("blur", "face", 100, Method.BLUR),
        ("pixelate", "face", 20, Method.FOG),
        ("blur", "face", 20, Method.FOG),
        ("pixelate", "person", 100, Method.PIXELATE),
        ("pixelate", "license_plate", 100, Method.FOG),
        ("pixelate", "ocr", 100, Method.FOG),
    ],
)
def test_linkable_methods_are_downgraded_where_unsafe(method: str, name: str, side: int, expected: Method) -> None:
    """Small regions, plates and text fall back to fog, and the row says why."""
    rule = {"method": method}
    rules = {"rules": {name: rule}} if name == "face" else {"rules": {}, "other_rule": {"method": "pixelate"}}
    decision = only(decided(seen(200, 200, side, name=name), accept_linkable=True, **rules))
    assert decision.method is expected
    assert decision.reason is (None if expected.value == method else Reason.METHOD_DOWNGRADED)
    assert decision.irreversible is not expected.linkable


def test_linkable_without_a_key_is_refused() -> None:
    """No master key and a linkable rule is an error even when nothing was detected."""
    with pytest.raises(PolicyError, match="needs a master key"):
        decided(keyed=False, rules={"face": {"method": "pixelate"}}, accept_linkable=True)


def test_keyless_fog_is_fine() -> None:
    """Fog needs no key."""
    assert only(decided(seen(10, 10, 50), keyed=False)).method is Method.FOG


def test_overlapping_regions_of_one_method_become_one() -> None:
    """Two classes around one thing share one region: the whole of both."""
    result = decided(seen(200, 200, 100), seen(220, 210, 100, name="head"))
    first, second = result.decisions
    assert first.region == second.region
    assert first.region == boxes.int_hull([(176, 160, 320, 328), (200, 168, 344, 336)])
    assert {first.class_name, second.class_name} == {"face", "head"}


def test_regions_of_different_methods_stay_apart() -> None:
    """A filled and a fogged region do not merge."""
    result = decided(seen(200, 200, 100), seen(220, 210, 100, name="head"), rules={"face": {"method": "fill"}})
    assert result.decisions[0].region != result.decisions[1].region


def test_merging_cascades() -> None:
    """A chain of overlaps ends as one region."""
    names = ["face", "head", "person", "dog"]
    result = decided(*(seen(200 + 30 * i, 200, 100, name=n) for i, n in enumerate(names)))
    assert len({d.region for d in result.decisions}) == 1


DIAMOND: Polygon = ((250.0, 200.0), (300.0, 250.0), (250.0, 300.0), (200.0, 250.0))


@pytest.mark.parametrize(
    ("polygon", "shape"),
    [
        (DIAMOND, Shape.POLYGON),
        (None, Shape.BOX),
        (DIAMOND[:2], Shape.BOX),
        (((0.0, 0.0), (5.0, 0.0), (5.0, 5.0)), Shape.BOX),
        (((200.0, 200.0), (250.0, 250.0), (300.0, 300.0)), Shape.BOX),
        (((float("nan"), 200.0), (300.0, 250.0), (250.0, 300.0)), Shape.BOX),
    ],
)
def test_polygons_that_cannot_be_believed_become_boxes(polygon: Polygon | None, shape: Shape) -> None:
    """Missing, short, distant, flat or non-finite outlines fall back to the whole box."""
    decision = only(decided(seen(200, 200, 100, polygon=polygon), rules={"face": {"shape": "polygon"}}))
    assert decision.shape is shape


def test_polygon_of_a_cluster_holds_every_member() -> None:
    """Several members: the convex hull of all outlines, a member without one counting with its box."""
    found = [seen(200, 200, 100, 0.9, polygon=DIAMOND), seen(210, 200, 100, 0.8)]
    decision = only(decided(*found, rules={"face": {"shape": "polygon"}}))
    assert decision.polygon is not None
    assert boxes.bounds(decision.polygon) == (200, 200, 310, 300)


def test_ellipse_region_holds_the_circumscribed_ellipse() -> None:
    """Axes times sqrt 2, or the box's corners would stay clear."""
    decision = only(decided(seen(200, 200, 100), rules={"face": {"shape": "ellipse"}}))
    assert decision.margin_box is not None
    assert decision.region == boxes.block_region(boxes.circumscribed(decision.margin_box), WIDTH, HEIGHT)


def test_params_hash_names_how_a_region_was_covered() -> None:
    """Method, shape, margin and fill colour change it; the place does not."""
    base = only(decided(seen(200, 200, 100))).params_hash
    assert only(decided(seen(50, 60, 90))).params_hash == base
    changes: list[dict[str, Any]] = [
        {"rules": {"face": {"method": "fill"}}},
        {"rules": {"face": {"shape": "ellipse"}}},
        {"rules": {"face": {"margin": {"sides": 0.3}}}},
        {"fill_color": [1, 2, 3]},
    ]
    others = [only(decided(seen(200, 200, 100), **change)).params_hash for change in changes]
    assert len({base, *others}) == 5


def test_with_fill_keeps_masks_and_forces_the_method() -> None:
    """The fallback covers the same pixels with a constant, says why, and touches nothing else."""
    rules = {"face": {"method": "pixelate", "shape": "ellipse"}}
    result = decided(seen(200, 200, 100), seen(10, 10, 30, 0.2), rules=rules, accept_linkable=True)
    filled = with_fill(result)
    before, after = result.fogged[0], filled.fogged[0]
    assert (after.method, after.reason, after.irreversible) == (Method.FILL, Reason.REFOGGED, True)
    assert (after.region, after.shape, after.margin_box) == (before.region, before.shape, before.margin_box)
    assert after.params_hash != before.params_hash
    assert [d for d in filled.decisions if d.action is not Action.FOGGED] == [
        d for d in result.decisions if d.action is not Action.FOGGED
    ]


def test_nothing_detected_decides_nothing() -> None:
    """No detections, no decisions."""
    assert decide([], FogPolicy(), 10, 10, keyed=False) == Decided((), 0)
