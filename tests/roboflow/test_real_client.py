"""The real ``roboflow`` client against the stand-in: the stand-in speaks as the client expects, and the client's faults show.

Each fault has its reason for being here: our own way of asking avoids it, and a client that mends it would let us know.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import roboflow
from PIL import Image
from roboflow.adapters import rfapi
from roboflow.adapters.rfapi import ImageUploadError, RoboflowError
from roboflow.core.training import TrainedModel
from standin import GOOD_KEY, MARKER_BGR, WORKSPACE, StandIn

URLS = ("API_URL", "APP_URL", "UNIVERSE_URL", "OBJECT_DETECTION_URL", "INSTANCE_SEGMENTATION_URL", "SERVERLESS_URL")
MARKER = (200, 100, 280, 180)
"""xyxy in px of the 320x240 picture: where the painted marker is."""


@pytest.fixture
def client(standin: StandIn, tmp_path: Path) -> Iterator[roboflow.Roboflow]:
    """The real client, sent to the stand-in and back again afterwards; it works in an empty folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name in URLS:
            patch.setenv(name, standin.url)
        patch.setenv("no_proxy", "*")
        patch.setenv("ROBOFLOW_CONFIG_DIR", str(tmp_path / "no-config.json"))
        patch.chdir(tmp_path)
        roboflow.config.refresh_region_urls()
        yield roboflow.Roboflow(GOOD_KEY)
        rfapi._upload_session().close()
    roboflow.config.refresh_region_urls()


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's fixed pauses of 1 and 5 seconds pass at once."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def paint(path: Path, colour: str = "magenta", orientation: int = 1) -> str:
    """A 320x240 picture with one marker, stored turned so that ``orientation`` puts it upright."""
    pixels = np.full((240, 320, 3), 120, np.uint8)
    x1, y1, x2, y2 = MARKER
    pixels[y1:y2, x1:x2] = MARKER_BGR[colour]
    picture = Image.fromarray(pixels[:, :, ::-1])
    if orientation == 6:
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path, quality=95, exif=exif)
    return str(path)


def boxes(group: Any) -> list[tuple[float, float, float, float]]:
    """Corners of the client's predictions."""
    found = [p.json() for p in group.predictions]
    return [
        (p["x"] - p["width"] / 2, p["y"] - p["height"] / 2, p["x"] + p["width"] / 2, p["y"] + p["height"] / 2)
        for p in found
    ]


def legacy_model(client: roboflow.Roboflow, project: str, version: int) -> Any:
    """``version.model``: deprecated, and what every tutorial uses."""
    with pytest.warns(DeprecationWarning, match="version.model is deprecated"):
        return client.workspace().project(project).version(version).model


def test_from_key_to_project(client: roboflow.Roboflow) -> None:
    """Key, workspace, project and versions come through with every field the client insists on."""
    workspace = client.workspace()
    project = workspace.project("faces")
    assert client.current_workspace == WORKSPACE
    assert "stand-in/faces" in workspace.projects()
    assert project.classes == {"face": 6}
    assert [v.id for v in project.versions()] == ["stand-in/faces/1", "stand-in/faces/2"]
    assert client.project("universe-people/open-faces").id == "universe-people/open-faces"


def test_a_real_face_comes_back(client: roboflow.Roboflow, tmp_path: Path) -> None:
    """The embedded detector stands behind the route: the bundled portrait's face is found where it is."""
    from airflow_facefog.detectors.canary import bundled

    portrait = bundled()
    cv2.imwrite(str(tmp_path / "portrait.png"), portrait.picture)
    group = legacy_model(client, "faces", 2).predict(str(tmp_path / "portrait.png"))
    assert portrait.xyxy is not None
    assert boxes(group)[0] == pytest.approx(portrait.xyxy, abs=4)
    assert group.predictions[0]["class"] == "face"


