"""The stand-in server itself: what it answers, how it misbehaves, what it records."""

from __future__ import annotations

import base64
import email.utils
import io
import json
import math
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image
from standin import GOOD_KEY, MARKER_BGR, Model, Seen, StandIn
from standin.faults import KINDS, Fault

import airflow_facefog

BEARER = {"Authorization": f"Bearer {GOOD_KEY}"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
MARKER = (200, 100, 280, 180)
HTTP = httpx.Client(verify=False, trust_env=False, timeout=20)


@pytest.fixture(scope="module", autouse=True)
def _close() -> Iterator[None]:
    """Leave no connection behind."""
    yield
    HTTP.close()


def picture(colour: str = "magenta", fmt: str = ".png") -> bytes:
    """A 320x240 picture with one painted marker at MARKER."""
    pixels = np.full((240, 320, 3), 120, np.uint8)
    x1, y1, x2, y2 = MARKER
    pixels[y1:y2, x1:x2] = MARKER_BGR[colour]
    return bytes(cv2.imencode(fmt, pixels)[1])


def turned(orientation: int) -> bytes:
    """The picture as a JPEG whose EXIF orientation turns the stored frame upright."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = Image.open(io.BytesIO(picture()))
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


def ask(standin: StandIn, model: str = "markers/1", data: bytes | None = None, **query: Any) -> httpx.Response:
    """One multipart inference call with the good key in the header."""
    files = {"file": ("picture", picture() if data is None else data, "image/png")}
    return HTTP.post(f"{standin.url}/{model}", params=query, headers=BEARER, files=files)


def corners(prediction: dict[str, Any]) -> tuple[float, ...]:
    """xyxy of a prediction."""
    x, y, w, h = (prediction[k] for k in ("x", "y", "width", "height"))
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def only(answer: httpx.Response) -> dict[str, Any]:
    """The one prediction of an answer."""
    (prediction,) = answer.json()["predictions"]
    return dict(prediction)


def test_an_answer_has_every_field_of_the_real_one(standin: StandIn) -> None:
    """Key order, centre coordinates, image size and headers are the real server's."""
    answer = ask(standin)
    payload = answer.json()
    assert list(payload) == ["inference_id", "time", "resolved_model", "image", "predictions"]
    fields = ["x", "y", "width", "height", "confidence", "class", "class_id", "detection_id"]
    assert list(only(answer)) == fields
    assert (only(answer)["x"], only(answer)["y"], only(answer)["class"]) == (240.0, 140.0, "face")
    assert payload["image"] == {"width": 320, "height": 240}
    assert payload["resolved_model"] == {"model_id": "markers/1"}
    assert {"x-request-id", "x-model-id", "x-processing-time", "x-model-cold-start", "date"} <= set(answer.headers)


def test_base64_and_multipart_say_the_same(standin: StandIn) -> None:
    """Both ways of sending a picture give the same box."""
    body = base64.b64encode(picture())
    answer = HTTP.post(f"{standin.url}/markers/1", headers=BEARER | FORM, content=body)
    assert corners(only(answer)) == corners(only(ask(standin))) == MARKER


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_is_applied(standin: StandIn, orientation: int) -> None:
    """A JPEG is answered in its upright frame, whichever way it is stored."""
    answer = ask(standin, data=turned(orientation))
    assert answer.json()["image"] == {"width": 320, "height": 240}
    assert corners(only(answer)) == pytest.approx(MARKER, abs=1)


@pytest.mark.parametrize(("colour", "name"), [("red", "license_plate"), ("blue", "red"), ("green", "green")])
def test_colours_keep_their_channels(standin: StandIn, colour: str, name: str) -> None:
    """Red is not blue: a swap of channels on the way would show as another class."""
    assert only(ask(standin, data=picture(colour)))["class"] == name


def test_a_stretched_models_boxes_are_in_pixels_of_the_picture(standin: StandIn) -> None:
    """Preprocessing is the server's own matter: the answer speaks of the picture that was sent."""
    assert corners(only(ask(standin, "markers/2"))) == pytest.approx(MARKER, abs=1)


def test_a_rescaled_marker_keeps_its_edges(standin: StandIn) -> None:
    """Without rounding the marker's edges come back to a fifth of a pixel after a downscale and JPEG."""
    standin.world.models["markers/1"].rounding = False
    large = np.full((1500, 2000, 3), 120, np.uint8)
    large[303:777, 501:1013] = MARKER_BGR["magenta"]
    small = cv2.resize(large, (800, 600), interpolation=cv2.INTER_AREA)
    box = corners(only(ask(standin, data=bytes(cv2.imencode(".jpg", small)[1]))))
    assert [v * 2.5 for v in box] == pytest.approx((501, 303, 1013, 777), abs=0.5)


def test_polygons_come_with_a_segmentation_model(standin: StandIn) -> None:
    """``points`` are corners in pixels."""
    points = only(ask(standin, "outlines/1"))["points"]
    assert points[0] == {"x": 200.0, "y": 100.0}
    assert points[2] == {"x": 280.0, "y": 180.0}


@pytest.mark.parametrize(("asked", "used"), [(0.4, 0.4), (40, 0.4), (1, 0.01), (0.001, 0.01), (0.25, 0.25)])
def test_confidence_has_two_scales(standin: StandIn, asked: float, used: float) -> None:
    """From 1 upwards it is per cent, 1 means 1 %, and .01 is the lowest."""
    assert only(ask(standin, "echo/1", confidence=asked))["confidence"] == pytest.approx(used)


@pytest.mark.parametrize(("query", "count"), [({}, 300), ({"max_detections": 1000}, 400), ({"max_detections": 7}, 7)])
def test_too_many_are_cut_without_a_word(standin: StandIn, query: dict[str, int], count: int) -> None:
    """300 is the default maximum, and nothing in the answer tells."""
    crowd = [Seen((x, y, x + 2, y + 2), 0.5, 0) for x in range(0, 80, 4) for y in range(0, 80, 4)]
    standin.world.models["crowd/1"] = Model("crowd/1", lambda pixels, floor: crowd)
    assert len(ask(standin, "crowd/1", **query).json()["predictions"]) == count


@pytest.mark.parametrize(("overlap", "count"), [(0.3, 1), (30, 1), (0.6, 2)])
def test_overlapping_boxes_are_thinned(standin: StandIn, overlap: float, count: int) -> None:
    """``overlap`` is the IoU above which the weaker box of a class goes, 0..1 or per cent."""
    pair = [Seen((0, 0, 20, 20), 0.9, 0), Seen((0, 0, 20, 40), 0.8, 0)]
    standin.world.models["pair/1"] = Model("pair/1", lambda pixels, floor: pair)
    assert len(ask(standin, "pair/1", overlap=overlap).json()["predictions"]) == count


def test_image_format(standin: StandIn) -> None:
    """``format=image`` is a JPEG of the same size."""
    answer = ask(standin, format="image")
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (320, 240)


@pytest.mark.parametrize(
    ("key", "where", "status"),
    [
        (GOOD_KEY, "header", 200),
        (GOOD_KEY, "query", 200),
        ("unknown-key", "header", 401),
        ("unknown-key", "query", 401),
        (None, "header", 401),
        ("standin-no-credits-key-0123456", "header", 402),
        ("standin-forbidden-key-012345678", "query", 403),
        ("standin-locked-key-0123456789", "header", 423),
    ],
)
def test_keys(standin: StandIn, key: str | None, where: str, status: int) -> None:
    """Both APIs take the key from header or query, tell four refusals apart and word them in their own way."""
    headers = {"Authorization": f"Bearer {key}"} if key and where == "header" else {}
    query = {"api_key": key} if key and where == "query" else {}
    inference = HTTP.post(f"{standin.url}/markers/1", params=query, headers=headers, files={"file": picture()})
    management = HTTP.post(f"{standin.url}/", params=query, headers=headers)
    assert (inference.status_code, management.status_code) == (status, status)
    if status == 200:
        assert management.json()["workspace"] == "stand-in"
    else:
        assert isinstance(inference.json()["message"], str)
        assert management.json()["error"]["status"] == status


def test_kinds_of_servers(standin: StandIn) -> None:
    """Self-hosted: no key, no management, but ``/info``. Before 1.5: a Bearer header is not read."""
    standin.world.header_auth = False
    assert ask(standin).status_code == 401
    standin.world.self_hosted = True
    assert HTTP.post(f"{standin.url}/markers/1", files={"file": picture()}).status_code == 200
    assert [HTTP.post(standin.url + path).status_code for path in ("/", "/stand-in/faces/generate")] == [405, 405]
    assert HTTP.get(f"{standin.url}/info").json()["version"] == "1.8.3"


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/nothing/1", FORM, base64.b64encode(picture()), 404),
        ("/stand-in/markers/1", FORM, base64.b64encode(picture()), 405),
        ("/markers/1", {}, base64.b64encode(picture()), 400),
        ("/markers/1", FORM, b"*not base64*", 400),
        ("/markers/1", FORM, base64.b64encode(b"no picture"), 400),
        ("/markers/1", FORM, base64.b64encode(picture(fmt=".jpg")[:-60]), 400),
        ("/markers/1", FORM, b"", 400),
        ("/markers/1", {"Content-Type": "multipart/form-data; boundary=b"}, b'--b\r\n\r\nx\r\n--b--', 400),
        ("/a/b/c/d/e/f", FORM, b"", 404),
    ],
)  # fmt: skip
def test_what_cannot_be_answered(
    standin: StandIn, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    """Unknown models and paths, pictures that are none, parts of another name: a status and a JSON body each."""
    answer = HTTP.post(standin.url + path, headers=BEARER | headers, content=body)
    assert answer.status_code == status
    assert answer.json().keys() <= {"message", "detail"}


def test_a_body_too_large_and_a_wrong_number(standin: StandIn) -> None:
    """413 above the limit, 422 for a parameter that is no number."""
    answer = ask(standin, max_detections="many")
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["query", "max_detections"])
    standin.world.byte_limit = 100
    assert ask(standin).status_code == 413


