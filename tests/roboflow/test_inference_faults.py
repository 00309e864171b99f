"""Every status, cut and delay: permanent or transient, said clearly, retried within bounds, and never "no faces"."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from tiny_server import Answer, TinyServer, box, predictions

from airflow_facefog.core.errors import ConfigurationError, DetectorError, ImageError, TransientError
from airflow_facefog.detectors.roboflow import http, pace
from airflow_facefog.detectors.roboflow.access import Access, Secret
from airflow_facefog.detectors.roboflow.detector import RoboflowDetector
from airflow_facefog.detectors.roboflow.faults import redact, retry_after_s
from airflow_facefog.detectors.roboflow.pace import BREAK_AFTER, COOL_S, Pace
from airflow_facefog.job import child

PICTURE = np.full((40, 60, 3), 90, np.uint8)
KEY = "rf_SECRETkey123"


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """No waiting between tries."""
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.0)


def make(server, **settings):
    """A detector on this server."""
    return RoboflowDetector("faces/3", Access(Secret(KEY), server.url, **{"rate_per_s": 1000.0, **settings}))


def ask(server, **settings):
    """One picture."""
    return make(server, **settings).detect(PICTURE, 0.1)


@pytest.mark.parametrize(
    ("status", "kind", "action"),
    [
        (400, DetectorError, "cannot read the request"),
        (401, ConfigurationError, "key is missing or wrong"),
        (402, ConfigurationError, "credits"),
        (403, ConfigurationError, "quota"),
        (404, ConfigurationError, "no such model version"),
        (405, ConfigurationError, "project/version"),
        (407, ConfigurationError, "proxy"),
        (409, DetectorError, "state"),
        (418, DetectorError, "not known"),
        (422, DetectorError, "parameters"),
        (423, ConfigurationError, "locked"),
        (501, ConfigurationError, "kind of model"),
    ],
)
def test_permanent_statuses_fail_at_once(status, kind, action):
    """One request, the right class, and what to do about it."""
    with TinyServer(lambda asked: Answer({"message": "because"}, status)).run() as server:
        with pytest.raises(kind, match=action) as caught:
            ask(server)
        assert server.count == 1
    assert f"answered {status}" in str(caught.value)
    assert "(it says: because)" in str(caught.value)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507, 520])
def test_transient_statuses_are_tried_again(status):
    """Two faults and an answer are an answer; faults without end are transient, after bounded tries."""
    replies = iter([Answer(b"<html>", status, {"Content-Type": "text/html"})] * 2)
    with TinyServer(lambda asked: next(replies, None) or predictions(asked, [box()])).run() as server:
        assert len(ask(server)) == 1
        assert server.count == 3
    with TinyServer(lambda asked: Answer(b"", status)).run() as server:
        with pytest.raises(TransientError, match=f"answered {status}") as caught:
            ask(server)
        assert server.count == http.TRIES
    assert type(caught.value) is TransientError


@pytest.mark.parametrize(
    "broken",
    [
        Answer(b"<html>login</html>", headers={"Content-Type": "text/html; charset=x"}),
        Answer(b""),
        Answer(b"", 204),
        Answer(b'{"predictions": ['),
        Answer(b"[" * 200_000),
        Answer(b"\xff\xfe"),
        Answer({"predictions": [], "image": {"width": 60, "height": 40}}, cut=20),
        Answer({"predictions": []}, headers={"Content-Length": "2000000"}, cut=10),
    ],
    ids=["html", "empty", "no content", "half JSON", "deep JSON", "not text", "cut", "half sent"],
)
def test_an_answer_that_is_none_is_tried_again(broken):
    """Pages of proxies and cut connections are faults of the way, not answers."""
    replies = iter([broken])
    with TinyServer(lambda asked: next(replies, None) or predictions(asked, [box()])).run() as server:
        assert len(ask(server)) == 1
        assert server.count == 2
    with TinyServer(lambda asked: broken).run() as server, pytest.raises(TransientError, match="Roboflow server"):
        ask(server)


def test_too_large_is_shrunk_once():
    """413 sends half the size; a server that still refuses gets a clear error and no third request."""

    def small_only(asked):
        return predictions(asked, [box()]) if len(asked.body) < 60_000 else Answer({"message": "too big"}, 413)

    noise = np.random.default_rng(1).integers(0, 256, (300, 400, 3), np.uint8)
    with TinyServer(small_only).run() as server:
        (found,) = make(server).detect(noise, 0.1)
        first, second = (asked.picture.shape for asked in server.asked)
        assert first == (300, 400, 3)
        assert max(second) <= 200
        factor = 400 / second[1]
        assert found.xyxy[2] == pytest.approx(25 * factor, abs=1 / 64)
    with TinyServer(lambda asked: Answer(b"", 413)).run() as server:
        with pytest.raises(DetectorError, match="max_side"):
            make(server).detect(noise, 0.1)
        assert server.count == 2


def test_a_longer_answer_than_is_read_refuses_the_picture(monkeypatch):
    """Memory is bounded, and a cut list is no list."""
    monkeypatch.setattr(http, "MAX_ANSWER", 1000)
    with TinyServer(lambda asked: predictions(asked, [box()] * 50)).run() as server:
        with pytest.raises(ImageError, match="longer than 1000 bytes"):
            ask(server)
        assert server.count == 1


def test_nobody_there_is_transient():
    """A refused connection is tried again, counts as nothing sent, and says which host."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    detector = RoboflowDetector("faces/3", Access(Secret(KEY), f"http://127.0.0.1:{port}"))
    with pytest.raises(TransientError, match=r"127\.0\.0\.1 failed \(ConnectError\)"):
        detector.detect(PICTURE, 0.1)
    assert detector.egress() == {}


