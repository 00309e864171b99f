"""Union, scripted answers and the canary: one member that fails fails all, and a miss is never shrugged off."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_onnx import v8, write_model

from airflow_facefog.core.detector import DetectorInfo
from airflow_facefog.core.errors import ConfigurationError, DetectorError, ImageError, PolicyError, TransientError
from airflow_facefog.core.policy import FogPolicy
from airflow_facefog.core.records import Detection
from airflow_facefog.detectors import resolve
from airflow_facefog.detectors.canary import bundled, check_canary
from airflow_facefog.detectors.local import LocalDetector
from airflow_facefog.detectors.scripted import ScriptedDetector, pixels_sha256
from airflow_facefog.detectors.union import UnionDetector
from airflow_facefog.job.recipe import check_canaries
from airflow_facefog.testing import DetectorContract

FACE = {"xyxy": [1, 2, 11.5, 22], "confidence": 0.9, "class_name": "face"}
PLATE = {"xyxy": [3, 4, 8, 9], "confidence": 0.2, "class_name": "plate", "class_id": 1}


def picture(height=30, width=40, value=7):
    """A flat picture (height, width, 3)."""
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def script(tmp_path):
    """Write a script and give its detector."""

    def make(**content):
        path = tmp_path / f"script{len(list(tmp_path.iterdir()))}.json"
        path.write_text(json.dumps(content))
        return ScriptedDetector(str(path))

    return make


class Mine:
    """A user's detector without a canary; answers ``answers`` in turn."""

    def __init__(self, *answers, classes=("dog",), host=None):
        self.answers = list(answers)
        self.info = DetectorInfo("mine", "m", "1", "0" * 64, "f" * 64, classes, host)

    def detect(self, pixels, floor):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class TestUnionContract(DetectorContract):
    @pytest.fixture
    def detector(self, tmp_path):
        model = write_model(tmp_path / "m.onnx", v8([(32, 32, 8, 8, 0, 0.6)], 1))
        return resolve(["local", {"kind": "onnx", "path": str(model), "classes": ["plate"]}])


class TestScriptedContract(DetectorContract):
    @pytest.fixture
    def detector(self, script):
        return script(classes=["face"], images={"48x64": [FACE]}, default=[])


def test_a_script_answers_by_pixels_then_size_then_default(script):
    """The most exact key wins; polygons and class ids come through."""
    polygon = {**PLATE, "polygon": [[3, 4], [8, 4], [8, 9]]}
    images = {"40x30": [FACE], f"sha256:{pixels_sha256(picture(value=8))}": [polygon]}
    detector = script(images=images, default=[])
    face = Detection((1.0, 2.0, 11.5, 22.0), 0.9, "face", 0, None, "scripted")
    plate = Detection((3.0, 4.0, 8.0, 9.0), 0.2, "plate", 1, ((3.0, 4.0), (8.0, 4.0), (8.0, 9.0)), "scripted")
    assert detector.detect(picture(), 0.1) == [face]
    assert detector.detect(picture(value=8), 0.1) == [plate]
    assert detector.detect(picture(value=8), 0.25) == []
    assert detector.detect(picture(5, 5), 0.1) == []


def test_a_script_without_an_answer_refuses(script):
    """An image that nobody scripted is refused, not clear."""
    with pytest.raises(ImageError, match="40x30"):
        script(images={}).detect(picture(), 0.1)


@pytest.mark.parametrize(
    ("kind", "error"), [("image", ImageError), ("transient", TransientError), ("permanent", DetectorError)]
)
def test_a_script_rehearses_faults(script, kind, error):
    """Each kind of fault can be scripted."""
    with pytest.raises(error):
        script(default={"error": kind}).detect(picture(), 0.1)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"image": {}}', '{"default": [{"xyxy": [1, 2]}]}', '{"default": [3]}',
             '{"images": {"1x1": [{"xyxy": [5, 5, 1, 1], "confidence": 1, "class_name": "face"}]}}'],
)  # fmt: skip
def test_wrong_scripts_are_refused(tmp_path, text):
    """A script that is not JSON, has foreign keys or broken boxes is a ConfigurationError at once."""
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ConfigurationError, match="script"):
        ScriptedDetector(str(tmp_path / "s.json"))