def test_a_model_is_retired_between_two_calls(standin: StandIn) -> None:
    """A script line may begin after so many good answers; a retired model is simply not found."""
    standin.script("/markers/*", "status", status=404, after=1, times=None)
    assert [ask(standin).status_code for _ in range(3)] == [200, 404, 404]
    standin.world.models["echo/1"].retired = True
    assert ask(standin, "echo/1").status_code == 404


def test_flapping(standin: StandIn) -> None:
    """So many failures, then good again; lines for other paths and methods do not count."""
    standin.script("/echo/1", "status", status=500, times=9)
    standin.script("/markers/1", "status", method="GET", status=500)
    line = standin.script("/markers/1", "status", status=503, times=2)
    assert [ask(standin).status_code for _ in range(4)] == [503, 503, 200, 200]
    assert line.hits == 4
    assert [(r.status, r.fault) for r in standin.requests("/markers/1")][1:3] == [(503, "status"), (200, None)]


@pytest.mark.parametrize(
    "status", [400, 401, 402, 403, 404, 409, 413, 418, 422, 423, 425, 429, 500, 501, 502, 503, 504, 507]
)
def test_every_status(standin: StandIn, status: int) -> None:
    """Any status with any body and header."""
    standin.script("/markers/1", "status", status=status, body={"error": "text"}, headers={"X-Why": "test"})
    answer = ask(standin)
    assert (answer.status_code, answer.json(), answer.headers["x-why"]) == (status, {"error": "text"}, "test")


