"""The fogger: it covers all of what it must, nothing else, and forgets what was there."""

from __future__ import annotations

from typing import Any

import cv2
import fogkit
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_facefog.core import boxes
from airflow_facefog.core.fog import fog, layers_of, render_layers
from airflow_facefog.core.fog.masks import covered_grid, expand, mask_of
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import Method, load_policy
from airflow_facefog.core.records import Detection
from airflow_facefog.core.regions import Decided, decide

WIDTH, HEIGHT = 150, 109
SIDE = st.one_of(st.floats(0.01, 12), st.floats(1, 160))
STAR = tuple((60 + 40 * np.sin(4 * np.pi * i / 5), 50 - 40 * np.cos(4 * np.pi * i / 5)) for i in range(5))


@st.composite
def boxes_anywhere(draw: st.DrawFn) -> Detection:
    """A detection of any size, also across the border or outside."""
    x, y = draw(st.floats(-60, 200)), draw(st.floats(-60, 150))
    return Detection((x, y, x + draw(SIDE), y + draw(SIDE)), 0.9, draw(st.sampled_from(["face", "plate"])))


def noise_picture(channels: int, seed: int = 0) -> np.ndarray:
    """Random pixels: (h, w) for 1 channel, else (h, w, channels)."""
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def decided_for(found: list[Detection], method: str, shape: str) -> tuple[Decided, Any]:
    """Decisions for faces under one method and shape, and the policy."""
    rules = fogkit.policy(method, shape)
    return decide(found, rules, WIDTH, HEIGHT, keyed=True), rules


def covered(decided: Decided) -> np.ndarray:
    """(h, w) bool: under any mask."""
    grid = covered_grid((layer.mask for layer in layers_of(decided)), HEIGHT, WIDTH)
    return expand(grid, (0, 0), (0, 0, WIDTH, HEIGHT)) > 0


@given(
    st.lists(boxes_anywhere(), min_size=1, max_size=4),
    st.sampled_from(["fog", "fill"]),
    st.sampled_from(["box", "ellipse"]),
    st.sampled_from([1, 3, 4]),
)
@settings(max_examples=50, deadline=None)
def test_covered_pixels_leave_no_trace(found: list[Detection], method: str, shape: str, channels: int) -> None:
    """Fog and fill give the same picture whatever was under the masks, and change nothing outside them."""
    decided, rules = decided_for(found, method, shape)
    one, hidden = noise_picture(channels), covered(decided)
    two = one.copy()
    two[hidden] = noise_picture(channels, 1)[hidden]
    first, second = (fog(p, decided, rules, fogkit.KEYS, fogkit.CID) for p in (one, two))
    assert np.array_equal(first, second)
    assert np.array_equal(first[~hidden], one[~hidden])
    if channels == 4:
        assert (first[hidden][:, 3] == 255).all()


@given(boxes_anywhere(), st.sampled_from(["box", "ellipse"]))
@settings(max_examples=50, deadline=None)
def test_every_touched_pixel_is_inside_the_mask(found: Detection, shape: str) -> None:
    """Whatever the size, down to 0.01 px: box and margin are covered in full; outside the image a border block is."""
    decided, _ = decided_for([found], "fog", shape)
    decision = decided.fogged[0]
    assert decision.margin_box is not None
    hidden = covered(decided)
    x1, y1, x2, y2 = boxes.touched(decision.margin_box, WIDTH, HEIGHT)
    assert hidden.any()
    assert hidden[y1 : max(y1, y2), x1 : max(x1, x2)].all()


@pytest.mark.parametrize("method", ["fog", "fill", "pixelate", "blur"])
def test_same_input_same_pixels(method: str) -> None:
    """A retry repeats every byte, the input stays as it was, and a read-only input is enough."""
    decided, rules = decided_for([fogkit.face_at(40, 20, 50)], method, "box")
    source = noise_picture(3)
    source.setflags(write=False)
    before = source.copy()
    first = fog(source, decided, rules, fogkit.KEYS, fogkit.CID)
    assert np.array_equal(first, fog(source, decided, rules, fogkit.KEYS, fogkit.CID))
    assert np.array_equal(source, before)
    assert first is not source
    assert not np.array_equal(first, source)


@pytest.mark.parametrize("method", ["fog", "pixelate", "blur"])
def test_noise_depends_on_key_and_file(method: str) -> None:
    """Another key or another source file gives other noise."""
    decided, rules = decided_for([fogkit.face_at(40, 20, 50)], method, "box")
    source = noise_picture(3)
    keys = KeyRing.from_master(bytes(32))
    base = fog(source, decided, rules, fogkit.KEYS, fogkit.CID)
    assert not np.array_equal(base, fog(source, decided, rules, keys, fogkit.CID))
    assert not np.array_equal(base, fog(source, decided, rules, fogkit.KEYS, b"d" * 32))