@pytest.mark.parametrize("kind", ["path", "ndarray", "trained"])
def test_predict_in_three_ways(client: roboflow.Roboflow, tmp_path: Path, kind: str) -> None:
    """Base64 PNG, base64 JPEG and multipart bodies give the marker's box."""
    path = paint(tmp_path / "a.png")
    if kind == "trained":
        group = TrainedModel(GOOD_KEY, WORKSPACE, "markers", "markers/1").predict(path)
    else:
        group = legacy_model(client, "markers", 1).predict(path if kind == "path" else cv2.imread(path))
    assert boxes(group) == [pytest.approx(MARKER, abs=1)]


def test_an_array_means_bgr_here_and_rgb_there(client: roboflow.Roboflow, tmp_path: Path) -> None:
    """Known fault: the same array is taken as BGR by the legacy model and as RGB by TrainedModel."""
    pixels = cv2.imread(paint(tmp_path / "red.png", "red"))
    legacy = legacy_model(client, "markers", 1).predict(pixels)
    trained = TrainedModel(GOOD_KEY, WORKSPACE, "markers", "markers/1").predict(pixels)
    assert [p["class"] for p in legacy.predictions] == ["license_plate"]
    assert [p["class"] for p in trained.predictions] == ["red"]


def test_small_picture_and_stretch_give_wrong_boxes(client: roboflow.Roboflow, tmp_path: Path) -> None:
    """Known fault: a picture smaller than "Stretch to" is not resized, but its boxes are scaled back all the same."""
    path = paint(tmp_path / "small.png")
    wrong = boxes(legacy_model(client, "markers", 2).predict(path))[0]
    x1, y1, x2, y2 = MARKER
    assert wrong == pytest.approx((x1 / 2, y1 * 240 / 640, x2 / 2, y2 * 240 / 640), abs=2)
    right = boxes(TrainedModel(GOOD_KEY, WORKSPACE, "markers", "markers/2").predict(path))[0]
    assert right == pytest.approx(MARKER, abs=1)


def test_orientation_is_lost(client: roboflow.Roboflow, standin: StandIn, tmp_path: Path) -> None:
    """Known fault: the client sends the stored frame without EXIF; the file itself is answered in the upright frame."""
    path = Path(paint(tmp_path / "turned.jpg", orientation=6))
    client_box = boxes(legacy_model(client, "markers", 1).predict(str(path)))[0]
    x1, y1, x2, y2 = MARKER
    assert client_box == pytest.approx((y1, 320 - x2, y2, 320 - x1), abs=1)
    headers = {"Authorization": f"Bearer {GOOD_KEY}"}
    answer = httpx.post(f"{standin.url}/markers/1", headers=headers, files={"file": path.read_bytes()}).json()
    assert answer["image"] == {"width": 320, "height": 240}
    assert (answer["predictions"][0]["x"], answer["predictions"][0]["y"]) == pytest.approx(
        ((x1 + x2) / 2, (y1 + y2) / 2), abs=1
    )


def test_three_hundred_and_no_word(client: roboflow.Roboflow, standin: StandIn, tmp_path: Path) -> None:
    """Known fault: of 500 objects the client gets 300 and cannot tell."""
    standin.script("/markers/1", "boxes", n=500)
    group = legacy_model(client, "markers", 1).predict(paint(tmp_path / "crowd.png"))
    assert len(group.predictions) == 300


@pytest.mark.parametrize("status", [401, 402, 403, 404, 429, 500, 503])
def test_the_key_is_in_the_error_text(client: roboflow.Roboflow, standin: StandIn, tmp_path: Path, status: int) -> None:
    """Known fault: every failed predict prints the key; nothing is tried again and Retry-After is not read."""
    standin.script("/faces/2", "status", status=status, retry_after=1)
    model = legacy_model(client, "faces", 2)
    with pytest.raises(Exception, match=GOOD_KEY):
        model.predict(paint(tmp_path / "a.png"))
    assert len(standin.requests("/faces/2")) == 1


def test_wrong_key(client: roboflow.Roboflow, standin: StandIn) -> None:
    """A revoked key is told as the API's body."""
    with pytest.raises(RuntimeError, match="does not exist"):
        roboflow.Roboflow("no-such-key")


