"""How Roboflow is reached and which model is meant: every way of writing it, and no way to print the key."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.detectors import normalise, resolve
from airflow_facefog.detectors.roboflow.access import HOSTED_INFERENCE, Access, Secret, access_from_env
from airflow_facefog.detectors.roboflow.detector import RoboflowDetector
from airflow_facefog.detectors.roboflow.model_ids import ModelId, parse_model_id

KEY = "rf_SECRETkey123"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """Start from an environment without Roboflow settings."""
    for name in ("API_KEY", "URL", "API_URL", "WORKSPACE", "AUTH"):
        monkeypatch.delenv(f"FACEFOG_ROBOFLOW_{name}", raising=False)


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:>9}".format, lambda value: f"{[value]} {(value,)}"])
def test_no_way_of_printing_shows_the_key(show):
    """Neither the secret nor an access shows the key, nor the password in a proxy's address."""
    access = Access(Secret(KEY), proxy="http://user:pa55word@10.0.0.1:3128")
    assert KEY not in show(Secret(KEY)) + show(access)
    assert "pa55word" not in show(access)


def test_an_access_travels_and_compares_as_a_value():
    """It reaches the child process over the pipe whole, and equal settings are equal."""
    access = Access(Secret(KEY), "http://host:9001/", allowed_hosts=("Box.Example.",))
    again = pickle.loads(pickle.dumps(access))
    assert again == access
    assert hash(again) == hash(copy.deepcopy(access))
    assert again.api_key.reveal() == KEY
    assert again != Access(Secret("other"), "http://host:9001")
    assert (access.inference_url, access.allowed_hosts) == ("http://host:9001", ("box.example",))


def test_a_secret_never_becomes_json():
    """A key that slipped into a plan or XCom would fail there, not be written."""
    with pytest.raises(TypeError, match="Secret"):
        json.dumps({"key": Secret(KEY)})


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"api_key": KEY}, "Secret"),
        ({"api_key": Secret(f"{KEY}\nX-Other: 1")}, "API key"),
        ({"api_key": Secret(f"{KEY} ")}, "API key"),
        ({"api_key": Secret("schlüssel" + KEY)}, "API key"),
        ({"inference_url": f"ftp://{KEY}"}, "inference_url"),
        ({"inference_url": f"https://user:{KEY}@host"}, "inference_url"),
        ({"inference_url": f"https://host/?api_key={KEY}"}, "inference_url"),
        ({"inference_url": "https://host:99999"}, "inference_url"),
        ({"api_url": "api.roboflow.com"}, "api_url"),
        ({"proxy": f"socks5://{KEY}"}, "proxy"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"connect_timeout_s": float("nan")}, "connect_timeout_s"),
        ({"rate_per_s": float("inf")}, "rate_per_s"),
        ({"concurrency": 0}, "concurrency"),
        ({"auth": "both"}, "auth"),
    ],
)
def test_wrong_settings_are_named_and_not_quoted(wrong, named):
    """The message names the field; what may be a key or a password is not in it."""
    with pytest.raises(ConfigurationError, match=named) as caught:
        Access(**wrong)
    assert KEY not in str(caught.value)


def test_the_environment_gives_an_access(monkeypatch):
    """All variables are read; the command line needs no more."""
    for name, value in {"API_KEY": f" {KEY}\n", "URL": "http://10.1.2.3:9001", "API_URL": "https://api.roboflow.eu",
                        "WORKSPACE": "ours", "AUTH": "query"}.items():  # fmt: skip
        monkeypatch.setenv(f"FACEFOG_ROBOFLOW_{name}", value)
    access = access_from_env()
    assert access == Access(Secret(KEY), "http://10.1.2.3:9001", "https://api.roboflow.eu", "ours", auth="query")


def test_own_servers_need_no_key_and_the_hosted_one_does(monkeypatch):
    """Without any setting the error says which two variables help."""
    with pytest.raises(ConfigurationError, match=r"FACEFOG_ROBOFLOW_API_KEY.*FACEFOG_ROBOFLOW_URL"):
        access_from_env()
    monkeypatch.setenv("FACEFOG_ROBOFLOW_URL", "http://127.0.0.1:9001")
    assert not access_from_env().api_key


def test_a_connection_is_for_airflow_only():
    """Outside Airflow a connection id is an error that says what to do instead."""
    with pytest.raises(ConfigurationError, match="only Airflow can resolve"):
        resolve({"kind": "roboflow", "model_id": "faces/3", "conn_id": "roboflow_default"})


@pytest.mark.parametrize(
    ("text", "model", "path"),
    [
        ("faces/3", ModelId("faces", 3), "faces/3"),
        (" ours/faces/3/ ", ModelId("faces", 3, "ours"), "faces/3"),
        ("ours/rf-detr-x", ModelId("rf-detr-x", None, "ours"), "ours/rf-detr-x"),
        ("https://universe.roboflow.com/ours/faces-abc12/model/3", ModelId("faces-abc12", 3, "ours"), "faces-abc12/3"),
        ("https://universe.roboflow.com/ours/faces/dataset/12?ref=x#top", ModelId("faces", 12, "ours"), "faces/12"),
        ("https://app.roboflow.com/ours/faces/3", ModelId("faces", 3, "ours"), "faces/3"),
        ("https://app.roboflow.com/ours/any/models/faces/3", ModelId("faces", 3, "ours"), "faces/3"),
    ],
)
def test_each_way_of_naming_a_model(text, model, path):
    """All ways give one model; two segments go on the wire, because servers refuse three; its text reads back."""
    assert parse_model_id(text) == model
    assert model.path == path
    assert parse_model_id(str(model)) == model


