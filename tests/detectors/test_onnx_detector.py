"""A user's own model: every layout lands on the same pixels, and whatever is not such a model is refused."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_onnx import end2end, v5, v8, write_model

from airflow_facefog.core.errors import ConfigurationError, DetectorError, ImageError
from airflow_facefog.core.records import Reason
from airflow_facefog.detectors import resolve
from airflow_facefog.detectors.canary import check_canary
from airflow_facefog.detectors.onnx_model import OnnxDetector
from airflow_facefog.testing import DetectorContract

CLASSES = ("face", "plate", "person")
BOXES = [(32, 32, 16, 8, 1, 0.75), (20, 30, 8, 8, 0, 0.5)]


def picture(height, width):
    """A gray picture (height, width, 3)."""
    return np.full((height, width, 3), 90, np.uint8)


class TestOnnxContract(DetectorContract):
    @pytest.fixture
    def detector(self, tmp_path):
        return OnnxDetector(str(write_model(tmp_path / "m.onnx", v8(BOXES, 3))), CLASSES)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("answer", "layout"), [(v8(BOXES, 3), None), (v5(BOXES, 3), None), (end2end(BOXES), None), (v5(BOXES, 3), "v5")]
)
def test_every_layout_finds_the_same_boxes(tmp_path, answer, layout, dtype):
    """v8, v5 and end-to-end exports of one model give the same detections through the letterbox."""
    model = write_model(tmp_path / "m.onnx", answer, dtype=dtype)
    detector = OnnxDetector(str(model), CLASSES, layout=layout)
    # 128 x 64 fits into 64 x 64 at one half, with 16 px of padding above and below
    found = detector.detect(picture(64, 128), 0.25)
    assert [(d.class_name, d.class_id, d.xyxy) for d in found] == [
        ("face", 0, (32.0, 20.0, 48.0, 36.0)),
        ("plate", 1, (48.0, 24.0, 80.0, 40.0)),
    ]
    assert [d.confidence for d in found] == pytest.approx([0.5, 0.75], abs=1e-3)
    assert {d.detector for d in found} == {"onnx:m"}


def test_a_likely_person_that_may_be_a_face_is_both(tmp_path):
    """All classes above the floor are answered: a policy that ignores persons still sees the face."""
    answer = v8([(32, 32, 16, 8, 2, 0.75)], 3)
    answer[0, 4, 0] = 0.5
    found = OnnxDetector(str(write_model(tmp_path / "m.onnx", answer)), CLASSES).detect(picture(64, 64), 0.25)
    assert [(d.class_name, d.confidence) for d in found] == [("face", 0.5), ("person", 0.75)]


def test_boxes_in_the_padding_are_not_in_the_picture(tmp_path):
    """A box that lies in the letterbox padding alone is no detection; one that reaches into the picture is clipped."""
    answer = v8([(32, 4, 8, 6, 0, 0.9), (32, 14, 8, 8, 0, 0.8)], 3)
    found = OnnxDetector(str(write_model(tmp_path / "m.onnx", answer)), CLASSES).detect(picture(32, 64), 0.25)
    assert [d.xyxy for d in found] == [(28.0, 0.0, 36.0, 2.0)]


def test_a_panorama_is_seen_in_windows(tmp_path):
    """A 10:1 strip is cut into overlapping windows, so the constant model finds its box once in each of them."""
    model = write_model(tmp_path / "m.onnx", v8([(32, 32, 8, 8, 0, 0.9)], 3))
    found = OnnxDetector(str(model), CLASSES).detect(picture(64, 640), 0.25)
    assert len(found) == 5


@pytest.mark.parametrize(
    ("sidecar", "text"),
    [(".txt", "face\nplate\nperson\n"), (".yaml", "names: [face, plate, person]"), (".yml", "[face, plate, person]"),
     (".yaml", "names: {0: face, 1: plate, 2: person}"), (None, "{0: 'face', 1: 'plate', 2: 'person'}")],
)  # fmt: skip
def test_class_names_from_a_file_beside_the_model_or_its_metadata(tmp_path, sidecar, text):
    """The class list is found beside the model, or in the metadata that Ultralytics writes."""
    path = write_model(tmp_path / "m.onnx", v8(BOXES, 3), names=text if sidecar is None else None)
    if sidecar:
        path.with_suffix(sidecar).write_text(text)
    detector = resolve(f"onnx:{path}")
    assert detector.info.classes == CLASSES
    assert len(detector.detect(picture(64, 64), 0.25)) == 2


@pytest.mark.parametrize(
    "text", ["", "face\nFace\n", "\xff\xfe"], ids=["empty", "twice", "not text"]
)  # fmt: skip
def test_a_wrong_class_list_is_refused(tmp_path, text):
    """An empty, ambiguous or unreadable class list is an error, not a guess."""
    path = write_model(tmp_path / "m.onnx", v8(BOXES, 2))
    path.with_suffix(".txt").write_text(text, "latin-1")
    with pytest.raises(ConfigurationError, match="class list"):
        _ = OnnxDetector(str(path)).info


def test_no_class_list_is_an_error(tmp_path):
    """A model whose classes nobody names cannot be checked against a policy."""
    with pytest.raises(ConfigurationError, match="classes are not known"):
        _ = OnnxDetector(str(write_model(tmp_path / "m.onnx", v8(BOXES, 3)))).info


def broken(kind):
    """An output that no sound export of this model gives."""
    answer = v8(BOXES, 3)
    if kind == "logits":
        answer[0, 4:] = -4.0
    if kind == "normalised":
        answer[0, :4] /= 64
    if kind == "too many classes":
        answer = v8(BOXES, 9)
    if kind == "class id":
        answer = end2end([(32, 32, 8, 8, 7, 0.9)])
    if kind == "flat":
        answer = answer[0]
    return answer


@pytest.mark.parametrize("kind", ["logits", "normalised", "too many classes", "class id", "flat"])
def test_an_answer_that_cannot_be_from_this_model_fails_the_detector(tmp_path, kind):
    """Logits, fractions, foreign class ids and unknown layouts would read as "nothing found"; they raise instead."""
    detector = OnnxDetector(str(write_model(tmp_path / "m.onnx", broken(kind))), CLASSES)
    with pytest.raises(DetectorError):
        detector.detect(picture(64, 64), 0.25)


@pytest.mark.parametrize(
    ("value", "place"), [(np.nan, 0), (np.inf, 4), (np.nan, 5), (-3.0, 2)], ids=["nan box", "inf", "nan score", "empty"]
)
def test_broken_numbers_refuse_the_image(tmp_path, value, place):
    """NaN, infinity and boxes of negative size quarantine the image, they never read as "nothing found"."""
    answer = v8(BOXES, 3)
    answer[0, place, 0] = value
    detector = OnnxDetector(str(write_model(tmp_path / "m.onnx", answer)), CLASSES)
    with pytest.raises(ImageError) as refused:
        detector.detect(picture(64, 64), 0.25)
    assert refused.value.reason is Reason.DETECTOR_REFUSED


def test_one_class_models_say_which_layout_they_have(tmp_path):
    """(1, n, 6) of a one-class model could be v5 or end-to-end: it is asked for, and either reading works."""
    path = str(write_model(tmp_path / "m.onnx", end2end([(32, 32, 16, 8, 0, 0.75)])))
    with pytest.raises(ConfigurationError, match="v5 or end2end"):
        OnnxDetector(path, ["face"]).detect(picture(64, 64), 0.25)
    found = OnnxDetector(path, ["face"], layout="end2end").detect(picture(64, 64), 0.25)
    assert [d.xyxy for d in found] == [(24.0, 28.0, 40.0, 36.0)]


@pytest.mark.parametrize(
    "change",
    [{"n_outputs": 2}, {"input_shape": [2, 3, 64, 64]}, {"input_shape": [1, 1, 64, 64]}, {"input_shape": [1, 3, 64]},
     {"dtype": np.float64}],
)  # fmt: skip
def test_models_that_are_no_detection_models_are_refused(tmp_path, change):
    """Masks, batches, gray input and odd types are named as what they are."""
    path = write_model(tmp_path / "m.onnx", v8(BOXES, 3), **change)
    with pytest.raises(DetectorError):
        OnnxDetector(str(path), CLASSES).detect(picture(64, 64), 0.25)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not a model", b"\x08\x08"])
def test_a_file_that_is_no_model_is_refused(tmp_path, data):
    """An empty or foreign file is a DetectorError as soon as its identity is asked for."""
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(DetectorError, match="not an ONNX model"):
        _ = OnnxDetector(str(tmp_path / "m.onnx"), CLASSES).info


def test_a_missing_model_names_no_path(tmp_path):
    """A worker without the file says so, without quoting the path."""
    with pytest.raises(ConfigurationError, match="does not exist on this worker") as error:
        _ = OnnxDetector(str(tmp_path / "gone.onnx"), CLASSES).info
    assert "gone" not in str(error.value)


def test_a_model_that_changes_under_way_is_refused(tmp_path):
    """The bytes that run are the bytes whose sha256 the audit records."""
    path = write_model(tmp_path / "m.onnx", v8(BOXES, 3, n=17))  # weights that no session holds yet
    detector = OnnxDetector(str(path), CLASSES)
    assert detector.info.model_id == "m"
    write_model(path, v8(BOXES[:1], 3, n=13))
    with pytest.raises(DetectorError, match="changed"):
        detector.detect(picture(64, 64), 0.25)


def test_input_size_is_for_models_that_leave_it_open(tmp_path):
    """A dynamic model takes the size that is asked for; a fixed one refuses another."""
    free = write_model(tmp_path / "free.onnx", v8(BOXES, 3), input_shape=[1, 3, "h", "w"])
    found = OnnxDetector(str(free), CLASSES, input_size=128).detect(picture(128, 128), 0.25)
    assert found[0].xyxy == (16.0, 26.0, 24.0, 34.0)
    fixed = write_model(tmp_path / "fixed.onnx", v8(BOXES, 3))
    with pytest.raises(ConfigurationError, match="takes 64 only"):
        OnnxDetector(str(fixed), CLASSES, input_size=128).detect(picture(64, 64), 0.25)


def test_the_fingerprint_follows_everything_that_changes_answers(tmp_path):
    """Weights, class list, input size and layout each change the recipe; reading it twice does not."""
    a = str(write_model(tmp_path / "a.onnx", v8(BOXES, 3)))
    b = str(write_model(tmp_path / "b.onnx", v8(BOXES, 3, n=13)))
    variants = [
        OnnxDetector(a, CLASSES), OnnxDetector(b, CLASSES), OnnxDetector(a, CLASSES[::-1]),
        OnnxDetector(a, CLASSES, input_size=64), OnnxDetector(a, CLASSES, layout="v8"),
    ]  # fmt: skip
    assert len({detector.info.fingerprint for detector in variants}) == 5
    assert OnnxDetector(a, CLASSES).info == variants[0].info


def test_its_own_canary(tmp_path):
    """A configured canary passes when the class is found, fails when it is not, and must name a class of the model."""
    import cv2

    image = tmp_path / "plate.png"
    image.write_bytes(cv2.imencode(".png", picture(64, 64))[1].tobytes())
    path = str(write_model(tmp_path / "m.onnx", v8(BOXES, 3)))
    spec = {"kind": "onnx", "path": path, "classes": list(CLASSES)}
    check_canary(resolve({**spec, "canary": {"picture": str(image), "class_name": "plate"}}))
    with pytest.raises(DetectorError, match="missed its canary"):
        check_canary(resolve({**spec, "canary": {"picture": str(image), "class_name": "person"}}))
    with pytest.raises(ConfigurationError, match="cannot emit"):
        check_canary(resolve({**spec, "canary": {"picture": str(image), "class_name": "dog"}}))
    image.write_bytes(b"no picture")
    with pytest.raises(ConfigurationError, match="cannot be decoded"):
        check_canary(resolve({**spec, "canary": {"picture": str(image), "class_name": "plate"}}))