@pytest.mark.usefixtures("no_waiting")
def test_key_check_loses_the_status(client: roboflow.Roboflow, standin: StandIn) -> None:
    """Known fault: 403 is asked six times and then told as "an error"."""
    standin.script("/", "status", status=403, times=None)
    with pytest.raises(RuntimeError, match="error validating the api key"):
        roboflow.Roboflow(GOOD_KEY)
    assert [r.status for r in standin.requests("/", "POST")][1:] == [403] * 6


def test_upload_keeps_every_byte(client: roboflow.Roboflow, standin: StandIn, tmp_path: Path) -> None:
    """A picture is uploaded as it is (with its EXIF), known the second time, annotated once."""
    path = paint(tmp_path / "a.jpg", orientation=6)
    project = client.workspace().project("faces")
    first = project.upload(path, split="valid", batch_name="night", tag_names=["one", "two"])[0]["image"]
    second = project.upload(path)[0]["image"]
    assert first["success"] is True
    assert (second["duplicate"], second["id"]) == (True, first["id"])
    stored = standin.world.projects["stand-in/faces"].images[first["id"]]
    assert stored.data == Path(path).read_bytes()
    assert Image.open(io.BytesIO(stored.data)).getexif()[0x0112] == 6
    assert (stored.name, stored.split, stored.batch, stored.tags) == ("a.jpg", "valid", "night", ["one", "two"])
    notes = tmp_path / "a.txt"
    notes.write_text("0 0.5 0.5 0.1 0.1")
    assert project.save_annotation(str(notes), image_id=first["id"])[0] == {"success": True}
    assert project.save_annotation(str(notes), image_id=first["id"])[0] == {"warn": "already annotated"}


def test_a_refused_upload_crashes_the_client(client: roboflow.Roboflow, tmp_path: Path) -> None:
    """Known fault: ``{"error": "text"}`` ends in an AttributeError, not in an upload error."""
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    project = client.workspace().project("faces")
    with pytest.raises(AttributeError, match="'str' object has no attribute 'get'"):
        project.upload(str(broken))


def test_an_upload_that_is_cut_off(client: roboflow.Roboflow, standin: StandIn, tmp_path: Path) -> None:
    """A connection lost half-way keeps nothing; one lost after the last byte keeps the picture and calls it a duplicate."""
    path = paint(tmp_path / "a.jpg")
    project = client.workspace().project("faces")
    images = standin.world.projects["stand-in/faces"].images
    standin.script("/dataset/faces/upload", "reset", when="upload")
    with pytest.raises(ImageUploadError):
        project.upload(path)
    assert images == {}
    standin.script("/dataset/faces/upload", "reset")
    with pytest.raises(ImageUploadError):
        project.upload(path)
    assert len(images) == 1
    assert project.upload(path)[0]["image"]["duplicate"] is True


def test_a_data_set_is_half_uploaded_without_an_error(
    client: roboflow.Roboflow, standin: StandIn, tmp_path: Path
) -> None:
    """Known fault: pictures that were refused are only printed; the call returns as if all had arrived."""
    dataset = client.workspace().project("faces").version(1).download("yolov8", str(tmp_path / "data"))
    standin.script("/dataset/night/upload", "status", status=503, times=2, body={"message": "try again"})
    assert client.workspace().upload_dataset(dataset.location, "night", num_workers=3) is None
    night = standin.world.projects["stand-in/night"]
    assert len(standin.requests("/dataset/night/upload")) == 6
    assert len(night.images) == 4
    assert all(i.annotation == "0 0.4375 0.5 0.375 0.5\n" for i in night.images.values())
    assert (night.license, night.public) == ("MIT", True)


def test_a_url_is_uploaded_for_the_cloud_to_fetch(client: roboflow.Roboflow, standin: StandIn) -> None:
    """A hosted picture travels as a URL: the record shows it, and no bytes."""
    answer = client.workspace().project("faces").upload("https://pictures.example/a.jpg")[0]["image"]
    stored = standin.world.projects["stand-in/faces"].images[answer["id"]]
    assert (stored.name, stored.data) == ("a.jpg", b"")
    assert standin.requests("/dataset/faces/upload")[0].query["image"] == "https://pictures.example/a.jpg"


