"""Management calls: what they ask, what they give back, and what they do about faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hookkit import STATUSES, access_to, api_to, told
from standin import GOOD_KEY, StandIn

from airflow_facefog.core.errors import ConfigurationError, PermanentError, TransientError
from airflow_facefog.detectors.roboflow import http
from airflow_facefog.detectors.roboflow.access import Access, Secret
from airflow_facefog.hooks.roboflow_api import ProjectRef, RoboflowApi, ask_once
from airflow_facefog.hooks.roboflow_session import status_of

FACES = ProjectRef("stand-in", "faces")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in milliseconds, and a pace that forgets between tests."""
    from airflow_facefog.detectors.roboflow import pace

    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(http, "LONGEST_WAIT_S", 0.002)
    pace._paces.clear()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("faces", "stand-in/faces"),
        ("other/faces", "other/faces"),
        (" other/faces ", "other/faces"),
        ("https://universe.roboflow.com/other/faces", "other/faces"),
        ("https://universe.roboflow.com/other/faces/dataset/3", "other/faces"),
    ],
)
def test_projects_are_read_as_people_write_them(standin: StandIn, text: str, meant: str) -> None:
    """A bare name lies in the key's workspace."""
    assert str(api_to(standin).ref(text)) == meant


@pytest.mark.parametrize("text", ["", "a/b/c", "a b", "../faces", "https://example.com/a/b", "faces?api_key=x", "a/"])
def test_project_names_that_would_bend_a_url_are_refused(standin: StandIn, text: str) -> None:
    """Nothing is asked about them."""
    with pytest.raises(ConfigurationError):
        api_to(standin).ref(text)
    assert standin.requests() == []


def test_a_given_workspace_costs_no_request(standin: StandIn) -> None:
    """The connection's workspace is believed."""
    assert str(api_to(standin, workspace="mine").ref("faces")) == "mine/faces"
    assert standin.requests() == []


def test_search_gives_plain_values(standin: StandIn) -> None:
    """Names that a download takes back, and nothing that the API left out is missing."""
    found = api_to(standin).search("open-faces", "object-detection")
    assert [hit["project"] for hit in found] == ["universe-people/open-faces"]
    assert set(found[0]) == {"project", "name", "type", "images", "classes", "license", "url", "version"}
    assert api_to(standin).search("no such thing") == []


def test_other_spelling_of_a_search_result(standin: StandIn) -> None:
    """The documentation shows workspace and project apart."""
    body = {"results": [{"workspace": "a", "project": "b", "name": "B"}, "odd"]}
    standin.script("/universe/search", "body", body=body)
    assert api_to(standin).search("b")[0]["project"] == "a/b"


def test_a_version_is_generated_and_trained(standin: StandIn) -> None:
    """Start, look, end: numbers and ids come back as text."""
    standin.world.generating_polls = 1
    api = api_to(standin)
    number = api.generate(FACES, {"auto-orient": True}, {})
    assert number == "3"
    assert [bool(api.version(FACES, number)["generating"]) for _ in range(2)] == [False, False]
    training = api.create_training(FACES, number, {"modelType": "yolov11s", "epochs": 2})
    assert api.trainings(FACES, number) == {training}
    statuses = [api.training(FACES, number, training)["status"] for _ in range(4)]
    assert statuses == ["queued", "running", "running", "finished"]


def test_a_training_can_be_ended(standin: StandIn) -> None:
    """Cancel is what a killed task does."""
    api = api_to(standin)
    training = api.create_training(FACES, 1, {"modelType": "yolov11s"})
    api.end_training(FACES, 1, training)
    assert api.training(FACES, 1, training)["status"] == "cancelled"
    with pytest.raises(ConfigurationError, match="cancel or stop"):
        api.end_training(FACES, 1, training, "explode")


