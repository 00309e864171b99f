"""Our inference path against the stand-in server: real predictions, the whole contract, and each bad day it can have."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from standin import GOOD_KEY, MARKER_BGR, StandIn

from airflow_facefog.core.errors import ConfigurationError, DetectorError, FogError, ImageError, TransientError
from airflow_facefog.core.records import Reason
from airflow_facefog.detectors.canary import bundled, check_canary
from airflow_facefog.detectors.roboflow import http
from airflow_facefog.detectors.roboflow.access import Access, Secret
from airflow_facefog.detectors.roboflow.detector import RoboflowDetector
from airflow_facefog.detectors.roboflow.pace import forget_paces
from airflow_facefog.testing import DetectorContract

FLAT = np.full((150, 200, 3), 120, np.uint8)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between tries; what another test did to the server is forgotten."""
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.0)
    forget_paces()


def make(standin: StandIn, model: str, key: str = GOOD_KEY, **settings: Any) -> RoboflowDetector:
    """A detector on the stand-in."""
    return RoboflowDetector(model, Access(Secret(key), standin.url, rate_per_s=1e5, timeout_s=2.0), **settings)


@pytest.fixture(params=["faces/1", "ours/faces/2"])
def detector(standin: StandIn, request: pytest.FixtureRequest) -> RoboflowDetector:
    """Faces behind "Stretch to", and without."""
    return make(standin, request.param, classes=["face"])


class TestContract(DetectorContract):
    """What every detector must hold."""