def test_retry_after_by_a_clock_that_is_wrong(standin: StandIn) -> None:
    """Seconds as they are; dates and the Date header by the server's skewed clock."""
    standin.clock_skew_s = -3600
    standin.script("/markers/1", "status", status=429, retry_after=7)
    standin.script("/markers/1", "status", status=429, retry_after=7, as_date=True)
    assert ask(standin).headers["retry-after"] == "7"
    answer = ask(standin)
    until, date = (email.utils.parsedate_to_datetime(answer.headers[n]).timestamp() for n in ("retry-after", "date"))
    assert 6 <= until - date <= 8
    assert -3700 < date - time.time() < -3500


@pytest.mark.parametrize(
    ("fault", "params", "error"),
    [
        ("reset", {}, httpx.ReadError),
        ("reset", {"when": "middle"}, httpx.ReadError),
        ("truncate", {"lie": True}, httpx.RemoteProtocolError),
    ],
)
def test_broken_connections(standin: StandIn, fault: str, params: dict[str, Any], error: type[Exception]) -> None:
    """The connection ends before, in the middle of or short of the answer; the request was carried out and is recorded."""
    standin.script("/markers/1", fault, **params)
    with pytest.raises(error):
        ask(standin)
    assert standin.requests("/markers/1")[0].fault == fault
    assert ask(standin).status_code == 200


