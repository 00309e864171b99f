"""The connection type: its form, what becomes of its fields, what ``test_connection`` says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from roboflow_world import GOOD_KEY, StandIn, connection

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.detectors.roboflow import pace
from airflow_facefog.detectors.roboflow.access import HOSTED_API, HOSTED_INFERENCE
from airflow_facefog.hooks.roboflow import FIELDS, RoboflowHook, access
from airflow_facefog.provider_info import ROBOFLOW_CONNECTION

ENV = "AIRFLOW_CONN_RF"


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    """One stand-in for this module."""
    with StandIn() as server:
        yield server


@pytest.fixture
def standin(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """In its first state, behind the connection ``rf``; a pause that a test earned does not reach the next."""
    pace._paces.clear()
    server.reset()
    monkeypatch.setenv(ENV, connection(server.url))
    return server


def _conn(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    monkeypatch.setenv(ENV, json.dumps({"conn_type": "roboflow", **fields}))


def test_the_form_offers_what_the_hook_reads() -> None:
    """One list of fields: neither a field that does nothing, nor a setting that nobody can enter."""
    assert set(ROBOFLOW_CONNECTION["conn-fields"]) == set(FIELDS)
    module, _, name = ROBOFLOW_CONNECTION["hook-class-name"].rpartition(".")
    assert (module, name) == (RoboflowHook.__module__, RoboflowHook.__name__)
    assert ROBOFLOW_CONNECTION["connection-type"] == RoboflowHook.conn_type


def test_the_form_is_served(airflow_db: None) -> None:
    """Airflow itself makes the form from our declaration, without importing the hook."""
    code = (
        "from airflow.providers_manager import ProvidersManager as M\n"
        "import sys\n"
        "hook = M().hooks['roboflow']\n"
        "print(hook.hook_name, 'roboflow' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["Roboflow", "False"]


def test_defaults_are_the_hosted_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key alone is enough; empty fields of the form are absent fields."""
    _conn(monkeypatch, password=GOOD_KEY, extra={"api_url": "", "workspace": None, "timeout_s": "", "proxy": ""})
    found = access("rf")
    assert (found.inference_url, found.api_url) == (HOSTED_INFERENCE, HOSTED_API)
    assert (found.timeout_s, found.concurrency, found.auth, found.workspace) == (60.0, 8, "header", None)


def test_every_field_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers also as text, hosts as one line."""
    extra = {
        "api_url": "https://api.roboflow.eu", "workspace": "w", "timeout_s": "30", "connect_timeout_s": 3, "concurrency": 4,
        "rate_per_s": 5.5, "auth": "query", "proxy": "http://proxy:3128", "allowed_hosts": "GPU.example.org, b.example.org",
        "ca_file": "/ca.pem", "model_id": "faces/3",
    }  # fmt: skip
    _conn(monkeypatch, password=GOOD_KEY, host="http://127.0.0.1:9001", extra=extra)
    found = access("rf")
    assert found.api_key.reveal() == GOOD_KEY
    assert (found.inference_url, found.api_url, found.workspace) == ("http://127.0.0.1:9001", extra["api_url"], "w")
    assert (found.timeout_s, found.connect_timeout_s, found.concurrency, found.rate_per_s) == (30.0, 3.0, 4, 5.5)
    assert (found.auth, found.proxy, found.ca_file) == ("query", "http://proxy:3128", "/ca.pem")
    assert found.allowed_hosts == ("gpu.example.org", "b.example.org")
    assert RoboflowHook("rf").default_model() == "faces/3"


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("inference.example.org", None, "https://inference.example.org"),
        ("inference.example.org", 9001, "https://inference.example.org:9001"),
        ("http://10.0.0.7:9001/", None, "http://10.0.0.7:9001"),
    ],
)
def test_a_host_without_scheme_is_https(monkeypatch: pytest.MonkeyPatch, host: str, port: int, url: str) -> None:
    """Nobody sends faces in clear by leaving something out."""
    _conn(monkeypatch, host=host, port=port)
    assert access("rf").inference_url == url


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "no API key"),
        ({"password": GOOD_KEY, "extra": {"timeout": 5}}, "unknown field 'timeout'"),
        ({"password": GOOD_KEY, "extra": {"timeout_s": "soon"}}, "timeout_s is not a positive number"),
        ({"password": GOOD_KEY, "extra": {"concurrency": 1000}}, "concurrency"),
        ({"password": GOOD_KEY, "extra": {"auth": "cookie"}}, "auth"),
        ({"password": GOOD_KEY, "host": "ftp://x"}, "inference_url"),
        ({"password": GOOD_KEY, "host": f"https://u:{GOOD_KEY}@x"}, "credentials"),
        ({"password": GOOD_KEY + " x"}, "spaces"),
    ],
)
def test_wrong_fields_are_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], says: str
) -> None:
    """A retry would repeat it: permanent."""
    _conn(monkeypatch, **fields)
    with pytest.raises(ConfigurationError, match=says) as caught:
        access("rf")
    assert GOOD_KEY not in str(caught.value)


def test_a_missing_connection_says_so() -> None:
    """It is never read as "hosted, without a key"."""
    with pytest.raises(ConfigurationError, match="'no_such'"):
        access("no_such")


def test_none_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the CLI does."""
    monkeypatch.setenv("FACEFOG_ROBOFLOW_API_KEY", GOOD_KEY)
    monkeypatch.setenv("FACEFOG_ROBOFLOW_URL", "http://127.0.0.1:9001")
    assert access(None).inference_url == "http://127.0.0.1:9001"