def test_keyless_noise_is_no_oracle_on_the_file() -> None:
    """Without a key two files with the same published pixels give the same output: the hidden ones cannot be guessed at."""
    rules = fogkit.policy()
    decided = decide([fogkit.face_at(40, 20, 50)], rules, WIDTH, HEIGHT, keyed=False)
    keys = KeyRing.from_master(None)
    one = noise_picture(3)
    two = one.copy()
    two[covered(decided)] = 7
    outputs = [fog(p, decided, rules, keys, keys.content_id(p.tobytes())) for p in (one, two)]
    assert np.array_equal(*outputs)


def test_fog_takes_the_quantised_colour_of_the_ring() -> None:
    """A blue wall gives blue fog in steps of 16 and 8, whatever face is in front of it."""
    wall = np.full((HEIGHT, WIDTH, 3), (180, 90, 60), np.uint8)
    wall[30:70, 50:90] = 255
    decided, rules = decided_for([Detection((50, 30, 90, 70), 0.9, "face")], "fog", "box")
    result = fog(wall, decided, rules, fogkit.KEYS, fogkit.CID)
    inside = cv2.cvtColor(result, cv2.COLOR_BGR2YCrCb)[covered(decided)].astype(float)
    assert abs(inside[:, 0].mean() - 96) < 8
    assert abs(inside[:, 1].mean() - 104) < 2
    assert abs(inside[:, 2].mean() - 160) < 2
    assert 5 < inside[:, 0].std() < 16


