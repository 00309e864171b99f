"""The Roboflow detector as a whole: what is sent, what comes back, floors, threads, counters, the contract."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from tiny_server import Answer, TinyServer, box, predictions, sleeper

from airflow_facefog.core.detector import Detections, used_floor
from airflow_facefog.core.errors import ConfigurationError, DetectorError, ImageError
from airflow_facefog.core.records import Reason
from airflow_facefog.detectors.canary import bundled, check_canary
from airflow_facefog.detectors.local import LocalDetector
from airflow_facefog.detectors.roboflow import http
from airflow_facefog.detectors.roboflow.access import Access, Secret
from airflow_facefog.detectors.roboflow.detector import RoboflowDetector
from airflow_facefog.detectors.roboflow.http import billed
from airflow_facefog.detectors.union import UnionDetector
from airflow_facefog.testing import DetectorContract

PICTURE = np.full((40, 60, 3), 90, np.uint8)


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """No waiting between tries."""
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.0)


def make(server, model="faces/3", *, access=None, **settings):
    """A detector on this server, as fast as it goes."""
    return RoboflowDetector(model, Access(Secret("k"), server.url, rate_per_s=1e5, **(access or {})), **settings)


def find_marker(asked):
    """Finds pure magenta as a model would a face: boxes at half-way edges, as fractions of what it was sent."""
    blue, green, red = (asked.picture[:, :, channel].astype(int) for channel in range(3))
    rows, columns = np.nonzero((red > 191) & (blue > 191) & (green < 64))
    if not rows.size:
        return predictions(asked)
    x1, x2, y1, y2 = int(columns.min()), int(columns.max()) + 1, int(rows.min()), int(rows.max()) + 1
    return predictions(asked, [box((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)])


def yunet(asked):
    """The embedded model behind the wire: real predictions of what the JPEG shows, from confidence 10 % up."""
    found = LocalDetector().detect(asked.picture, int(asked.params["confidence"]) / 100)
    edges = [(d.confidence, *d.xyxy) for d in found]
    return predictions(
        asked, [box((a + c) / 2, (b + d) / 2, c - a, d - b, confidence) for confidence, a, b, c, d in edges]
    )


class TestContract(DetectorContract):
    """What every detector must hold, over the wire."""

    @pytest.fixture
    def detector(self):
        """Eight threads and a real model on the other side."""
        with TinyServer(yunet, keep=False).run() as server:
            yield make(server, classes=["face"])


def test_the_request_on_the_wire():
    """Route, parameters, one JPEG part, no name of a file, no metadata, true colours."""
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[:, :150], pixels[:, 150:] = (200, 60, 20), (20, 60, 200)
    with TinyServer(predictions).run() as server:
        make(server, "ours/faces/3", overlap=0.45, max_detections=500).detect(pixels, 0.25)
        (asked,) = server.asked
    assert asked.path == "/faces/3"
    assert asked.params == {"confidence": "10", "overlap": "45", "max_detections": "500", "format": "json",
                            "disable_active_learning": "true", "disable_preproc_static_crop": "true"}  # fmt: skip
    assert b'filename="image.jpg"' in asked.body
    assert asked.picture.shape == (200, 300, 3)
    assert np.abs(asked.picture[100, 30].astype(int) - (200, 60, 20)).max() <= 4
    assert np.abs(asked.picture[100, 270].astype(int) - (20, 60, 200)).max() <= 4
    assert not any(marker in asked.jpeg for marker in (b"Exif", b"http", b"ICC_PROFILE", b"Photoshop", b"\xff\xfe"))
    assert np.array_equal(cv2.imdecode(np.frombuffer(asked.jpeg, np.uint8), cv2.IMREAD_UNCHANGED), asked.picture)


@pytest.mark.parametrize(
    ("floor", "asked"), [(0.5, "10"), (0.1, "10"), (0.07, "7"), (0.075, "7"), (0.004, "1"), (0.0, "1")]
)
def test_never_more_is_asked_than_the_callers_floor(floor, asked):
    """.10 by default, the caller's floor when that is lower, never under one percent; filtered here again."""
    found = [box(confidence=confidence) for confidence in (0.9, 0.3, 0.08, 0.009)]
    with TinyServer(lambda asked: predictions(asked, found)).run() as server:
        answer = make(server).detect(PICTURE, floor)
        assert server.asked[0].params["confidence"] == asked
    assert [d.confidence for d in answer] == [c for c in (0.9, 0.3, 0.08, 0.009) if c >= max(floor, 0.01)]
    assert used_floor(answer) is None