def test_a_half_upload_is_cut(standin: StandIn) -> None:
    """Only half of the body is read; nothing is kept but the record."""
    standin.script("/dataset/faces/upload", "reset", when="upload")
    with pytest.raises(httpx.TransportError):
        HTTP.post(f"{standin.url}/dataset/faces/upload", headers=BEARER, files={"file": bytes(3_000_000)})
    record = standin.requests("/dataset/faces/upload")[0]
    assert 0 < record.body_size < 3_000_000
    assert record.status is None


@pytest.mark.parametrize(
    ("fault", "params", "content_type"),
    [("truncate", {}, "application/json"), ("html", {"status": 200}, "text/html"), ("html", {}, "text/html")],
)
def test_bodies_that_are_no_json(standin: StandIn, fault: str, params: dict[str, Any], content_type: str) -> None:
    """A body of the right length that is cut or is a gateway's page."""
    standin.script("/markers/1", fault, **params)
    answer = ask(standin)
    assert (answer.status_code, answer.headers["content-type"]) == (
        200 if params or fault == "truncate" else 502,
        content_type,
    )
    with pytest.raises(json.JSONDecodeError):
        answer.json()


@pytest.mark.parametrize(
    ("fault", "params", "check"),
    [
        ("wrong_size", {"width": 7, "height": 9}, lambda p: p["image"] == {"width": 7, "height": 9}),
        ("boxes", {"n": 10_000}, lambda p: len(p["predictions"]) == 300),
        ("boxes", {"n": 10_000, "beyond": True}, lambda p: len(p["predictions"]) == 10_000),
        ("edit", {"fields": {"x": math.nan}}, lambda p: math.isnan(p["predictions"][0]["x"])),
        ("edit", {"fields": {"width": -4}}, lambda p: p["predictions"][0]["width"] == -4),
        ("edit", {"fields": {"class": "unicorn"}}, lambda p: p["predictions"][0]["class"] == "unicorn"),
        ("drop", {}, lambda p: "predictions" not in p and "image" in p),
        ("body", {"body": []}, lambda p: p == []),
    ],
)
def test_answers_that_lie(standin: StandIn, fault: str, params: dict[str, Any], check: Any) -> None:
    """200, well-formed and wrong."""
    standin.script("/markers/1", fault, **params)
    assert check(ask(standin).json())


def test_redirect_and_flood(standin: StandIn) -> None:
    """Another host in Location; megabytes without a length."""
    standin.script("/markers/1", "redirect", location="http://127.0.0.2:9/markers/1")
    assert ask(standin).headers["location"] == "http://127.0.0.2:9/markers/1"
    standin.script("/markers/1", "flood", n_bytes=3_000_000)
    answer = ask(standin)
    assert "content-length" not in answer.headers
    assert len(answer.content) > 3_000_000


@pytest.mark.parametrize("fault", ["stall", "slow_body"])
def test_a_stall_ends_with_the_test(standin: StandIn, fault: str) -> None:
    """A caller's time-out meets the stall; a caller that waits is answered as soon as the server is reset."""
    standin.script("/markers/1", fault, seconds=30, times=2)
    with pytest.raises(httpx.ReadTimeout):
        HTTP.post(f"{standin.url}/markers/1", headers=BEARER, files={"file": picture()}, timeout=0.2)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, standin)
        while len(standin.requests("/markers/1")) < 2:
            time.sleep(0.01)
        standin.reset()
        assert only(waiting.result(timeout=10))["class"] == "face"


def test_an_unknown_fault_is_refused() -> None:
    """A misspelt fault names the known ones."""
    with pytest.raises(ValueError, match="zip_slip"):
        Fault("explode")
    assert all(Fault(kind).kind == kind for kind in KINDS)


def test_every_request_is_recorded(standin: StandIn) -> None:
    """Method, path, query, headers, size and hash; the body when it is wanted; nothing after a reset."""
    standin.keep_bodies = True
    HTTP.post(f"{standin.url}/echo/1?a=1&a=2&b=x%20y", headers=BEARER | FORM | {"X-Mine": "Yes"}, content=b"abc")
    record = standin.requests()[0]
    assert (record.method, record.path, record.raw_query) == ("POST", "/echo/1", "a=1&a=2&b=x%20y")
    assert (record.query, record.headers["x-mine"]) == ({"a": "2", "b": "x y"}, "Yes")
    assert (record.body_size, record.body, record.status) == (3, b"abc", 400)
    assert record.body_sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert standin.requests("/echo/*", "GET") == []
    standin.reset()
    assert standin.requests() == []


