"""From the server's answer to detections: exact arithmetic, and nothing odd ever reads as "no faces"."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.records import Reason
from airflow_facefog.detectors.frame import Fit, Window
from airflow_facefog.detectors.roboflow.answer import Labels, is_full, read_answer
from airflow_facefog.detectors.roboflow.detector import as_percent
from airflow_facefog.detectors.roboflow.prepare import Sent, prepare

ANY = Labels.of(None, None)
SENT = Sent(b"", Fit(Window(0, 0, 800, 600), 400, 300), 400, 300)
PLAIN = {"x": 100, "y": 50, "width": 20, "height": 10, "confidence": 0.5, "class": "face"}


def answer(*found, width=400, height=300):
    """A whole answer for a picture of that size."""
    return {"image": {"width": width, "height": height}, "predictions": list(found)}


def read(*found, sent=SENT, labels=ANY, floor=0.1, **size):
    """What becomes of an answer with these predictions."""
    return read_answer(answer(*found, **size), sent, labels, floor)


def test_centre_and_size_become_corners_in_the_source():
    """Centre (100, 50) of 20 x 10 sent at half size is (180, 90, 220, 110) upright."""
    (found,) = read(PLAIN)
    assert found.xyxy == (180.0, 90.0, 220.0, 110.0)
    assert (found.confidence, found.class_name, found.detector) == (0.5, "face", "roboflow")


def test_boxes_are_rounded_outward_and_clipped():
    """No part of a box is lost to rounding, and none lies outside the picture."""
    (inner,) = read({**PLAIN, "x": 100.003, "width": 20.001})
    assert inner.xyxy[0] == math.floor((100.003 - 10.0005) * 2 * 64) / 64
    assert inner.xyxy[2] == math.ceil((100.003 + 10.0005) * 2 * 64) / 64
    (edge,) = read({**PLAIN, "x": 1, "y": 299, "width": 50, "height": 40})
    assert edge.xyxy == (0.0, 558.0, 52.0, 600.0)


def test_windows_and_padding_are_undone():
    """A window's boxes are moved to its place; what lies in the padding alone is nowhere in the picture."""
    sent = Sent(b"", Fit(Window(1000, 0, 900, 300), 300, 100), 300, 120)
    found = read(PLAIN, {**PLAIN, "y": 115, "height": 8}, {**PLAIN, "y": 100}, sent=sent, width=300, height=120)
    assert [d.xyxy for d in found] == [(1270.0, 135.0, 1330.0, 165.0), (1270.0, 285.0, 1330.0, 300.0)]


def test_outlines_enlarge_their_box():
    """A polygon is scaled like its box; where it sticks out, the box grows to hold it; two points are no outline."""
    points = [{"x": 80, "y": 45}, {"x": 110, "y": 45}, {"x": 110, "y": 60}]
    (found,) = read({**PLAIN, "points": points})
    assert found.polygon == ((160.0, 90.0), (220.0, 90.0), (220.0, 120.0))
    assert found.xyxy == (160.0, 90.0, 220.0, 120.0)
    (short,) = read({**PLAIN, "points": points[:2]})
    assert (short.polygon, short.xyxy) == (None, (160.0, 90.0, 220.0, 110.0))


def test_below_the_floor_is_not_answered():
    """The server's own rounding of percents does not leak in."""
    assert [d.confidence for d in read({**PLAIN, "confidence": 0.4999}, PLAIN, floor=0.5)] == [0.5]


def test_class_lists_and_maps():
    """Names are compared casefolded and handed on as the list and map write them."""
    labels = Labels.of(["Face_Female", "plate"], {"FACE_female": "face"})
    assert labels.emitted == ("face", "plate")
    assert [
        d.class_name for d in read({**PLAIN, "class": "FACE_FEMALE"}, {**PLAIN, "class": "Plate"}, labels=labels)
    ] == [
        "face",
        "plate",
    ]