def painted(width: int, height: int, **markers: tuple[int, int, int, int]) -> Any:
    """A gray picture with markers at known places."""
    gray = np.random.default_rng(5).integers(90, 160, (height // 4, width // 4), np.uint8)
    picture = cv2.cvtColor(cv2.resize(gray, (width, height), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR)
    for name, (x1, y1, x2, y2) in markers.items():
        picture[y1:y2, x1:x2] = MARKER_BGR[name]
    return picture


@pytest.mark.parametrize("model", ["markers/1", "markers/2"])
@pytest.mark.parametrize("size", [(200, 150), (639, 641), (1600, 900), (1601, 1599), (2500, 1000)])
def test_boxes_come_back_where_they_are(standin: StandIn, model: str, size: tuple[int, int]) -> None:
    """Smaller and larger than "Stretch to", any shape: within a pixel of what the server saw, with true colours."""
    width, height = size
    truth = (width // 3, height // 4, width // 3 + width // 5, height // 4 + height // 3)
    (found,) = make(standin, model).detect(painted(width, height, red=truth), 0.1)
    assert found.class_name == "license_plate"
    per_pixel = max(width, height) / min(640 if model == "markers/2" else 1600, max(width, height))
    assert np.abs(np.subtract(found.xyxy, truth)).max() <= max(1, per_pixel) * 0.6 + 0.5


def test_24_megapixels_within_two_pixels(standin: StandIn) -> None:
    """Under 4 MB sent, back within 2 px, though the server rounds to whole pixels of what it got."""
    truth = (4011, 1503, 4390, 1747)
    detector = make(standin, "markers/1")
    (found,) = detector.detect(painted(6000, 4000, magenta=truth), 0.1)
    assert np.abs(np.subtract(found.xyxy, truth)).max() <= 2
    assert detector.egress()["127.0.0.1"]["bytes"] < 4_000_000


def test_its_own_canary_can_be_found(standin: StandIn, tmp_path: Any) -> None:
    """The bundled portrait's face, through JPEG and wire, is there twice in the same way."""
    check_canary(make(standin, "faces/2"))
    cv2.imwrite(str(tmp_path / "c.png"), bundled().picture)
    check_canary(
        make(standin, "faces/2", canary={"picture": tmp_path / "c.png", "class_name": "face", "min_confidence": 0.5})
    )


@pytest.mark.parametrize(
    ("key", "error", "named"),
    [
        ("wr0ng-key", ConfigurationError, "401"),
        ("", ConfigurationError, "401"),
        ("standin-no-credits-key-0123456", ConfigurationError, "402.*credits"),
        ("standin-forbidden-key-012345678", ConfigurationError, "403"),
        ("standin-locked-key-0123456789", ConfigurationError, "423"),
    ],
)
def test_keys_that_do_not_work(standin: StandIn, key: str, error: type[FogError], named: str) -> None:
    """Each is told apart, after one request, and not quoted."""
    with pytest.raises(error, match=named) as caught:
        make(standin, "faces/2", key).detect(bundled().picture, 0.1)
    assert len(standin.requests()) == 1
    assert not key or key not in str(caught.value)


REFUSED = Reason.DETECTOR_REFUSED
FULL = Reason.TOO_MANY_DETECTIONS
LIES: dict[str, tuple[str, dict[str, Any], Reason]] = {
    "turned": ("wrong_size", {"width": 150, "height": 200}, REFUSED),
    "no list": ("drop", {}, REFUSED),
    "no size": ("drop", {"key": "image"}, REFUSED),
    "NaN": ("edit", {"fields": {"x": math.nan}}, REFUSED),
    "infinite": ("edit", {"fields": {"width": math.inf}}, REFUSED),
    "negative": ("edit", {"fields": {"height": -4}}, REFUSED),
    "unknown class": ("edit", {"fields": {"class": "Zebra"}}, REFUSED),
    "confidence 90": ("edit", {"fields": {"confidence": 90}}, REFUSED),
    "another body": ("body", {"body": {"ok": True}}, REFUSED),
    "flood": ("flood", {"n_bytes": 20_000_000}, REFUSED),
    "300 boxes": ("boxes", {"n": 300}, FULL),
    "10000 boxes": ("boxes", {"n": 10_000, "beyond": True}, FULL),
}


@pytest.mark.parametrize(("fault", "params", "reason"), LIES.values(), ids=LIES)
def test_lies_quarantine_the_picture(standin: StandIn, fault: str, params: dict[str, Any], reason: Reason) -> None:
    """One picture is refused, and the next one is answered as if nothing had been."""
    detector = make(standin, "faces/2", classes=["face"])
    line = standin.script("/faces/2", fault, times=2 if reason is FULL else 1, **params)
    with pytest.raises(ImageError) as caught:
        detector.detect(FLAT, 0.1)
    assert caught.value.reason is reason
    assert line.hits == (2 if reason is FULL else 1)
    assert detector.detect(FLAT, 0.1) == ()


def test_299_boxes_are_an_answer(standin: StandIn) -> None:
    """One fewer than the server's cap is a whole list."""
    standin.script("/faces/2", "boxes", n=299)
    assert len(make(standin, "faces/2").detect(FLAT, 0.1)) == 299


@pytest.mark.parametrize(
    ("fault", "params"),
    [
        ("status", {"status": 503}),
        ("status", {"status": 429, "retry_after": 0}),
        ("html", {}),
        ("html", {"status": 200}),
        ("truncate", {}),
        ("truncate", {"lie": True}),
        ("reset", {"when": "before"}),
        ("reset", {"when": "middle"}),
        ("reset", {"when": "upload"}),
    ],
)
def test_a_flapping_server_is_asked_again(standin: StandIn, fault: str, params: dict[str, Any]) -> None:
    """Two bad answers and a good one are a good one; bad without end is transient."""
    detector = make(standin, "faces/2")
    expected = detector.detect(bundled().picture, 0.1)
    assert expected
    line = standin.script("/faces/2", fault, times=2, **params)
    assert detector.detect(bundled().picture, 0.1) == expected
    assert line.hits == 3
    standin.script("/faces/2", fault, times=None, **params)
    with pytest.raises(TransientError):
        detector.detect(bundled().picture, 0.1)


@pytest.mark.parametrize("skew_s", [-86_400.0, 0.0, 86_400.0])
def test_a_wrong_clock_does_not_change_the_wait(standin: StandIn, skew_s: float) -> None:
    """A Retry-After date by a server whose clock is a day off still means the ten minutes that it meant."""
    standin.clock_skew_s = skew_s
    standin.script("/faces/2", "status", status=503, retry_after=600, as_date=True)
    with pytest.raises(TransientError) as caught:
        make(standin, "faces/2").detect(FLAT, 0.1)
    assert caught.value.retry_after_s == pytest.approx(600, abs=2)


def test_a_retired_model_stops_the_run(standin: StandIn) -> None:
    """It answered before and is gone: permanent, with what to check."""
    detector = make(standin, "faces/2")
    detector.detect(FLAT, 0.1)
    standin.world.models["faces/2"].retired = True
    with pytest.raises(ConfigurationError, match=r"404.*retired"):
        detector.detect(FLAT, 0.1)


def test_a_small_limit_is_met_with_a_smaller_picture(standin: StandIn) -> None:
    """413 at 60 kB: half the size passes; at 1 kB nothing does."""
    noise = np.random.default_rng(4).integers(0, 256, (300, 400, 3), np.uint8)
    standin.sleep_s = 0.0
    standin.world.byte_limit = 60_000
    assert make(standin, "faces/2").detect(noise, 0.1) == ()
    assert [r.status for r in standin.requests()] == [413, 200]
    standin.world.byte_limit = 1000
    with pytest.raises(DetectorError, match="413"):
        make(standin, "faces/2").detect(noise, 0.1)


def test_old_servers_read_the_key_in_the_query_only(standin: StandIn) -> None:
    """Before 1.5 a Bearer header is not read: the error is a wrong key, ``auth="query"`` works."""
    standin.world.header_auth = False
    with pytest.raises(ConfigurationError, match="401"):
        make(standin, "faces/2").detect(FLAT, 0.1)
    access = Access(Secret(GOOD_KEY), standin.url, auth="query")
    assert RoboflowDetector("faces/2", access).detect(FLAT, 0.1) == ()