@pytest.mark.parametrize("drip", [False, True], ids=["silent", "dripping"])
def test_a_slow_server_ends_at_the_deadline(drip, monkeypatch):
    """Whether it says nothing or a byte at a time: one request ends after ``timeout_s``, all tries after five times that."""
    release = threading.Event()

    def serve(listener):
        while not release.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=stall, args=(connection,), daemon=True).start()

    def stall(connection):
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" if drip else b"")
            while not release.wait(0.02):
                if drip:
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return

    monkeypatch.setattr(http, "TRIES", 2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        detector = RoboflowDetector("faces/3", Access(Secret(KEY), url, timeout_s=0.2))
        with pytest.raises(TransientError, match="in time"):
            detector.detect(PICTURE, 0.1)
        release.set()
    assert detector.egress()["127.0.0.1"]["calls"] == 2


class SlowServer:
    """Stands for ``time`` in the client: each request that the server gets takes ``seconds``."""

    def __init__(self, reply, seconds):
        self.reply = reply
        self.seconds = seconds
        self.taken = 0.0

    def monotonic(self):
        """The real clock and what the answers took."""
        return time.monotonic() + self.taken

    def sleep(self, seconds):
        """A wait takes no real time."""
        self.taken += seconds

    def __call__(self, asked):
        """The reply, later."""
        self.taken += self.seconds
        return self.reply(asked)


def full_below(asked):
    """A server of one box at most, whose list is full unless asked from higher up."""
    return predictions(asked, [box()] if asked.params["confidence"] == "10" else [])


def too_large(asked):
    """It refuses every size."""
    return Answer(b"", 413)


def failing(asked):
    """It never works."""
    return Answer(b"", 502)


@pytest.mark.parametrize(
    ("width", "reply", "seconds", "sent", "says"),
    [
        (1000, predictions, 100, 3, "too slow"),
        (1000, full_below, 50, 5, "too slow"),
        (60, full_below, 250, 1, "too slow"),
        (60, too_large, 250, 1, "too slow"),
        (60, failing, 100, 3, "answered 502"),
        (1000, failing, 100, 3, "answered 502"),
    ],
    ids=["windows", "windows asked twice", "asked twice", "halved", "tried again", "windows tried again"],
)
def test_all_requests_for_one_picture_share_one_deadline(width, reply, seconds, sent, says, monkeypatch):
    """However they come about, the last of them starts within 240 s; then the task is tried again, no picture is blamed."""
    slow = SlowServer(reply, seconds)
    monkeypatch.setattr(http, "time", slow)
    access = {"rate_per_s": 1000.0, "timeout_s": 100.0}
    with TinyServer(slow).run() as server:
        detector = RoboflowDetector("faces/3", Access(Secret(KEY), server.url, **access), max_detections=1)
        with pytest.raises(TransientError, match=says) as caught:
            detector.detect(np.full((40, width, 3), 90, np.uint8), 0.1)
        assert server.count == sent
    assert type(caught.value) is TransientError


@pytest.mark.parametrize(("width", "reply", "sent"), [(1000, predictions, 12), (1000, full_below, 24)])
def test_many_requests_within_the_deadline_are_an_answer(width, reply, sent, monkeypatch):
    """The next picture has the whole time again."""
    slow = SlowServer(reply, 200 / sent)
    monkeypatch.setattr(http, "time", slow)
    with TinyServer(slow).run() as server:
        detector = RoboflowDetector("faces/3", Access(Secret(KEY), server.url, rate_per_s=1000.0), max_detections=1)
        for _ in range(2):
            assert not detector.detect(np.full((40, width, 3), 90, np.uint8), 0.1)
        assert server.count == 2 * sent


def test_the_deadline_comes_before_the_childs():
    """A minute is left for the picture itself before the parent takes its process for hung."""
    assert http.BUDGET_S + 60 <= child.IMAGE_TIMEOUT_S


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "99999999"}, 3600.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Mon, 23 Nov 2026 10:00:30 GMT", "date": "Mon, 23 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2020 10:00:30 GMT", "date": "Mon, 23 Nov 2020 10:00:00 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 09:00:00 GMT", "date": "Mon, 23 Nov 2026 10:00:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 23 Nov 2299 10:00:30 GMT"}, 3600.0),
        ({"retry-after": "Mon, 99 Nov 2026 10:00:30 GMT"}, None),
    ],
)
def test_retry_after_in_seconds_and_dates(headers, seconds):
    """Dates are read against the server's own clock; nonsense is ignored; nothing waits for more than an hour."""
    assert retry_after_s(headers) == seconds