def test_sixteen_at_one_time(standin: StandIn) -> None:
    """Sixteen requests are inside together (none is answered before all have arrived), each answered with its own."""
    together = threading.Barrier(16, timeout=20)

    def look(pixels: Any, floor: float) -> list[Seen]:
        together.wait()
        return [Seen((0, 0, pixels.shape[1], pixels.shape[0]), floor, 0)]

    standin.world.models["slow/1"] = Model("slow/1", look)

    def call(number: int) -> tuple[int, float]:
        data = bytes(cv2.imencode(".png", np.zeros((10, 20 + number, 3), np.uint8))[1])
        prediction = only(ask(standin, "slow/1", data, confidence=(number + 1) / 100))
        return int(prediction["width"]) - 20, prediction["confidence"]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call, range(16))) == [(n, (n + 1) / 100 if n else 0.01) for n in range(16)]
    assert standin.peak == 16


def test_connections_are_kept(standin: StandIn) -> None:
    """HTTP/1.1 keep-alive: one client's calls share one connection, also after errors."""
    standin.sleep_s = 0
    with httpx.Client(headers=BEARER) as client:
        for model in ("echo/1", "nothing/1", "echo/1"):
            client.post(f"{standin.url}/{model}", files={"file": picture()})
    assert len({r.client for r in standin.requests()}) == 1


def test_sleep_only(standin: StandIn) -> None:
    """Without a detector: no face is found, sizes are true and the echo still echoes."""
    standin.sleep_s = 0.0
    assert ask(standin).json()["predictions"] == []
    assert only(ask(standin, "echo/1", confidence=0.37))["confidence"] == 0.37


def archive(standin: StandIn, fmt: str = "yolov8") -> httpx.Response:
    """Export ``faces/1`` and fetch its link."""
    export = HTTP.get(f"{standin.url}/stand-in/faces/1/{fmt}", headers=BEARER).json()["export"]
    assert export["format"] == fmt
    return HTTP.get(export["link"])


def test_an_archive_and_its_hashes(standin: StandIn) -> None:
    """The link needs no key, gives a sound zip each time the same, and says its MD5 as a bucket does."""
    answer = archive(standin)
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert {"data.yaml", "train/images/picture_1.jpg", "valid/labels/picture_5.txt"} <= set(names)
    assert archive(standin).content == answer.content
    assert answer.headers["x-goog-hash"].startswith("md5=")
    assert HTTP.get(f"{standin.url}/ds/0123?key=wrong").status_code == 404


def test_archives_not_to_be_trusted(standin: StandIn) -> None:
    """Climbing names, a link out, a bomb, flipped content, a wrong hash, half a file."""

    def under(fault: str) -> tuple[zipfile.ZipFile, httpx.Response]:
        standin.script("/ds/*", fault)
        answer = archive(standin)
        return zipfile.ZipFile(io.BytesIO(answer.content)), answer

    assert "../../slipped.txt" in under("zip_slip")[0].namelist()
    link = under("zip_symlink")[0].getinfo("train/outside")
    assert link.external_attr >> 28 == 0xA
    bomb, answer = under("zip_bomb")
    assert sum(i.file_size for i in bomb.infolist()) > 300 * len(answer.content)
    assert under("zip_bad_crc")[0].testzip() == "train/images/picture_1.jpg"
    sound, answer = under("wrong_hash")
    assert sound.testzip() is None
    assert answer.headers["etag"] != archive(standin).headers["etag"]
    with pytest.raises(zipfile.BadZipFile):
        under("truncate")