@pytest.mark.parametrize(("count", "limit"), [(1000, 1000), (1200, 1000), (300, 1000), (5, 5)])
@pytest.mark.parametrize(("floor", "used"), [(0.10, 0.20), (0.2, None), (0.4, None)])
def test_a_full_answer_is_asked_once_more_higher_up(count, limit, floor, used):
    """The second answer counts, from the floor it was asked at; that floor is told when it is above the caller's."""

    def reply(asked):
        many = int(asked.params["confidence"]) <= 10
        return predictions(
            asked, [box(confidence=0.15)] * count if many else [box(confidence=0.9), box(confidence=0.3)]
        )

    with TinyServer(reply).run() as server:
        answer = make(server, max_detections=limit).detect(PICTURE, floor)
        assert [asked.params["confidence"] for asked in server.asked] == ["10", str(int(max(0.2, floor) * 100))]
    assert used_floor(answer) == used
    assert [d.confidence for d in answer] == [0.9, 0.3][: 1 + (floor <= 0.3)]


@pytest.mark.parametrize(("raise_to", "calls"), [(0.2, 2), (0.1, 1), (0.05, 1)])
def test_full_again_refuses_the_picture(raise_to, calls):
    """What was cut off would stay clear, so nothing is published; without a higher floor there is no second call."""
    with TinyServer(lambda asked: predictions(asked, [box()] * 10)).run() as server:
        with pytest.raises(ImageError) as caught:
            make(server, max_detections=10, raise_to=raise_to).detect(PICTURE, 0.1)
        assert server.count == calls
    assert caught.value.reason is Reason.TOO_MANY_DETECTIONS


def test_a_union_tells_the_highest_floor_of_its_members():
    """A list that is complete from .2 in one member is complete from .2 in all."""

    class Plain:
        info = LocalDetector().info

        def detect(self, pixels, floor):
            return []

    class Raised(Plain):
        def detect(self, pixels, floor):
            return Detections([], 0.3)

    assert used_floor(UnionDetector((Plain(), Raised(), Plain())).detect(PICTURE, 0.1)) == 0.3
    assert used_floor(UnionDetector((Plain(), Plain())).detect(PICTURE, 0.1)) is None