def test_secrets_are_masked_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key, and a proxy's password."""
    from airflow.sdk._shared.secrets_masker import redact

    key = "mask-me-key-0123456789"
    _conn(monkeypatch, password=key, extra={"proxy": "http://u:proxy-pass-77@proxy:1"})
    access("rf")
    assert key not in str(redact(f"GET /?api_key={key}"))
    assert "proxy-pass-77" not in str(redact("via u:proxy-pass-77@proxy"))


def test_the_hook_gives_a_detector_and_a_client(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The safe path for pictures, the real client for everything else; the default model is the connection's."""
    from airflow_facefog.hooks import roboflow_client

    hook = RoboflowHook("rf")
    assert hook.detector("faces/2").info.model_id == "faces"
    with pytest.raises(ConfigurationError, match="no Roboflow model"):
        hook.detector()
    monkeypatch.setenv(ENV, connection(standin.url, model_id="faces/1"))
    assert str(hook.detector().model) == "faces/1"
    try:
        assert hook.get_conn().workspace().name == "Stand-In"
    finally:
        roboflow_client.restore()


def test_a_good_connection_passes_the_test(standin: StandIn) -> None:
    """With the workspace, in one request."""
    assert RoboflowHook("rf").test_connection() == (True, "the key is right; it belongs to workspace 'stand-in'")
    assert len(standin.requests()) == 1


@pytest.mark.parametrize(
    ("fault", "params", "says"),
    [
        ("status", {"status": 401}, "missing or wrong"),
        ("status", {"status": 402}, "no credits"),
        ("status", {"status": 403}, "quota"),
        ("status", {"status": 423}, "locked"),
        ("status", {"status": 429}, "429"),
        ("status", {"status": 503}, "503"),
        ("html", {}, "502"),
        ("stall", {"seconds": 2}, "in time"),
        ("reset", {}, "connection"),
        ("redirect", {"location": "http://127.0.0.1:9/"}, "redirect"),
    ],
)
def test_each_trouble_is_told_apart(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch, fault: str, params: dict[str, Any], says: str
) -> None:
    """One request, a message that says what to do, no key in it."""
    monkeypatch.setenv(ENV, connection(standin.url, timeout_s=0.4))
    standin.script("/", fault, times=None, **params)
    fine, message = RoboflowHook("rf").test_connection()
    assert not fine
    assert says in message
    assert GOOD_KEY not in message
    assert len(standin.requests()) == 1


def test_a_self_hosted_server_is_told_apart(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no key."""
    _conn(monkeypatch, host=standin.url)
    fine, message = RoboflowHook("rf").test_connection()
    assert fine
    assert "self-hosted" in message
    assert [r.path for r in standin.requests()] == ["/info"]


@pytest.mark.parametrize(
    ("host", "says"),
    [("http://127.0.0.1:9", "connection"), ("https://no-such-host.invalid", "no-such-host.invalid failed")],
)
def test_an_unreachable_server_is_told_apart(monkeypatch: pytest.MonkeyPatch, host: str, says: str) -> None:
    """Down, or misspelt."""
    _conn(monkeypatch, host=host, extra={"timeout_s": 3})
    fine, message = RoboflowHook("rf").test_connection()
    assert not fine
    assert says in message


def test_a_server_without_tls_is_told_apart(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """https to a port that speaks http."""
    _conn(monkeypatch, host=standin.url.replace("http:", "https:"))
    fine, message = RoboflowHook("rf").test_connection()
    assert not fine
    assert "TLS" in message