def test_a_confirmed_upload_that_was_not_kept(standin: StandIn) -> None:
    """``pretend`` says success and keeps nothing: only counting finds it."""
    standin.script("/dataset/faces/upload", "pretend")
    answer = HTTP.post(f"{standin.url}/dataset/faces/upload", headers=BEARER, files={"file": picture()})
    assert answer.json()["success"] is True
    assert standin.world.projects["stand-in/faces"].images == {}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/stand-in/faces/generate", {"preprocessing": {}}, 400),
        ("POST", "/stand-in/faces/generate", [], 400),
        ("GET", "/stand-in/faces/1/no-format", None, 400),
        ("GET", "/stand-in/faces/9", None, 404),
        ("GET", "/nobody", None, 404),
        ("POST", "/stand-in/faces/1/v2/trainings", {"modelType": "unicorn"}, 400),
        ("POST", "/stand-in/faces/1/v2/trainings", {"modelType": "yolov8n", "epochs": 0}, 400),
        ("GET", "/stand-in/faces/1/v2/trainings/get", None, 404),
        ("GET", "/stand-in/faces/1/training/results", None, 404),
        ("POST", "/stand-in/projects", {"name": "x"}, 400),
        ("POST", "/stand-in/projects", {"name": "Faces", "type": "t", "license": "l", "annotation": "a"}, 409),
        ("POST", "/dataset/faces/annotate/no-image?name=a", {"annotationFile": "x"}, 404),
        ("GET", "/stand-in/model-evals/none", None, 404),
    ],
)
def test_what_management_refuses(standin: StandIn, method: str, path: str, body: Any, status: int) -> None:
    """Each wrong request has its status and an ``error`` in the body."""
    answer = HTTP.request(method, standin.url + path, headers=BEARER, json=body)
    assert answer.status_code == status
    assert "error" in answer.json()


def test_trainings_are_told_apart_and_steered(standin: StandIn) -> None:
    """Two runs of a version need an id; a held run stays where it is; an evaluation opens when its run is done."""
    base = f"{standin.url}/stand-in/faces/1"
    ids = [HTTP.post(f"{base}/v2/trainings", headers=BEARER, json={}).json()["trainingId"] for _ in range(2)]
    assert HTTP.get(f"{base}/v2/trainings/get", headers=BEARER).status_code == 409
    standin.world.steer(ids[0], "running")

    def state() -> str:
        return str(HTTP.get(f"{base}/v2/trainings/get?trainingId={ids[0]}", headers=BEARER).json()["status"])

    panel = f"{standin.url}/stand-in/model-evals/eval-{ids[0]}/map-results"
    assert [state() for _ in range(5)] == ["running"] * 5
    assert HTTP.get(panel, headers=BEARER).json()["error"] == "model_eval_not_done"
    standin.world.steer(ids[0], "finished")
    assert state() == "finished"
    assert HTTP.get(panel, headers=BEARER).json()["splits"]["test"]["map50"] == 0.915
    listed = HTTP.get(f"{base}/v2/trainings", headers=BEARER).json()["trainings"]
    assert [(t["id"], t["status"]) for t in listed] == [(ids[0], "finished"), (ids[1], "queued")]


def test_another_process_and_the_control_endpoint() -> None:
    """Started as a command it says where it is; scripts, settings, records and misspelt orders go over HTTP."""
    folder = Path(__file__).parent / "standin"
    with subprocess.Popen([sys.executable, str(folder), "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url, _, key = process.stdout.readline().split()

            def order(name: str, **params: Any) -> Any:
                return HTTP.post(f"{url}/_standin/{name}", json=params).json()

            def look() -> httpx.Response:
                return HTTP.post(f"{url}/echo/1?api_key={key}", files={"file": picture()})

            assert order("script", path="/echo/1", fault="status", status=503) == {"ok": True}
            assert order("set", sleep_s=0, running_polls=5) == {"ok": True}
            assert [look().status_code for _ in range(2)] == [503, 200]
            assert [r["status"] for r in order("requests")] == [503, 200]
            assert order("peak") == {"peak": 1}
            assert order("retire", model_id="echo/1") == {"ok": True}
            assert look().status_code == 404
            for name, params in (("set", {"nothing": 1}), ("script", {"path": "/"}), ("dance", {}), ("training", {})):
                assert "error" in order(name, **params)
            assert order("reset") == {"ok": True}
            assert order("requests") == []
        finally:
            process.terminate()


def test_the_package_does_not_know_it() -> None:
    """Nothing in the package names the stand-in."""
    package = Path(airflow_facefog.__file__).parent
    assert [p for p in package.rglob("*.py") if re.search(r"stand[-_]?in\b", p.read_text(encoding="utf-8"))] == []