@pytest.mark.parametrize("shape", ["box", "ellipse"])
@pytest.mark.parametrize(("share", "lowest", "highest"), [(1.0, 200, 216), (0.5, 90, 150)])
def test_ring_is_an_eighth_of_the_region_wide(shape: str, share: float, lowest: int, highest: int) -> None:
    """A bright ring of exactly that width gives its own colour; half as wide, a mixture with the dark beyond."""
    decided = decide([Detection((200, 200, 340, 340), 0.9, "face")], fogkit.policy("fog", shape), 600, 600, keyed=True)
    mask = layers_of(decided)[0].mask
    hidden = np.zeros((600, 600), np.uint8)
    hidden[mask.box[1] : mask.box[3], mask.box[0] : mask.box[2]] = mask.pixels()
    side = 2 * round(share * (mask.short // 8)) + 1
    wall = np.where(cv2.dilate(hidden, np.ones((side, side), np.uint8)) > 0, 208, 48).astype(np.uint8)
    result = fog(wall, decided, fogkit.policy("fog", shape), fogkit.KEYS, fogkit.CID)
    assert lowest < result[hidden > 0].mean() < highest


def test_no_ring_gives_grey() -> None:
    """A region that fills the picture has no ring: mean grey."""
    decided, rules = decided_for([Detection((0, 0, WIDTH, HEIGHT), 0.9, "face")], "fog", "box")
    result = fog(noise_picture(3), decided, rules, fogkit.KEYS, fogkit.CID)
    assert abs(result.mean() - 128) < 8
    assert (result.max(axis=2) == result.min(axis=2)).all()


@pytest.mark.parametrize(("channels", "expected"), [(1, (80,)), (3, (30, 80, 100)), (4, (30, 80, 100, 255))])
def test_fill_is_the_policys_colour(channels: int, expected: tuple[int, ...]) -> None:
    """``fill_color`` is red, green, blue; a grey picture gets its luma; alpha is opaque."""
    rules = fogkit.policy("fill", fill_color=[100, 80, 30])
    decided = decide([fogkit.face_at(40, 20, 30)], rules, WIDTH, HEIGHT, keyed=True)
    result = fog(noise_picture(channels), decided, rules, fogkit.KEYS, fogkit.CID)
    assert np.unique(result.reshape(HEIGHT, WIDTH, -1)[covered(decided)], axis=0).tolist() == [list(expected)]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_mosaic_has_at_most_36_flat_cells(channels: int) -> None:
    """Six cells a side at most, each of one colour and at least 12 px wide but for the last."""
    decided, rules = decided_for([fogkit.face_at(40, 25, 45)], "pixelate", "box")
    patch = render_layers(layers_of(decided), noise_picture(channels), rules, fogkit.KEYS, fogkit.CID)[0]
    pixels = patch.pixels.reshape(*patch.pixels.shape[:2], -1).astype(int)
    assert 1 < len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) <= 36
    rows = np.flatnonzero(np.abs(np.diff(pixels, axis=0)).sum(axis=(1, 2)))
    assert len(rows) <= 5
    assert (np.diff(rows) >= 12).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_blur_leaves_no_detail(channels: int) -> None:
    """Neighbouring pixels hardly differ after a blur of white noise."""
    decided, rules = decided_for([fogkit.face_at(40, 25, 45)], "blur", "box")
    patch = render_layers(layers_of(decided), noise_picture(channels), rules, fogkit.KEYS, fogkit.CID)[0]
    assert np.abs(np.diff(patch.pixels.astype(int), axis=0)).max() <= 12
    assert patch.pixels.std() > 1


@pytest.mark.parametrize("method", ["pixelate", "blur"])
def test_linkable_methods_cannot_see_under_an_irreversible_mask(method: str) -> None:
    """Where a plate's fog overlaps a mosaic, the plate's pixels do not reach the mosaic's cells either."""
    found = [fogkit.face_at(20, 10, 60), Detection((70, 60, 110, 100), 0.9, "plate")]
    decided, rules = decided_for(found, method, "box")
    fog_mask = next(layer.mask for layer in layers_of(decided) if layer.method is Method.FOG)
    x1, y1, x2, y2 = fog_mask.box
    one = noise_picture(3)
    two = one.copy()
    two[y1:y2, x1:x2] = 3
    first, second = (fog(p, decided, rules, fogkit.KEYS, fogkit.CID) for p in (one, two))
    assert {layer.method for layer in layers_of(decided)} == {Method.FOG, Method(method)}
    assert np.array_equal(first, second)


def test_polygon_mask_covers_the_outline_and_fills_holes() -> None:
    """A self-crossing star is covered in its centre too, with the margin around it, and not out to the box's corners."""
    found = Detection(boxes.bounds(STAR), 0.9, "face", polygon=STAR)
    decided, _ = decided_for([found], "fog", "polygon")
    hidden = covered(decided)
    assert hidden[50, 60]
    for x, y in STAR:
        assert hidden[min(HEIGHT - 1, round(y)), round(x)]
    assert not hidden.all()


def test_holes_of_a_polygon_are_covered() -> None:
    """The inner pentagon of a large star, which even-odd filling leaves out, is covered without any margin."""
    star = tuple((300 + 200 * np.sin(4 * np.pi * i / 5), 300 - 200 * np.cos(4 * np.pi * i / 5)) for i in range(5))
    none = {"sides": 0, "top": 0, "bottom": 0}
    rules = load_policy({"rules": {"face": {"shape": "polygon", "margin": none}}, "accept_small_margins": True})
    decided = decide([Detection(boxes.bounds(star), 0.9, "face", polygon=star)], rules, 600, 600, keyed=True)
    mask = mask_of(decided.fogged[0])
    assert expand(mask.grid, mask.box[:2], (280, 280, 320, 320)).min() == 255
    assert not mask.full


def test_polygon_is_dilated_by_the_margin() -> None:
    """Sides, top and bottom each by their own fraction of the hull, and not by much more."""
    triangle = ((200.0, 200.0), (300.0, 200.0), (200.0, 300.0))
    margin = {"sides": 0.4, "top": 0.2, "bottom": 0.6}
    rules = load_policy({"rules": {"face": {"shape": "polygon", "margin": margin}}, "accept_small_margins": True})
    decided = decide([Detection((200, 200, 300, 300), 0.9, "face", polygon=triangle)], rules, 600, 600, keyed=True)
    mask = mask_of(decided.fogged[0])
    pixels = np.zeros((600, 600), np.uint8)
    x1, y1, x2, y2 = mask.box
    pixels[y1:y2, x1:x2] = mask.pixels()
    for x, y in ((161, 250), (339, 201), (250, 181), (201, 359)):
        assert pixels[y, x] == 255
    for x, y in ((140, 250), (250, 160), (201, 385), (330, 330)):
        assert pixels[y, x] == 0


def test_shape_that_covers_nothing_covers_its_whole_region() -> None:
    """An ellipse around a box outside the picture fails closed to the border block."""
    decided, _ = decided_for([Detection((-300, -300, -100, -100), 0.9, "face")], "fog", "ellipse")
    assert mask_of(decided.fogged[0]).full


def test_tables_of_layers_hold_each_mask_once() -> None:
    """Merged decisions share one region and are rendered once, from one ring."""
    found = [fogkit.face_at(40, 20, 50), fogkit.face_at(44, 22, 50, name="plate")]
    decided, _ = decided_for(found, "fog", "box")
    assert len(decided.fogged) == 2
    assert len(layers_of(decided)) == 1


def test_fog_without_decisions_costs_no_copy() -> None:
    """Nothing to cover: the very pixels that were given."""
    source = noise_picture(3)
    assert fog(source, Decided(()), load_policy(None), fogkit.KEYS, fogkit.CID) is source
