"""Stored predictions come back exactly, or not at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.predictions import open_prediction, seal_prediction
from airflow_facefog.core.records import Detection

KEYS = KeyRing.from_master(b"k" * 32)
OF = {"source_ref": "a" * 64, "image_id": "b" * 64, "recipe_hash": "c" * 64}
SIZE = {"width": 640, "height": 480}
FACE = Detection(
    (1.015625, 2.0, 30.5, 40.0), 0.1234567890123, "face", 0, ((1.0, 2.0), (3.5, 4.0), (5.0, 6.25)), "local"
)


@st.composite
def detections(draw):
    """Any detection that the records allow."""
    number = st.floats(-1e6, 1e6)
    x1, y1 = draw(number), draw(number)
    side = st.floats(0.015625, 1e5)
    polygon = draw(st.none() | st.lists(st.tuples(number, number), max_size=4).map(tuple))
    box = (x1, y1, x1 + draw(side), y1 + draw(side))
    return Detection(
        box, draw(st.floats(0, 1)), draw(st.text(max_size=9)), draw(st.integers(0, 99)), polygon, draw(st.text())
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(detections(), max_size=5))
def test_what_was_sealed_comes_back_exactly(found):
    """Every number and name returns bit for bit, on one line, and sealing again gives the same bytes."""
    line = seal_prediction(KEYS, **OF, **SIZE, detections=found)
    assert b"\n" not in line
    assert open_prediction(line, KEYS, **OF, **SIZE) == tuple(found)
    assert open_prediction(line, KEYS, **OF) == tuple(found)
    assert seal_prediction(KEYS, **OF, **SIZE, detections=open_prediction(line, KEYS, **OF)) == line


def test_nothing_found_is_not_nothing_stored():
    """An empty answer is an empty tuple; a missing entry is None, which means detect again."""
    line = seal_prediction(KEYS, **OF, **SIZE, detections=[])
    assert open_prediction(line, KEYS, **OF, **SIZE) == ()
    assert open_prediction(None, KEYS, **OF, **SIZE) is None
    assert open_prediction(b"", KEYS, **OF, **SIZE) is None


@pytest.mark.parametrize(
    "change",
    [{"source_ref": "d" * 64}, {"image_id": "d" * 64}, {"recipe_hash": "d" * 64}, {"width": 480}, {"height": 640},
     {"width": 480, "height": 640}],
)  # fmt: skip
def test_an_entry_about_something_else_is_none(change):
    """Another item, image, recipe or upright size means detect again."""
    line = seal_prediction(KEYS, **OF, **SIZE, detections=[FACE])
    assert open_prediction(line, KEYS, **{**OF, **SIZE, **change}) is None


@pytest.mark.parametrize("other", [None, b"x" * 32])
def test_another_key_is_none(other):
    """Entries sealed under another key, or keyless, are not believed."""
    line = seal_prediction(KeyRing.from_master(other), **OF, **SIZE, detections=[])
    assert open_prediction(line, KEYS, **OF, **SIZE) is None


def test_a_keyless_ring_reads_its_own():
    """Without a key the seal still tells damage and mix-ups."""
    keyless = KeyRing.from_master(None)
    line = seal_prediction(keyless, **OF, **SIZE, detections=[FACE])
    assert open_prediction(line, keyless, **OF, **SIZE) == (FACE,)
    assert open_prediction(line.replace(b"30.5", b"31.5"), keyless, **OF, **SIZE) is None


def test_no_single_byte_can_be_changed_or_lost():
    """Any changed, missing or added byte means detect again, never other detections."""
    line = seal_prediction(KEYS, **OF, **SIZE, detections=[FACE])
    for index in range(len(line)):
        assert open_prediction(line[:index] + bytes([line[index] ^ 1]) + line[index + 1 :], KEYS, **OF, **SIZE) is None
        assert open_prediction(line[:index] + line[index + 1 :], KEYS, **OF, **SIZE) is None
        assert open_prediction(line[:index], KEYS, **OF, **SIZE) is None
    assert open_prediction(line + b" ", KEYS, **OF, **SIZE) is None


@pytest.mark.parametrize(
    "change",
    [{"detections": []}, {"detections": None}, {"detections": [[1]]}, {"detections": [["x"] * 9]}, {"width": 10**400},
     {"width": "640"}, {"mac": None}, {"extra": 1}],
)  # fmt: skip
def test_edited_entries_are_none(change):
    """Valid JSON with other contents is refused without an exception."""
    stored = json.loads(seal_prediction(KEYS, **OF, **SIZE, detections=[FACE]))
    line = json.dumps({**stored, **change}, sort_keys=True, separators=(",", ":")).encode()
    assert open_prediction(line, KEYS, **OF, **SIZE) is None


@pytest.mark.parametrize("line", [b"null", b"[]", b"3", b"{", b"\xff", b"[" * 100_000, b'{"detections": [1e999]}'])
def test_garbage_is_none(line):
    """Whatever lies in the store, reading it never raises and never reads as "no faces"."""
    assert open_prediction(line, KEYS, **OF, **SIZE) is None