@pytest.mark.usefixtures("no_waiting")
def test_a_version_is_generated(client: roboflow.Roboflow, standin: StandIn) -> None:
    """A new version has the next number, is waited for while it is generated, and keeps its settings."""
    standin.world.generating_polls = standin.world.export_polls = 2
    project = client.workspace().project("faces")
    settings = {"preprocessing": {"auto-orient": True}, "augmentation": {"flip": {"horizontal": True}}}
    assert project.generate_version(settings) == 3
    version = project.version(3)
    assert (version.augmentation, version.images) == ({"flip": {"horizontal": True}}, 0)
    assert version.export("coco") is True
    assert len(standin.requests("/stand-in/faces/3")) == 2
    assert [r.status for r in standin.requests("/stand-in/faces/3/coco")] == [202, 202, 200]


def test_an_unknown_version(client: roboflow.Roboflow) -> None:
    """A version that is not there, and a project that is not there, are errors."""
    workspace = client.workspace()
    with pytest.raises(RuntimeError, match="Version number 99 is not found"):
        workspace.project("faces").version(99)
    with pytest.raises(RoboflowError, match="does not exist"):
        workspace.project("nothing")


@pytest.mark.parametrize(
    ("fmt", "file"), [("yolov8", "train/labels/picture_1.txt"), ("coco", "train/_annotations.coco.json")]
)
def test_a_dataset_is_downloaded(client: roboflow.Roboflow, tmp_path: Path, fmt: str, file: str) -> None:
    """A public dataset arrives unpacked, in the format that was asked for."""
    version = client.project("universe-people/open-faces").version(1)
    dataset = version.download(fmt, str(tmp_path / "data"))
    assert (Path(dataset.location) / file).stat().st_size > 0
    assert len(list(Path(dataset.location).rglob("*.jpg"))) == 6


def test_a_broken_download_succeeds_the_second_time(
    client: roboflow.Roboflow, standin: StandIn, tmp_path: Path
) -> None:
    """Known fault: the folder that a failed download leaves behind is the dataset of the next try."""
    standin.script("/ds/*", "status", status=404)
    version = client.workspace().project("faces").version(1)
    with pytest.raises(Exception, match="zip"):
        version.download("yolov8", str(tmp_path / "data"))
    again = version.download("yolov8", str(tmp_path / "data"))
    assert os.listdir(again.location) == ["roboflow.zip"]


def test_a_training_from_first_to_last(client: roboflow.Roboflow, standin: StandIn, tmp_path: Path) -> None:
    """Queued, running, finished; another client finds the run again; its model answers and has its numbers."""
    version = client.workspace().project("markers").version(1)
    training = version.create_training(model_type="yolov8n", epochs=4)
    states = [training.status, *(training.refresh().status for _ in range(4))]
    assert states == ["queued", "queued", "running", "running", "finished"]
    again = roboflow.Roboflow(GOOD_KEY).workspace().project("markers").version(1).trainings()
    assert [(t.training_id, t.status) for t in again] == [(training.training_id, "finished")]
    model = again[0].models[0]
    assert (model.model_id, model.metrics["map50"]) == ("markers/1", 0.915)
    assert boxes(model.predict(paint(tmp_path / "a.png"))) == [pytest.approx(MARKER, abs=1)]
    evaluation = client.workspace().evals(project="markers")[0]
    assert evaluation.summary["mAP"] == evaluation.map_results()["splits"]["test"]["map50"] == 0.915