@pytest.mark.parametrize(
    "text",
    ["", "faces", "faces/0", "faces/03", "a/b/c/3", "ours/faces/v3", "../3", "fa ces/3", "faces//3", "faces/3?x=1", "ä/3",
     "https://universe.roboflow.com/ours/faces", "https://evil.example/ours/faces/model/3", "faces/3/../../x/1", None,
     "https://universe.roboflow.com.evil.example/a/b/model/3", "x" * 200 + "/3", "faces/9999999999"],
)  # fmt: skip
def test_what_names_no_model_is_answered_with_the_ways(text):
    """Typing errors, other sites and paths that climb are refused with the valid forms."""
    with pytest.raises(ConfigurationError, match="project/3"):
        parse_model_id(text)


@given(st.text(max_size=40))
@settings(max_examples=50, deadline=None)
def test_a_model_path_never_leaves_its_two_segments(text):
    """Whatever is written, what goes into the URL is two plain segments or an error."""
    try:
        path = parse_model_id(text).path
    except ConfigurationError:
        return
    assert path.count("/") == 1
    assert not set(path) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/")
    assert not any(part.startswith(".") for part in path.split("/"))


FULL = {"kind": "roboflow", "model_id": "faces/3", "conn_id": None, "classes": None, "class_map": {}, "overlap": 0.6,
        "max_detections": 1000, "max_side": 1600, "raise_to": 0.2, "canary": None}  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("roboflow:faces/3", FULL),
        ("roboflow:https://universe.roboflow.com/ours/faces/model/3", {**FULL, "model_id": "ours/faces/3"}),
        ("roboflow:faces/3?classes=face, plate&max_side=1280",
         {**FULL, "classes": ["face", "plate"], "max_side": 1280}),
        ({"kind": "roboflow", "model_id": "faces/3", "class_map": {"Face": "face"}}, {**FULL, "class_map": {"Face": "face"}}),
    ],
)  # fmt: skip
def test_specs_have_one_canonical_form(spec, canonical):
    """Text and mapping become one JSON form, which holds a connection's name and never a key."""
    assert normalise(spec) == canonical
    assert normalise(json.loads(json.dumps(canonical))) == canonical


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("roboflow:faces", "project/3"),
        ("roboflow:", "model_id"),
        ("roboflow:faces/3?api_key=x", "unknown setting 'api_key'; valid here: canary"),
        ({"kind": "roboflow", "model_id": "faces/3", "raise_to": 0}, "raise_to"),
        ({"kind": "roboflow", "model_id": "faces/3", "classes": []}, "classes"),
    ],
)
def test_wrong_specs_are_named(spec, named):
    """The message names the setting that is wrong; a key is no setting."""
    with pytest.raises(ConfigurationError, match=named):
        normalise(spec)


def test_resolve_takes_what_opens_the_connection():
    """The opener gets the connection id, also inside a union, and the detector says where pictures go."""
    asked = []

    def opener(conn_id):
        asked.append(conn_id)
        return Access(Secret(KEY), "http://127.0.0.1:1")

    spec = ["local", {"kind": "roboflow", "model_id": "faces/3", "conn_id": "rf", "classes": ["face", "hat"]}]
    info = resolve(spec, opener).info
    assert asked == ["rf"]
    assert (info.remote_host, info.concurrency, info.cacheable, info.classes) == (None, 8, True, ("face", "hat"))


def test_the_fingerprint_follows_what_changes_answers():
    """Model and parameters change the recipe; server, key and class order do not."""
    here = Access(Secret(KEY), "http://127.0.0.1:1")

    def fingerprint(model="faces/3", access=here, **settings):
        return RoboflowDetector(model, access, **settings).info.fingerprint

    base = fingerprint()
    others = [fingerprint("faces/4"), fingerprint(overlap=0.5), fingerprint(max_side=1280), fingerprint(raise_to=0.3),
              fingerprint(max_detections=500), fingerprint(classes=["face"]), fingerprint(class_map={"a": "b"})]  # fmt: skip
    assert len({base, *others}) == 8
    assert base == fingerprint(access=Access(inference_url="http://127.0.0.2:9")) == fingerprint("ours/faces/3")
    assert fingerprint(classes=["face", "plate"]) == fingerprint(classes=["plate", "face"])


@pytest.mark.parametrize(
    ("classes", "class_map", "named"),
    [
        ([], None, "empty"),
        (["face", " "], None, "empty"),
        (["Face", "face"], None, "twice"),
        (["face"], {"plate": "number"}, "plate"),
        (None, {"a": ""}, "nothing"),
        (None, {"a": "b", "A": "c"}, "twice"),
    ],
)
def test_class_lists_that_contradict_themselves(classes, class_map, named):
    """A list or map that could hide a class is refused before the first picture."""
    with pytest.raises(ConfigurationError, match=named):
        RoboflowDetector("faces/3", Access(), classes=classes, class_map=class_map)


def test_the_default_is_the_hosted_server():
    """Nothing is guessed: without a URL it is Roboflow's own, which the gate refuses until the policy allows it."""
    assert Access().inference_url == HOSTED_INFERENCE
    assert Access().hosted