REFUSED = {
    "no predictions": {"image": {"width": 400, "height": 300}},
    "predictions null": {"image": {"width": 400, "height": 300}, "predictions": None},
    "predictions a mask": {"image": {"width": 400, "height": 300}, "predictions": {"segmentation_mask": "x"}},
    "an error with status 200": {"message": "could not load the model"},
    "a list": [answer(PLAIN)],
    "text": "ok",
    "null": None,
    "no image": {"predictions": []},
    "no width": {"image": {"height": 300}, "predictions": []},
    "turned": answer(width=300, height=400),
    "the source's size": answer(width=800, height=600),
    "size as text": answer(width="400", height="300"),
    "size true": answer(width=True, height=300),
    "not a prediction": answer("face"),
    "a classification": answer({"class": "face", "confidence": 0.9}),
    "no class": answer({k: v for k, v in PLAIN.items() if k != "class"}),
    "class number": answer({**PLAIN, "class": 3}),
    "empty class": answer({**PLAIN, "class": " "}),
    "outline text": answer({**PLAIN, "points": "1,2 3,4"}),
    "outline of nothing": answer({**PLAIN, "points": [None]}),
    "outline NaN": answer({**PLAIN, "points": [{"x": math.nan, "y": 1}] * 3}),
    **{f"{name} {value}": answer({**PLAIN, name: value})
       for name in ("x", "y", "width", "height", "confidence")
       for value in (math.nan, math.inf, -math.inf, -1, "5", None, True, [1], 10**400, 1e300)},
    "zero width": answer({**PLAIN, "width": 0}),
    "centre outside": answer({**PLAIN, "x": 401}),
    "confidence in percent": answer({**PLAIN, "confidence": 40}),
    "one bad among good ones": answer(PLAIN, {**PLAIN, "x": math.nan}),
    "bad below the floor": answer({**PLAIN, "confidence": 0.01, "width": -1}),
}  # fmt: skip


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_is_odd_refuses_the_picture(body):
    """Missing, lying, non-finite, negative: quarantined, never an empty list."""
    with pytest.raises(ImageError) as caught:
        read_answer(body, SENT, ANY, 0.1)
    assert caught.value.reason is Reason.DETECTOR_REFUSED
    assert len(str(caught.value)) < 200


def test_an_unlisted_class_refuses_the_picture():
    """Even below the floor: the model is not the one that the list describes."""
    with pytest.raises(ImageError, match="'cat'"):
        read({**PLAIN, "class": "cat", "confidence": 0.02}, labels=Labels.of(["face"], None))


@pytest.mark.parametrize(
    ("count", "full"),
    [(0, False), (299, False), (300, True), (301, False), (999, False), (1000, True), (1200, True)],
)
def test_full_answers_are_noticed(count, full):
    """As many as were asked for, more, or just the server's own cap of 300: something may be missing."""
    assert is_full(answer(*[PLAIN] * count), 1000) is full


def test_no_list_is_not_an_empty_list():
    """Counting what is not there refuses the picture too: it comes before the rest is read."""
    with pytest.raises(ImageError, match="no list of predictions"):
        is_full({"image": {"width": 400, "height": 300}}, 1000)


@pytest.mark.parametrize(
    ("fraction", "percent"),
    [(0.10, "10"), (0.29, "29"), (0.57, "57"), (0.105, "10"), (0.019, "1"), (0.01, "1"), (0.0, "1"), (1.0, "100"), (0.6, "60")],
)  # fmt: skip
def test_percents_mean_one_thing_and_never_more_than_the_floor(fraction, percent):
    """Whole percents from 1 up, rounded down: 0.29 is 29, and nothing between 0 and 1 is ever sent."""
    assert as_percent(fraction) == percent


@given(st.integers(1, 5000), st.integers(1, 5000), st.data())
@settings(max_examples=40, deadline=None)
def test_what_was_sent_comes_back_where_it_was(width, height, data):
    """For any picture size: a box drawn in the sent picture covers, in the source, all pixels that it was made of."""
    pixels = np.zeros((height, width, 3), np.uint8)
    sent = prepare(pixels, Window(0, 0, width, height), 256)
    assert max(sent.fit.width, sent.fit.height) <= 256
    assert max(sent.width, sent.height) <= 16 * min(sent.width, sent.height)
    x = data.draw(st.floats(0.5, sent.fit.width - 0.5))
    y = data.draw(st.floats(0.5, sent.fit.height - 0.5))
    (found,) = read({**PLAIN, "x": x, "y": y, "width": 1, "height": 1}, sent=sent, width=sent.width, height=sent.height)
    x1, y1, x2, y2 = found.xyxy
    fx, fy = width / sent.fit.width, height / sent.fit.height
    assert 0 <= x1 <= (x - 0.5) * fx + 1e-6
    assert 0 <= y1 <= (y - 0.5) * fy + 1e-6
    assert (x + 0.5) * fx - 1e-6 <= x2 <= width
    assert (y + 0.5) * fy - 1e-6 <= y2 <= height