def test_24_megapixels_cost_4_megabytes_and_2_pixels():
    """A marker of known place in a noisy 6000 x 4000 picture: under 4 MB on the wire, back within 2 px."""
    gray = np.random.default_rng(7).integers(60, 196, (1000, 1500), np.uint8)
    pixels = cv2.cvtColor(cv2.resize(gray, (6000, 4000), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR)
    truth = (4011, 1503, 4390, 1747)
    pixels[truth[1] : truth[3], truth[0] : truth[2]] = (255, 0, 255)
    with TinyServer(find_marker).run() as server:
        (found,) = make(server).detect(pixels, 0.1)
        assert len(server.asked[0].body) < 4_000_000
    assert np.abs(np.subtract(found.xyxy, truth)).max() <= 2


def test_noise_is_shrunk_until_it_fits():
    """The worst picture for a JPEG stays under the limit, at full quality and smaller size."""
    noise = np.random.default_rng(3).integers(0, 256, (2400, 2400, 3), np.uint8)
    with TinyServer(predictions).run() as server:
        make(server, max_side=2400).detect(noise, 0.1)
        (asked,) = server.asked
    assert len(asked.jpeg) <= 3_900_000
    assert 1000 < asked.picture.shape[0] < 2400


@pytest.mark.parametrize(
    ("shape", "sent"),
    [
        ((1, 1, 3), [(32, 32)]),
        ((1, 30000, 3), [(100, 1600)]),
        ((30000, 1, 3), [(1600, 100)]),
        ((31, 4000, 3), [(100, 1600)]),
        ((64, 64, 3), [(64, 64)]),
        ((2000, 4000, 3), [(800, 1600)]),
        ((500, 4000, 3), [(500, 1500), (500, 1500), (500, 1500), (500, 1000)]),
        ((4000, 500, 3), [(1500, 500), (1500, 500), (1500, 500), (1000, 500)]),
    ],
)
def test_extreme_shapes(shape, sent):
    """One pixel is padded, threads of pixels too, and panoramas go in overlapping parts that keep faces large."""
    with TinyServer(predictions).run() as server:
        assert make(server).detect(np.zeros(shape, np.uint8), 0.1) == ()
        assert [asked.picture.shape[:2] for asked in server.asked] == sent


def test_a_face_in_a_panorama_comes_back_where_it_is():
    """Found in one or two overlapping windows, always at its own place."""
    pixels = np.full((600, 6000, 3), 90, np.uint8)
    pixels[200:300, 3950:4070] = (255, 0, 255)
    with TinyServer(find_marker).run() as server:
        found = make(server).detect(pixels, 0.1)
        assert server.count > 1
    whole = [d for d in found if d.xyxy[2] - d.xyxy[0] > 100]
    assert whole
    assert all(np.abs(np.subtract(d.xyxy, (3950, 200, 4070, 300))).max() <= 2 for d in whole)


def test_eight_requests_are_under_way_at_once():
    """With concurrency 8 the server sees 8 at a time, and never more, from 16 threads."""
    gate = threading.Barrier(8, timeout=20)

    def reply(asked):
        gate.wait()
        time.sleep(0.01)
        return {"image": {"width": 60, "height": 40}, "predictions": []}

    with TinyServer(reply, keep=False).run() as server:
        detector = make(server)
        with ThreadPoolExecutor(16) as pool:
            assert all(answer == () for answer in pool.map(lambda _: detector.detect(PICTURE, 0.1), range(32)))
        assert server.most_running == 8


def test_two_thousand_concurrent_calls_each_get_their_own_answer():
    """Two detectors with other models and floors, mixed sizes, 16 threads: no answer or parameter is another call's."""

    def reply(asked):
        height, width = asked.picture.shape[:2]
        if (int(asked.params["confidence"]), asked.path) not in [(10, "/faces/3"), (5, "/plates/7")]:
            return Answer({"message": f"mixed up: {asked.raw_path}"}, 400)
        kind = asked.path.strip("/")
        return predictions(asked, [box(width / 2, height / 2, 4, 4, width / 1000, **{"class": kind})])

    with TinyServer(reply, keep=False).run() as server:
        models = {"faces/3": (make(server), 0.10), "plates/7": (make(server, "plates/7"), 0.05)}

        def call(number):
            model = ("faces/3", "plates/7")[number % 2]
            detector, floor = models[model]
            width = 200 + number % 100
            (found,) = detector.detect(np.zeros((30, width, 3), np.uint8), floor)
            return (found.class_name, found.confidence) == (model, width / 1000)

        with ThreadPoolExecutor(16) as pool:
            wrong = [number for number, right in enumerate(pool.map(call, range(2000))) if not right]
        calls = [detector.egress()["127.0.0.1"]["calls"] for detector, _ in models.values()]
    assert wrong == []
    assert calls == [1000, 1000]


def test_egress_counts_what_left():
    """Calls, body bytes and credits, of failed requests too, as plain JSON; a copy that the caller may change."""
    replies = iter([Answer(b"", 503, {"Retry-After": "0"})])

    def reply(asked):
        return next(replies, None) or Answer(predictions(asked), headers={"x-processing-time": "0.5"})

    with TinyServer(reply).run() as server:
        detector = make(server)
        assert detector.egress() == {}
        detector.detect(PICTURE, 0.1)
        sent = detector.egress()
        assert sent["127.0.0.1"]["calls"] == 2
        assert sent["127.0.0.1"]["bytes"] == sum(len(asked.body) for asked in server.asked)
        assert sent["127.0.0.1"]["credits"] == pytest.approx(0.5 / 500)
    assert json.loads(json.dumps(sent)) == sent
    sent["127.0.0.1"]["calls"] = 0
    assert detector.egress()["127.0.0.1"]["calls"] == 2


@pytest.mark.parametrize(
    ("header", "credits"),
    [("0.5", 0.001), ("0.01", 0.0002), ("0", 0.0002), ("", 0), ("fast", 0), ("nan", 0), ("-1", 0), ("inf", 0)],
)
def test_credits_follow_the_price_list(header, credits):
    """max(x-processing-time, 0.1 s) / 500 s; nonsense counts nothing rather than spoiling the sum."""
    assert billed({"x-processing-time": header}) == pytest.approx(credits)
    assert billed({}) == 0


def test_memory_stays_flat():
    """Sixty pictures of 60 kB each leave none of themselves behind, answered or refused."""
    pixels = np.random.default_rng(2).integers(0, 256, (150, 200, 3), np.uint8)
    replies = itertools.cycle([predictions, lambda asked: {"predictions": []}])
    with TinyServer(lambda asked: next(replies)(asked), keep=False).run() as server:
        detector = make(server)

        def ask_often(times):
            for _ in range(times):
                with contextlib.suppress(ImageError):
                    detector.detect(pixels, 0.1)
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            before = ask_often(10)
            assert ask_often(60) - before < 500_000
        finally:
            tracemalloc.stop()


def test_connections_are_reused_and_closed():
    """One thread needs one connection; after ``close`` the next picture opens a new one."""
    ports = set()

    class Spy(TinyServer):
        def _serve(self, handler, keep):
            ports.add(handler.client_address)
            super()._serve(handler, keep)

    with Spy(predictions).run() as server:
        detector = make(server)
        for _ in range(5):
            detector.detect(PICTURE, 0.1)
        assert len(ports) == 1
        detector.close()
        detector.detect(PICTURE, 0.1)
        assert len(ports) == 2


def test_a_hang_up_between_pictures_is_no_error():
    """Servers drop idle connections: the next picture is sent on a new one."""
    with TinyServer(lambda asked: Answer(predictions(asked), cut=10**9)).run() as server:
        detector = make(server)
        for _ in range(3):
            assert detector.detect(PICTURE, 0.1) == ()
        assert server.count == 3


def test_the_canary_over_the_wire(tmp_path):
    """A configured canary must be found; a model that misses it, or cannot emit its class, fails the attempt."""
    picture = tmp_path / "canary.png"
    cv2.imwrite(str(picture), bundled().picture)
    canary = {"picture": str(picture), "class_name": "face", "min_confidence": 0.5}
    with TinyServer(yunet).run() as server:
        check_canary(make(server, canary=canary))
        assert server.count == 1
        with pytest.raises(ConfigurationError, match="plate"):
            check_canary(make(server, canary=canary, classes=["plate"]))
    with TinyServer(predictions).run() as server, pytest.raises(DetectorError, match="missed its canary"):
        check_canary(make(server, canary=canary))


@pytest.mark.parametrize(
    ("second", "fine"),
    [
        ([box(confidence=0.9)], True),
        ([box(20.2, 20, confidence=0.87)], True),
        ([box(confidence=0.9), box(50, 50, confidence=0.12)], True),
        ([box(confidence=0.9), box(50, 50, confidence=0.6)], False),
        ([box(30, 20, confidence=0.9)], False),
        ([box(confidence=0.9, **{"class": "hat"})], False),
        ([], False),
    ],
)
def test_without_a_canary_two_looks_must_agree(second, fine):
    """Servers with several kinds of hardware may differ in digits and in the weakest boxes, not in what they see."""
    replies = itertools.cycle([[box(confidence=0.9)], second])
    with TinyServer(lambda asked: predictions(asked, next(replies))).run() as server:
        if fine:
            check_canary(make(server))
        else:
            with pytest.raises(DetectorError, match="two answers"):
                check_canary(make(server))
        assert server.count == 2


def test_the_wrong_pixels_are_a_callers_bug():
    """Gray or float arrays are refused before anything is sent."""
    with TinyServer(sleeper(0)).run() as server:
        for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
            with pytest.raises(DetectorError, match="BGR"):
                make(server).detect(wrong, 0.1)
        assert server.count == 0