def test_a_new_versions_model_answers_once_it_is_trained(
    client: roboflow.Roboflow, standin: StandIn, tmp_path: Path
) -> None:
    """Before its training has finished a version's model is not found; afterwards it answers."""
    standin.world.queued_polls = standin.world.running_polls = 0
    project = client.workspace().project("faces")
    version = project.version(project.generate_version({"preprocessing": {}, "augmentation": {}}))
    assert legacy_model(client, "faces", 3) is None
    training = version.create_training(model_type="yolov8n")
    model = TrainedModel(GOOD_KEY, WORKSPACE, "faces", "faces/3")
    path = paint(tmp_path / "a.png")
    with pytest.raises(Exception, match="404"):
        model.predict(path)
    training.refresh()
    assert model.predict(path).predictions == []


@pytest.mark.parametrize(("order", "status"), [("stop", "stopped"), ("cancel", "cancelled")])
def test_a_training_is_ended(client: roboflow.Roboflow, order: str, status: str) -> None:
    """A run that was stopped or cancelled stays so, and cannot be ended twice."""
    training = client.workspace().project("faces").version(1).create_training(model_type="yolov8n")
    getattr(training, order)()
    assert [training.refresh().status for _ in range(3)] == [status] * 3
    with pytest.raises(RoboflowError, match=status):
        getattr(training, order)()


def test_a_training_fails(client: roboflow.Roboflow, standin: StandIn) -> None:
    """A failed run says so and has no model."""
    standin.world.training_outcome = "failed"
    training = client.workspace().project("faces").version(1).create_training(model_type="yolov8n")
    assert [training.refresh().status for _ in range(4)][-1] == "failed"
    assert training.models == []
    assert "error" in rfapi.get_training_results(GOOD_KEY, WORKSPACE, "faces", "1")


def test_train_crashes(client: roboflow.Roboflow, standin: StandIn) -> None:
    """Known fault: ``train`` without a model type crashes, and ``project.train`` has made a billable version by then."""
    project = client.workspace().project("faces")
    with pytest.raises(TypeError, match="NoneType"):
        project.version(1).train()
    with pytest.raises(TypeError, match="NoneType"):
        project.train()
    assert list(standin.world.projects["stand-in/faces"].versions) == ["1", "2", "3"]
    assert standin.requests("*/train") == []


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("outcome", ["finished", "failed"])
def test_legacy_train_and_its_curves(client: roboflow.Roboflow, standin: StandIn, outcome: str) -> None:
    """The legacy call follows the run through the version; the curves per epoch rise to the result. Failed is only printed."""
    standin.world.training_outcome = outcome
    model = client.workspace().project("faces").version(1).train(model_type="yolov8n", epochs=6)
    assert model.id == "stand-in/faces/1"
    curve = rfapi.get_version(GOOD_KEY, WORKSPACE, "faces", "1")["version"]["models"]["roboflow-train"]["epochs"]
    assert [e["epoch"] for e in curve] == list(range(1, 7 if outcome == "finished" else 4))
    assert [e["mAP"] for e in curve] == sorted(e["mAP"] for e in curve)
    assert math.isclose(curve[-1]["mAP"], 0.915) == (outcome == "finished")


def test_search_universe(client: roboflow.Roboflow) -> None:
    """Words are found in names and classes, pages and types are kept."""
    found = rfapi.search_universe("face open")
    assert [hit["id"] for hit in found["results"]] == ["universe-people/open-faces"]
    assert found["results"][0]["url"] == "https://universe.roboflow.com/universe-people/open-faces"
    assert rfapi.search_universe("face", project_type="classification")["results"] == []
    pages = [rfapi.search_universe("face", limit=1, page=n)["results"][0]["id"] for n in (1, 2)]
    assert len(set(pages)) == 2


def test_projects_are_made_and_searched(client: roboflow.Roboflow, tmp_path: Path) -> None:
    """A new project takes uploads, and a search finds them by tag."""
    project = client.workspace().create_project("Night Faces", "object-detection", "Private", "face")
    assert (project.id, project.public) == ("stand-in/night-faces", False)
    project.upload(paint(tmp_path / "a.jpg"), tag_names=["quarantine"])
    assert [hit["name"] for hit in project.search(tag="quarantine")] == ["a.jpg"]
    assert project.search(tag="other") == []
