"""The key appears nowhere: not in errors or their chains, reprs, logs at DEBUG, nor (in header mode) in URLs."""

from __future__ import annotations

import logging
import traceback

import numpy as np
import pytest
from tiny_server import Answer, TinyServer, predictions

from airflow_facefog.core.errors import FogError
from airflow_facefog.detectors.roboflow import http
from airflow_facefog.detectors.roboflow.access import Access, Secret
from airflow_facefog.detectors.roboflow.detector import RoboflowDetector

KEY = "rf_SECRETkey123"
PICTURE = np.full((40, 60, 3), 90, np.uint8)
ECHO = {"X-Echo": KEY, "Location": f"http://10.9.9.9/?api_key={KEY}", "Set-Cookie": f"k={KEY}", "Retry-After": "0"}


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """No waiting between tries."""
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.0)


@pytest.fixture
def logs(caplog):
    """Everything that any library says, at DEBUG."""
    for name in ("", "httpx", "httpcore", "httpcore.http11", "httpcore.connection", "httpcore.proxy", "tenacity"):
        caplog.set_level(logging.DEBUG, name or None)
    return caplog


def everything(error):
    """Text of an error, of all that hangs on it, and of every local variable in its frames."""
    seen, texts, todo = set(), [], [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        texts += [repr(one), str(one), repr(vars(one)), *map(repr, one.args)]
        texts += traceback.TracebackException.from_exception(one, capture_locals=True).format()
        todo += [one.__cause__, one.__context__]
    return "".join(texts)


@pytest.mark.parametrize("auth", ["header", "query"])
@pytest.mark.parametrize(
    "reply",
    [Answer({"message": f"bad key {KEY}"}, 401, ECHO), Answer({"error": KEY}, 500, ECHO), Answer(KEY.encode(), 200, ECHO),
     Answer(b"", 302, ECHO), Answer({"detail": f"?api_key={KEY}"}, 422, ECHO), Answer(b"", 413, ECHO),
     Answer({"predictions": KEY}, 200, ECHO), Answer(b"x" * 99, 200, ECHO, cut=5), Answer(b"", 429, ECHO)],
    ids=["401", "500", "no JSON", "302", "422", "413", "odd", "cut", "429"],
)  # fmt: skip
def test_no_error_or_log_holds_the_key(reply, auth, logs, capfd):
    """Even when the server echoes it in body and headers, and in query mode, where it is in the URL itself."""
    with TinyServer(lambda asked: reply).run() as server:
        detector = RoboflowDetector("faces/3", Access(Secret(KEY), server.url, auth=auth, rate_per_s=1000.0))
        with pytest.raises(FogError) as caught:
            _detect(detector)
        assert server.count >= 1
        told = everything(caught.value) + repr(detector) + repr(detector._session) + repr(detector.info)
    assert KEY not in told + logs.text + "".join(capfd.readouterr())
    assert "api_key" not in logs.text


def _detect(detector):
    """In a frame of its own: the test's own locals hold the reply, with the key."""
    return detector.detect(PICTURE, 0.1)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://no-such-name.invalid", "https://127.0.0.1:9"])
def test_no_failed_connection_holds_the_key(url, logs):
    """Libraries put URLs into connection errors; ours carry host and class."""
    detector = RoboflowDetector("faces/3", Access(Secret(KEY), url, auth="query"))
    with pytest.raises(FogError) as caught:
        _detect(detector)
    assert KEY not in everything(caught.value) + logs.text


def test_header_mode_keeps_the_key_out_of_urls():
    """On the wire: in the Authorization header, and nowhere else in the request; cookies do not come back."""
    with TinyServer(lambda asked: Answer(predictions(asked), headers={"Set-Cookie": "a=b"})).run() as server:
        detector = RoboflowDetector("faces/3", Access(Secret(KEY), server.url))
        for _ in range(2):
            detector.detect(PICTURE, 0.1)
        for asked in server.asked:
            assert asked.headers["authorization"] == f"Bearer {KEY}"
            assert KEY not in asked.raw_path + str({k: v for k, v in asked.headers.items() if k != "authorization"})
            assert KEY.encode() not in asked.body
            assert "cookie" not in asked.headers


def test_query_mode_is_for_old_servers():
    """The key goes as ``api_key`` and in no header."""
    with TinyServer(predictions).run() as server:
        RoboflowDetector("faces/3", Access(Secret(KEY), server.url, auth="query")).detect(PICTURE, 0.1)
        assert server.asked[0].params["api_key"] == KEY
        assert KEY not in str(server.asked[0].headers)


@pytest.mark.parametrize("auth", ["header", "query"])
def test_without_a_key_none_is_sent(auth):
    """Self-hosted servers need none: no empty header, no empty parameter."""
    with TinyServer(predictions).run() as server:
        RoboflowDetector("faces/3", Access(inference_url=server.url, auth=auth)).detect(PICTURE, 0.1)
        assert "authorization" not in server.asked[0].headers
        assert "api_key" not in server.asked[0].params


def test_other_users_of_httpx_are_still_heard(logs):
    """Our silence covers our own requests only."""
    import httpx

    with TinyServer(predictions).run() as server:
        RoboflowDetector("faces/3", Access(Secret(KEY), server.url)).detect(PICTURE, 0.1)
        assert "HTTP Request" not in logs.text
        files = {"file": ("x.jpg", server.asked[0].jpeg, "image/jpeg")}
        httpx.post(f"{server.url}/other/1", files=files, trust_env=False)
    assert "HTTP Request" in logs.text