def test_a_date_without_the_servers_clock_is_read_against_ours():
    """Twenty seconds from now."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert 15 < retry_after_s({"retry-after": soon}) <= 20


def test_a_long_retry_after_is_left_to_the_tasks_retry():
    """Ten minutes are not waited for in the worker: one request, and the error carries the wait."""
    with TinyServer(lambda asked: Answer(b"", 503, {"Retry-After": "600"})).run() as server:
        with pytest.raises(TransientError) as caught:
            ask(server)
        assert server.count == 1
    assert caught.value.retry_after_s == 600


def test_one_429_slows_all_threads_down():
    """After one thread was told to wait, no other request of this process reaches the server until the time is over."""
    arrived, told = [], []

    def reply(asked):
        arrived.append(time.monotonic())
        if not told:
            told.append(time.monotonic())
            return Answer(b"", 429, {"Retry-After": "0.4"})
        return predictions(asked)

    with TinyServer(reply).run() as server:
        detector = make(server)
        with ThreadPoolExecutor(6) as pool:
            first = pool.submit(detector.detect, PICTURE, 0.1)
            while not told:
                time.sleep(0.001)
            time.sleep(0.05)
            rest = [pool.submit(detector.detect, PICTURE, 0.1) for _ in range(5)]
            assert all(future.result() == () for future in [first, *rest])
    assert len(arrived) == 7
    assert min(arrived[1:]) - told[0] >= 0.39


def test_other_threads_fail_fast_when_the_pause_is_long():
    """Who comes during a pause of minutes is not held: transient, with the time that is left."""
    with TinyServer(lambda asked: Answer(b"", 429, {"Retry-After": "900"})).run() as server:
        for _ in range(2):
            with pytest.raises(TransientError) as caught:
                ask(server)
            assert 890 < caught.value.retry_after_s <= 900
        assert server.count == 1


class Clock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clocked():
    """A pace on a clock of its own."""
    clock = Clock()
    return Pace(clock, clock.sleep), clock


def test_the_bucket_allows_a_burst_and_then_the_rate(clocked):
    """Four at once, then one each quarter of a second."""
    paced, clock = clocked
    starts = []
    for _ in range(8):
        paced.wait_turn(4.0, 4, 60)
        starts.append(clock.now - 1000)
    assert starts == [0, 0, 0, 0, 0.25, 0.5, 0.75, 1.0]


def test_an_idle_bucket_saves_one_burst_only(clocked):
    """A minute of silence does not allow a flood."""
    paced, clock = clocked
    paced.wait_turn(4.0, 4, 60)
    clock.now += 60
    before = clock.now
    for _ in range(5):
        paced.wait_turn(4.0, 4, 60)
    assert clock.now - before == 0.25


def test_after_a_pause_there_is_no_burst(clocked):
    """Threads that waited go out one by one at the rate."""
    paced, clock = clocked
    paced.pause(10)
    starts = []
    for _ in range(3):
        paced.wait_turn(2.0, 8, 60)
        starts.append(clock.now - 1000)
    assert starts == [10, 10.5, 11]


def test_patience_ends_a_wait_before_it_starts(clocked):
    """A turn that is too far away is refused at once and takes no place."""
    paced, clock = clocked
    paced.pause(100)
    with pytest.raises(TransientError) as caught:
        paced.wait_turn(2.0, 8, 60)
    assert caught.value.retry_after_s == 100
    assert clock.now == 1000


def test_the_breaker_opens_lets_one_try_and_closes(clocked):
    """Failures in a row open it; after the cool time one may try; its success closes it, its failure does not."""
    paced, clock = clocked
    for _ in range(BREAK_AFTER):
        paced.wait_turn(1000.0, 8, 60)
        paced.failed()
    with pytest.raises(TransientError, match="times in a row") as caught:
        paced.wait_turn(1000.0, 8, 60)
    assert caught.value.retry_after_s == pytest.approx(COOL_S, abs=0.1)
    clock.now += COOL_S + 1
    paced.wait_turn(1000.0, 8, 60)
    with pytest.raises(TransientError):
        paced.wait_turn(1000.0, 8, 60)
    paced.succeeded()
    paced.wait_turn(1000.0, 8, 60)
    for _ in range(BREAK_AFTER - 1):
        paced.failed()
    paced.wait_turn(1000.0, 8, 60)


def test_a_dead_server_is_left_alone(monkeypatch):
    """After failures in a row the next call sends nothing and fails at once."""
    monkeypatch.setattr(pace, "BREAK_AFTER", 4)
    with TinyServer(lambda asked: Answer(b"", 502)).run() as server:
        with pytest.raises(TransientError, match="4 times in a row"):
            ask(server)
        with pytest.raises(TransientError, match="left alone"):
            ask(server)
        assert server.count == 4


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"message": "quota"}, "quota"),
        ({"error": "quota"}, "quota"),
        ({"error": {"message": "quota", "status": 403}}, "quota"),
        ({"detail": [{"msg": "field required", "loc": ["x"]}, {"msg": "two"}]}, "field required; two"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"message": ""}, None),
        ({"other": "text"}, None),
        (b"<html>secret page</html>", None),
        ({"message": f"key {KEY} at https://api.roboflow.com/x?api_key={KEY} is bad"}, "key … at (URL) is bad"),
        ({"message": f"api_key={KEY[:6]} Bearer abc123"}, "api_key … Bearer …"),
        ({"message": "a\nb\x1b[31mc"}, "a b [31mc"),
        ({"message": "x" * 500}, "x" * 199 + "…"),
    ],
)
def test_what_the_server_says_is_quoted_without_secrets(body, said):
    """All three shapes of error bodies are read; keys, URLs, control characters and novels are not repeated."""
    with TinyServer(lambda asked: Answer(body, 403)).run() as server, pytest.raises(ConfigurationError) as caught:
        ask(server)
    assert str(caught.value).partition(" (it says: ")[2].removesuffix(")") == (said or "")


def test_a_key_is_redacted_in_every_spelling():
    """Percent-encoded and plus-encoded forms go too."""
    secret = Secret("a+b/c=d%")
    assert redact("a+b/c=d% a%2Bb%2Fc%3Dd%25", secret) == "… …"
