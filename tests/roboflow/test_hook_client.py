"""The real client behind our seam: time-outs, redaction, one key check, one connection at a time, nothing that blocks."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hookkit import STATUSES, Heard, access_to, told
from standin import GOOD_KEY, StandIn

from airflow_facefog.core.errors import ConfigurationError, FogError, PermanentError, TransientError
from airflow_facefog.detectors.roboflow.access import Access, Secret
from airflow_facefog.hooks import roboflow_client
from airflow_facefog.hooks.roboflow_client import open_client


@pytest.fixture(autouse=True)
def seam() -> Iterator[None]:
    """Give the client back as it was."""
    yield
    roboflow_client.restore()


@pytest.fixture
def client(standin: StandIn) -> Any:
    """A client of the stand-in."""
    return open_client(access_to(standin))


def test_it_is_the_real_client(standin: StandIn, client: Any) -> None:
    """Management calls work, through the connection's API URL."""
    import roboflow

    assert type(client) is roboflow.Roboflow
    project = client.workspace().project("faces")
    assert [version.version for version in project.versions()] == ["1", "2"]
    assert {request.path for request in standin.requests()} >= {"/", "/stand-in", "/stand-in/faces"}


def test_opening_prints_nothing_and_leaves_no_trace(standin: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """What it prints goes to the log; the environment is as it was."""
    before = dict(os.environ)
    open_client(access_to(standin))
    assert capsys.readouterr().out == ""
    assert dict(os.environ) == before


def test_it_opens_without_a_home(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers often have none; the client alone fails to import then."""
    monkeypatch.delenv("HOME")
    assert open_client(access_to(standin)).workspace().name == "Stand-In"
    assert "HOME" not in os.environ


@pytest.mark.parametrize("status", [s for s in STATUSES if s != 400])
def test_a_refused_key_is_asked_about_once(standin: StandIn, status: int) -> None:
    """The client asks six times, sleeps five seconds and loses the status; we say it at once."""
    standin.script("/", "status", status=status, times=None)
    with pytest.raises(FogError, match=str(status)) as caught:
        open_client(access_to(standin))
    assert isinstance(caught.value, TransientError) == (status in (429, 500, 502, 503, 504))
    assert len(standin.requests("/")) == 1
    assert GOOD_KEY not in told(caught.value)


@pytest.mark.parametrize("key", ["", "ONLY-CAPITALS-0123"])
def test_no_key_is_no_onboarding(standin: StandIn, key: str) -> None:
    """The client takes such a key for a newcomer and breaks later."""
    with pytest.raises(ConfigurationError, match="key"):
        open_client(access_to(standin, key))
    assert standin.requests() == []


def test_a_stalled_server_is_not_waited_for(standin: StandIn) -> None:
    """The client alone would wait for ever."""
    client = open_client(access_to(standin, timeout_s=0.3))
    standin.script("/stand-in", "stall", seconds=10)
    with pytest.raises(TransientError, match="ReadTimeout") as caught:
        client.workspace()
    assert GOOD_KEY not in _chain(caught.value)


def test_errors_of_requests_hold_no_key(standin: StandIn, client: Any) -> None:
    """``raise_for_status`` quotes the URL, and the URL holds the key."""
    import requests

    standin.script("/stand-in/projects", "status", status=500, body={"error": f"bad key {GOOD_KEY}"}, times=None)
    with pytest.raises(requests.HTTPError) as caught:
        client.workspace().create_project("x", "object-detection", "Private", "face")
    response = caught.value.response
    for text in (str(caught.value), response.url, response.text, response.request.url or ""):
        assert GOOD_KEY not in text


def test_a_dead_server_is_a_fault_without_the_key(standin: StandIn, client: Any) -> None:
    """A connection error of requests quotes the URL too."""
    standin.script("/stand-in", "reset", times=None)
    with pytest.raises(TransientError) as caught:
        client.workspace()
    assert GOOD_KEY not in _chain(caught.value)


@pytest.mark.parametrize(
    ("place", "call"),
    [
        ("roboflow.core.version:Version", "train"),
        ("roboflow.core.version:Version", "deploy"),
        ("roboflow.core.project:Project", "train"),
        ("roboflow.core.workspace:Workspace", "deploy_model"),
    ],
)
def test_calls_that_hide_failures_are_refused(client: Any, place: str, call: str) -> None:
    """The message says what to use."""
    import importlib

    module, _, name = place.partition(":")
    method = getattr(getattr(importlib.import_module(module), name), call)
    with pytest.raises(PermanentError, match="refused in a task"):
        method(None)


def test_login_is_refused(client: Any) -> None:
    """It would wait for a person at a terminal."""
    import roboflow

    with pytest.raises(PermanentError, match="connection"):
        roboflow.login()


def test_the_seam_can_be_taken_out(standin: StandIn) -> None:
    """Everything is as the client's authors left it."""
    import roboflow.util.http as http
    from roboflow import config
    from roboflow.core.version import Version

    before = (http.get, http.post, http.Session, Version.train, config.API_URL)
    open_client(access_to(standin))
    assert http.get is not before[0]
    assert standin.url == config.API_URL
    roboflow_client.restore()
    assert (http.get, http.post, http.Session, Version.train, config.API_URL) == before


def test_a_client_of_another_connection_is_stopped(standin: StandIn, client: Any) -> None:
    """Addresses are module globals there: the first key would go to the second connection's host."""
    standin.world.keys["another-good-key-0123456789"] = 200
    open_client(access_to(standin, "another-good-key-0123456789"))
    before = len(standin.requests())
    with pytest.raises(ConfigurationError, match="another connection"):
        client.workspace()
    assert len(standin.requests()) == before


def test_the_key_goes_to_the_connections_hosts_only(standin: StandIn, client: Any) -> None:
    """Neither by a wrong address nor by a redirect."""
    import roboflow.util.http as http
    from roboflow.adapters.rfapi import RoboflowError

    with pytest.raises(ConfigurationError):
        http.get(f"http://localhost:9/?api_key={GOOD_KEY}")
    standin.script("/stand-in", "redirect", location=f"http://localhost:9/?api_key={GOOD_KEY}")
    with pytest.raises(RoboflowError):
        client.workspace()
    assert len(standin.requests("/stand-in")) == 1


def test_environment_proxies_are_not_used(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the connection may name a proxy."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert open_client(access_to(standin)).workspace().name == "Stand-In"


def test_uploads_pass_the_seam_too(standin: StandIn, client: Any, tmp_path: Path) -> None:
    """The client keeps sessions for uploads: they are bounded as well."""
    import cv2
    import numpy as np

    path = str(tmp_path / "a.jpg")
    cv2.imwrite(path, np.full((32, 32, 3), 90, np.uint8))
    project = client.workspace().project("faces")
    project.upload(path)
    assert len(standin.world.projects["stand-in/faces"].images) == 1
    standin.script("/dataset/faces/upload", "status", status=500, body={"error": {"message": GOOD_KEY}}, times=None)
    with pytest.raises(Exception, match="key") as caught:
        project.single_upload(path)
    assert GOOD_KEY not in str(caught.value)


def test_logs_hold_no_key(standin: StandIn) -> None:
    """urllib3 logs request lines when it is told to be loud."""
    heard = Heard()
    root = logging.getLogger()
    level = root.level
    root.addHandler(heard)
    root.setLevel(logging.DEBUG)
    try:
        open_client(access_to(standin)).workspace()
    finally:
        root.removeHandler(heard)
        root.setLevel(level)
    assert GOOD_KEY not in heard.text.getvalue()


def test_the_default_access_points_at_the_cloud() -> None:
    """Nothing is asked when the key is none."""
    with pytest.raises(ConfigurationError):
        open_client(Access(api_key=Secret("")))


def _chain(error: BaseException) -> str:
    """The printed exception with its chain; the client's own variables hold the key, whoever looks into its frames."""
    return "".join(traceback.format_exception(error))