def test_union_concatenates_and_names(script):
    """All members answer, in order, each detection under its member's own name."""
    local = LocalDetector()
    union = UnionDetector((local, script(default=[PLATE])))
    found = union.detect(np.ascontiguousarray(bundled().picture[:, ::-1]), 0.1)
    assert [d.detector for d in found].count("scripted") == 1
    assert {d.detector for d in found} == {"local", "scripted"}


def test_union_info_joins_its_members(script):
    """Classes are united (unknown if one is unknown), order and members change the fingerprint, remote hosts show."""
    local, plates = LocalDetector(), script(classes=["plate", "face"], default=[])
    assert UnionDetector((local, plates)).info.classes == ("face", "plate")
    assert UnionDetector((local, script(default=[]))).info.classes is None
    fingerprints = {UnionDetector(m).info.fingerprint for m in ((local,), (local, plates), (plates, local))}
    assert len(fingerprints) == 3
    assert UnionDetector((local, Mine(host="a.example"))).info.remote_host == "a.example"
    assert UnionDetector((local, plates)).info.remote_host is None


def test_a_union_fails_with_its_members(script):
    """One member that refuses refuses the image for all: the others' answers are not enough."""
    union = UnionDetector((script(default=[FACE]), script(default={"error": "image"})))
    with pytest.raises(ImageError):
        union.detect(picture(), 0.1)


def test_a_union_of_none_is_refused():
    """Nobody looking is not the same as nothing found."""
    with pytest.raises(ConfigurationError, match="at least one"):
        UnionDetector(())


def test_the_embedded_detector_finds_the_canary():
    """The bundled portrait is found by the embedded model, at any sensible input size."""
    check_canary(LocalDetector())
    check_canary(LocalDetector(512, 640))


def test_a_blind_detector_misses_the_canary(monkeypatch):
    """A model that answers nothing, low scores, another class or another place fails the attempt."""
    face = Detection(bundled().xyxy, 0.9, "face")
    elsewhere = replace(face, xyxy=(80.0, 80.0, 120.0, 120.0))
    for answer in ([], [replace(face, confidence=0.3)], [replace(face, class_name="dog")], [elsewhere]):
        monkeypatch.setattr(LocalDetector, "detect", lambda self, pixels, floor, answer=answer: answer)
        with pytest.raises(DetectorError, match="missed its canary"):
            check_canary(LocalDetector())
    monkeypatch.setattr(LocalDetector, "detect", lambda self, pixels, floor: [elsewhere, face])
    check_canary(LocalDetector())


def test_a_script_can_miss_its_canary(script):
    """``"canary": false`` rehearses the fault, alone and as a union's second member."""
    check_canary(script(default=[]))
    blind = script(canary=False, default=[])
    for detector in (blind, UnionDetector((LocalDetector(), blind))):
        with pytest.raises(DetectorError, match="missed its canary"):
            check_canary(detector)


def test_a_detector_without_a_canary_must_agree_with_itself():
    """Two answers to one picture, or a refusal, fail; one answer twice passes; a transient fault stays transient."""
    dog = Detection((1.0, 2.0, 3.0, 4.0), 0.5, "dog")
    check_canary(Mine([dog], [dog]))
    with pytest.raises(DetectorError, match="two answers"):
        check_canary(Mine([dog], []))
    with pytest.raises(DetectorError, match="refused its canary"):
        check_canary(Mine([dog], ImageError("detector_refused", "no")))
    with pytest.raises(TransientError):
        check_canary(Mine(TransientError("busy")))


def test_a_plan_refuses_a_detector_without_a_canary(script):
    """Alone or within a union, unless the policy accepts it; the message names both ways out."""
    blind = Mine(classes=None)
    for detector in (blind, UnionDetector((LocalDetector(), blind))):
        with pytest.raises(PolicyError, match=r"'mine' has no canary.*\"canary\": .*`accept_no_canary: true`"):
            check_canaries(FogPolicy(), detector)
        check_canaries(FogPolicy(accept_no_canary=True), detector)
    check_canaries(FogPolicy(), UnionDetector((LocalDetector(), script(default=[]))))


def test_the_canary_picture_is_small_and_read_only():
    """It is bundled, 128 x 128, under 40 kB, and nobody can draw into it."""
    from importlib import resources

    data = resources.files("airflow_facefog.detectors").joinpath("canary.png").read_bytes()
    assert len(data) <= 40_000
    assert bundled().picture.shape == (128, 128, 3)
    assert not bundled().picture.flags.writeable