def test_reads_are_asked_again(standin: StandIn) -> None:
    """Three faults of three kinds, then the answer."""
    standin.script("/stand-in/faces", "status", status=503)
    standin.script("/stand-in/faces", "html")
    standin.script("/stand-in/faces", "truncate", lie=True)
    assert api_to(standin).versions(FACES) == {"1", "2"}
    assert len(standin.requests("/stand-in/faces")) == 4


STARTS: dict[str, Callable[[RoboflowApi], Any]] = {
    "generate": lambda api: api.generate(FACES, {}, {}),
    "1/v2/trainings": lambda api: api.create_training(FACES, 1, {"modelType": "yolov11s"}),
}


@pytest.mark.parametrize("fault", ["status", "html", "reset"])
@pytest.mark.parametrize("path", STARTS)
def test_what_costs_money_is_sent_once(standin: StandIn, path: str, fault: str) -> None:
    """A lost answer may mean that it was started: only the caller can look before asking again."""
    params = {"status": 502} if fault == "status" else {}
    standin.script(f"/stand-in/faces/{path}", fault, method="POST", times=None, **params)
    with pytest.raises(TransientError):
        STARTS[path](api_to(standin))
    assert len(standin.requests(f"/stand-in/faces/{path}", "POST")) == 1


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("auth", ["header", "query"])
def test_every_status_is_a_clear_error_without_the_key(standin: StandIn, status: int, auth: Any) -> None:
    """Permanent or transient as the table says; message, chain and frames hold no key, even when the server quotes it."""
    standin.script("/stand-in/faces", "status", status=status, times=None, body={"error": f"key {GOOD_KEY} is bad"})
    with pytest.raises((PermanentError, TransientError)) as caught:
        api_to(standin, auth=auth).project(FACES)
    assert isinstance(caught.value, TransientError) == (status in (429, 500, 502, 503, 504))
    assert status_of(caught.value) == status
    assert GOOD_KEY not in told(caught.value)


def test_a_missing_project_is_told_in_words_of_projects(standin: StandIn) -> None:
    """The session's own table speaks of models and pictures."""
    with pytest.raises(ConfigurationError, match=r"no such workspace, project.*it says: .*'nothing'"):
        api_to(standin).project(ProjectRef("stand-in", "nothing"))


@pytest.mark.parametrize("fault", ["stall", "reset", "html", "truncate", "redirect", "flood"])
def test_every_fault_is_an_error_without_the_key(standin: StandIn, fault: str) -> None:
    """Broken transport never shows URL or header."""
    params: dict[str, Any] = {"stall": {"seconds": 2}, "redirect": {"location": standin.url + "/?api_key=x"}}.get(
        fault, {}
    )
    params |= {"n_bytes": 20_000_000} if fault == "flood" else {}
    standin.script("/stand-in/faces", fault, times=None, **params)
    with pytest.raises(Exception, match="Roboflow") as caught:
        api_to(standin, timeout_s=0.3, auth="query").project(FACES)
    assert GOOD_KEY not in told(caught.value)


def test_the_key_is_in_no_url_in_header_mode(standin: StandIn) -> None:
    """Access logs of servers and proxies hold URLs."""
    api = api_to(standin)
    api.ref("faces")
    api.search("faces")
    api.versions(FACES)
    api.upload(FACES, "a.jpg", _jpeg(), "image/jpeg", split="train", batch="b", tags=["x", "y"])
    seen = standin.requests()
    assert len(seen) == 4
    assert all(GOOD_KEY not in r.path + r.raw_query for r in seen)
    assert all(r.headers["authorization"] == f"Bearer {GOOD_KEY}" for r in seen)


def test_an_upload_says_whether_it_was_new(standin: StandIn) -> None:
    """Equal bytes are kept once; tags, batch and split arrive."""
    api = api_to(standin)
    first, second = (
        api.upload(FACES, "a.jpg", _jpeg(), "image/jpeg", split="valid", batch="b", tags=["x", "y"]) for _ in range(2)
    )
    assert (first.duplicate, second.duplicate) == (False, True)
    (image,) = standin.world.projects["stand-in/faces"].images.values()
    assert (image.split, image.batch, image.tags, image.name) == ("valid", "b", ["x", "y"], "a.jpg")


def test_an_annotation_is_kept_unless_overwriting_is_wanted(standin: StandIn) -> None:
    """409 "already annotated" is an outcome, not a fault."""
    api = api_to(standin)
    image = api.upload(FACES, "a.jpg", _jpeg(), "image/jpeg", split="train", batch="b").image_id
    assert api.annotate(FACES, image, "a.xml", "<one/>")
    assert not api.annotate(FACES, image, "a.xml", "<two/>")
    assert api.annotate(FACES, image, "a.xml", "<three/>", overwrite=True)
    assert standin.world.projects["stand-in/faces"].images[image].annotation == "<three/>"


@pytest.mark.parametrize("answer", [{}, [], {"success": False, "id": "x"}, {"success": True, "id": "../../x"}])
def test_an_upload_that_is_not_confirmed_is_an_error(standin: StandIn, answer: Any) -> None:
    """Never counted as sent."""
    standin.script("/dataset/faces/upload", "body", body=answer, times=None)
    with pytest.raises((PermanentError, TransientError)):
        api_to(standin).upload(FACES, "a.jpg", _jpeg(), "image/jpeg", split="train", batch="b")


def test_a_project_is_made_with_the_licence_that_was_given(standin: StandIn) -> None:
    """No default that publishes."""
    api_to(standin).create_project(
        "stand-in", "My Faces", kind="object-detection", licence="Private", annotation="face"
    )
    assert standin.world.projects["stand-in/my-faces"].public is False


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("nobody-knows-this-key", "401"),
        ("standin-no-credits-key-0123456", "402"),
        ("standin-forbidden-key-012345678", "403"),
        ("standin-locked-key-0123456789", "423"),
    ],
)
def test_a_bad_key_is_told_apart_in_one_request(standin: StandIn, key: str, says: str) -> None:
    """Wrong, unpaid, forbidden, locked: four messages, none of them quotes the key."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        ask_once(access_to(standin, key))
    assert key not in told(caught.value)
    assert len(standin.requests()) == 1


def test_a_good_key_is_told_with_its_workspace(standin: StandIn) -> None:
    """One request."""
    assert "'stand-in'" in ask_once(access_to(standin))
    assert len(standin.requests()) == 1


def test_a_self_hosted_server_is_asked_for_its_version(standin: StandIn) -> None:
    """It does not know keys; nothing goes to the cloud."""
    said = ask_once(Access(inference_url=standin.url))
    assert "self-hosted" in said
    assert "1.8.3" in said
    assert [(r.method, r.path) for r in standin.requests()] == [("GET", "/info")]


def test_an_unreachable_server_is_told(standin: StandIn) -> None:
    """Nothing listens there."""
    with pytest.raises(TransientError, match="connection"):
        ask_once(Access(api_key=Secret(GOOD_KEY), inference_url="http://127.0.0.1:9", timeout_s=2))


def test_a_server_without_tls_is_told(standin: StandIn) -> None:
    """https to a port that speaks http: the key is never sent in clear."""
    secure = standin.url.replace("http:", "https:")
    with pytest.raises(ConfigurationError, match="TLS"):
        ask_once(Access(api_key=Secret(GOOD_KEY), inference_url=secure, api_url=secure, timeout_s=5))
    assert standin.requests() == []


def test_another_kind_of_server_is_told(standin: StandIn) -> None:
    """An answer without what it should hold points at the URL."""
    standin.script("/", "body", body={"hello": "world"})
    with pytest.raises(ConfigurationError, match="API URL"):
        ask_once(access_to(standin))


def _jpeg() -> bytes:
    import cv2
    import numpy as np

    return bytes(cv2.imencode(".jpg", np.full((32, 32, 3), 90, np.uint8))[1])
