"""Uploads: only pixels leave, each recorded before it does, none twice, none to a wider circle than was chosen."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hookkit import api_to
from PIL import Image
from standin import GOOD_KEY, StandIn
from upath import UPath

from airflow_facefog.audit.parquet import from_parquet
from airflow_facefog.core.errors import ConfigurationError, FogError, StoreError, TransientError
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy, Limits
from airflow_facefog.core.raw import RawImage
from airflow_facefog.hooks import roboflow_upload
from airflow_facefog.hooks.roboflow_api import ProjectRef
from airflow_facefog.hooks.roboflow_candidates import RunSelection, from_run, from_source
from airflow_facefog.hooks.roboflow_upload import Candidate, Egress, UploadRequest, only_pixels, upload_all
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.model import Attempt, Place, PlanRequest, RunIdentity, open_root_plain
from airflow_facefog.job.plan import make_plan
from airflow_facefog.publish.store import Store

FACES = ProjectRef("stand-in", "faces")
KEYS = KeyRing.from_master(bytes(range(32)))
NAME = "anna-miller-at-home"


@pytest.fixture
def project(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in's project, private; counting does not wait."""
    monkeypatch.setattr(roboflow_upload, "COUNT_WAIT_S", 0.0)
    found = standin.world.projects["stand-in/faces"]
    found.public = False
    return found


@pytest.fixture
def audit(tmp_path: Path) -> Store:
    """An audit store."""
    (tmp_path / "audit").mkdir()
    return Store(UPath(tmp_path / "audit"))


def _pixels(seed: int, width: int = 64, height: int = 48) -> Any:
    ramp = np.linspace(seed * 9 % 200, 200, width, dtype=np.uint8)
    return np.dstack([np.tile(ramp, (height, 1)), np.full((height, width), seed, np.uint8), np.tile(ramp, (height, 1))])


def _photo(seed: int, width: int = 64, height: int = 48, orientation: int = 1) -> bytes:
    """A JPEG as cameras make it: orientation, GPS, maker, an unfogged thumbnail's place."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "GPS-SECRET-MAKER"
    exif.get_ifd(0x8825)[1] = "N"
    out = io.BytesIO()
    Image.fromarray(_pixels(seed, width, height)).save(out, "JPEG", quality=90, exif=exif)
    return out.getvalue()


def _candidates(seeds: Sequence[int]) -> list[Candidate]:
    def reader(seed: int) -> Any:
        return lambda: RawImage(data, KEYS.image_id(data)) if (data := _photo(seed)) else None

    return [Candidate(KEYS.source_ref(f"file:///raw/{NAME}-{seed}.jpg"), reader(seed)) for seed in seeds]


def _request(**options: Any) -> UploadRequest:
    return UploadRequest(FACES, **{"privacy": "private", "split": "train", "batch": "b", **options})


def _egress(audit: Store, attempt: str = "try-1") -> Egress:
    return Egress(audit, "ab" * 16, 0, attempt)


def _rows(audit: Store) -> list[dict[str, Any]]:
    keys = [key for key in audit.list("egress") if key.endswith(".parquet")]
    return [row for key in keys for row in from_parquet("facefog_egress", audit.read(key))]


def test_only_pixels_leave(standin: StandIn, project: Any, audit: Store) -> None:
    """No EXIF, no GPS, no source name; the upright picture itself is what arrives."""
    counts = upload_all(api_to(standin), _request(tags=("t",)), _candidates([1, 2, 3]), _egress(audit), KEYS)
    assert counts == {"listed": 3, "uploaded": 3, "duplicates": 0, "known": 0, "refused": 0, "annotated": 0,
                      "bytes": counts["bytes"]}  # fmt: skip
    for image in project.images.values():
        assert b"GPS-SECRET" not in image.data
        assert b"Exif" not in image.data
        assert NAME not in image.name
        assert not Image.open(io.BytesIO(image.data)).getexif()
    sent = {
        round(float(cv2.imdecode(np.frombuffer(i.data, np.uint8), 1)[:, :, 1].mean())) for i in project.images.values()
    }
    assert sent == {1, 2, 3}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_is_sent_is_upright(orientation: int) -> None:
    """Boxes drawn by people in Roboflow fit the picture as it is seen here."""
    raw = _photo(5, 64, 48, orientation)
    data, kind, _ = only_pixels(RawImage(raw, "x"), Limits())
    assert kind == "image/jpeg"
    assert Image.open(io.BytesIO(data)).size == ((64, 48) if orientation < 5 else (48, 64))


def test_what_roboflow_does_not_take_is_sent_as_png() -> None:
    """A TIFF keeps its pixels."""
    raw = bytes(cv2.imencode(".tiff", _pixels(3))[1])
    data, kind, suffix = only_pixels(RawImage(raw, "x"), Limits())
    assert (kind, suffix) == ("image/png", "png")
    assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), 1), _pixels(3))


def test_every_picture_is_recorded_before_it_leaves(
    standin: StandIn, project: Any, audit: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the moment of sending, its row is durable: number, id, host, project, bytes, attempt."""
    api = api_to(standin)
    real = api.upload

    def spying(ref: Any, name: str, data: bytes, kind: str, **more: Any) -> Any:
        assert len(data) in {row["bytes"] for row in _rows(audit)}
        return real(ref, name, data, kind, **more)

    monkeypatch.setattr(api, "upload", spying)
    candidates = _candidates([1, 2, 3])
    upload_all(api, _request(), candidates, _egress(audit), KEYS)
    rows = _rows(audit)
    assert {row["source_ref"] for row in rows} == {candidate.source_ref for candidate in candidates}
    assert {(r["kind"], r["host"], r["project"], r["attempt_id"]) for r in rows} == {
        ("upload", "127.0.0.1", "stand-in/faces", "try-1")
    }
    assert sorted(r["egress_idx"] for r in rows) == [0, 1, 2]
    assert {r["image_id"] for r in rows} == {KEYS.image_id(_photo(seed)) for seed in (1, 2, 3)}


def test_without_a_record_nothing_leaves(
    standin: StandIn, project: Any, audit: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit is down: so is the upload."""

    def down(key: str, data: bytes) -> bool:
        raise StoreError("the disk is full")

    monkeypatch.setattr(audit, "create", down)
    with pytest.raises(StoreError):
        upload_all(api_to(standin), _request(), _candidates([1]), _egress(audit), KEYS)
    assert standin.requests("/dataset/*") == []


def test_a_retry_sends_only_what_was_not_confirmed(standin: StandIn, project: Any, audit: Store) -> None:
    """The first try breaks in the middle; the second sends the rest; nothing is there twice."""
    standin.script("/dataset/faces/upload", "status", status=403, after=2, times=None)
    with pytest.raises(ConfigurationError):
        upload_all(api_to(standin, concurrency=1), _request(), _candidates(range(5)), _egress(audit), KEYS)
    world = standin.world
    standin.reset()
    standin.world = world
    counts = upload_all(api_to(standin), _request(), _candidates(range(5)), _egress(audit, "try-2"), KEYS)
    assert (counts["known"], counts["uploaded"]) == (2, 3)
    assert len(project.images) == 5
    assert len(standin.requests("/dataset/*")) == 3


def test_equal_pictures_are_sent_once(standin: StandIn, project: Any, audit: Store) -> None:
    """Within a task by content, across tasks by the project itself."""
    counts = upload_all(api_to(standin), _request(), _candidates([1, 1, 1, 2]), _egress(audit), KEYS)
    assert (counts["uploaded"], counts["duplicates"]) == (2, 2)
    other = Egress(audit, "cd" * 16, 0, "another-run")
    assert upload_all(api_to(standin), _request(), _candidates([2]), other, KEYS)["duplicates"] == 1
    assert len(project.images) == 2


def test_a_confirmed_picture_that_is_not_there_fails_the_task(standin: StandIn, project: Any, audit: Store) -> None:
    """The project's own count decides; the next try sends it again."""
    standin.script("/dataset/faces/upload", "pretend", after=1)
    with pytest.raises(TransientError, match="lacks 1"):
        upload_all(api_to(standin), _request(), _candidates([1, 2, 3]), _egress(audit), KEYS)
    counts = upload_all(api_to(standin), _request(), _candidates([1, 2, 3]), _egress(audit, "try-2"), KEYS)
    assert (counts["uploaded"], counts["duplicates"], len(project.images)) == (1, 2, 3)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(("kept", "lost", "annotated", "old"), [(5, 0, 0, 0), (5, 0, 3, 2), (4, 1, 3, 0), (0, 2, 0, 1)])
def test_counting_is_right_whatever_unannotated_means(
    beside: bool, kept: int, lost: int, annotated: int, old: int
) -> None:
    """``unannotated`` as a part of ``images`` and beside them; ``old``: pictures from before that got an annotation."""
    before = (100, 10)
    now = (100 + (annotated + old if beside else kept), 10 + kept - annotated - old)
    assert roboflow_upload.grown(before, now, (annotated, old)) == kept


def test_a_public_project_is_refused_unless_chosen(standin: StandIn, project: Any, audit: Store) -> None:
    """Before the first picture is read."""
    project.public = True
    with pytest.raises(ConfigurationError, match="is public"):
        upload_all(api_to(standin), _request(), _candidates([1]), _egress(audit), KEYS)
    assert standin.requests("/dataset/*") == []
    assert (
        upload_all(api_to(standin), _request(privacy="public"), _candidates([1]), _egress(audit), KEYS)["uploaded"] == 1
    )


def test_what_is_no_picture_is_counted_and_not_sent(standin: StandIn, project: Any, audit: Store) -> None:
    """A text file, or half a JPEG."""
    broken = [b"hello", _photo(1)[:300]]
    candidates = [Candidate("r" * 64, lambda data=data: RawImage(data, "i" * 64)) for data in broken]
    counts = upload_all(api_to(standin), _request(), [*candidates, *_candidates([2])], _egress(audit), KEYS)
    assert (counts["refused"], counts["uploaded"]) == (2, 1)
    assert len(_rows(audit)) == 1


@pytest.mark.parametrize("fault", ["stall", "reset", "html"])
def test_a_fault_in_between_is_waited_out(standin: StandIn, project: Any, audit: Store, fault: str) -> None:
    """The same bytes may be sent again: the project keeps them once."""
    standin.script("/dataset/faces/upload", fault, **({"seconds": 3} if fault == "stall" else {}))
    api = api_to(standin, timeout_s=0.5, concurrency=2)
    counts = upload_all(api, _request(), _candidates([1, 2]), _egress(audit), KEYS)
    assert counts["uploaded"] + counts["duplicates"] == 2
    assert len(project.images) == 2


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(["a.jpg", "sub/b.jpg", "c.jpg"]):
        (folder / name).write_bytes(_photo(seed + 1))
    (folder / "a.xml").write_text("<annotation/>")
    (folder / "notes").mkdir()
    return folder


def test_a_folder_with_annotations(standin: StandIn, project: Any, audit: Store, tmp_path: Path) -> None:
    """The file of the same name goes with its picture; annotation files are no pictures."""
    place = Place.parse(str(_folder(tmp_path)))
    found = from_source(place, place, KEYS, open_root_plain, Limits())
    assert len(found) == 3
    counts = upload_all(api_to(standin), _request(), found, _egress(audit), KEYS)
    assert (counts["uploaded"], counts["annotated"]) == (3, 1)
    assert sorted(i.annotation or "" for i in project.images.values()) == ["", "", "<annotation/>"]
    queries = [r.query["name"] for r in standin.requests("/dataset/faces/annotate/*")]
    assert [name.rpartition(".")[2] for name in queries] == ["xml"]
    assert "a.xml" not in queries


def test_an_annotation_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Nothing of its name or content is quoted."""
    folder = _folder(tmp_path)
    (folder / "c.txt").write_bytes(b"\xff\xfe\x00\x01")
    place = Place.parse(str(folder))
    with pytest.raises(ConfigurationError, match="not readable text") as caught:
        from_source(place, place, KEYS, open_root_plain, Limits())
    assert "c.txt" not in str(caught.value)


SIZES = {"sure": (64, 48), "weak": (72, 48), "faint": (80, 48), "refused": (88, 48), "empty": (96, 48)}


def _box(confidence: float) -> list[dict[str, Any]]:
    return [{"xyxy": [10, 10, 40, 40], "confidence": confidence, "class_name": "face"}]


@pytest.fixture
def run(tmp_path: Path) -> str:
    """The plan of a run over five photos that end differently."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for seed, (name, size) in enumerate(SIZES.items()):
        (raw / f"{name}.jpg").write_bytes(_photo(seed + 1, *size))
    script = {"classes": ["face"], "default": [], "images": {
        "64x48": _box(0.9), "72x48": _box(0.3), "80x48": _box(0.15), "88x48": {"error": "image"}, "96x48": [],
    }}  # fmt: skip
    (tmp_path / "script.json").write_text(json.dumps(script))
    places = {name: Place.parse(str(tmp_path / path)) for name, path in
              (("source", "raw"), ("destination", "clean"), ("audit", "audit"))}  # fmt: skip
    request = PlanRequest(
        identity=RunIdentity("dag", "run", "list"), policy=FogPolicy(), batch_images=2,
        detector={"kind": "scripted", "path": str(tmp_path / "script.json")}, **places,
    )  # fmt: skip
    batches = make_plan(request, KEYS)
    for number, entry in enumerate(batches):
        run_batch(entry["plan"], entry["batch"], attempt=Attempt(f"a{number}"), keys=KEYS, workers=1)
    return str(batches[0]["plan"])


@pytest.mark.parametrize(
    ("choice", "below", "names"),
    [
        ("quarantined", 0.5, ["refused"]),
        ("low_confidence", 0.5, ["faint", "weak"]),
        ("low_confidence", 0.95, ["faint", "sure", "weak"]),
    ],
)
def test_hard_images_of_a_run(run: str, choice: Any, below: float, names: list[str]) -> None:
    """Chosen by what the audit says of them; each is read again from the source."""
    plan, _, found = from_run(RunSelection(run, choice, below), KEYS, open_root_plain, None)
    assert len(plan.batches) == 3
    widths = sorted(Image.open(io.BytesIO(candidate.read().data)).size[0] for candidate in found)
    assert widths == sorted(SIZES[name][0] for name in names)
    assert len(from_run(RunSelection(run, choice, below, limit=1), KEYS, open_root_plain, None)[2]) == 1


def test_hard_images_are_sent_and_recorded_under_the_run(standin: StandIn, project: Any, run: str) -> None:
    """The egress rows carry the run's key and the item's own ids."""
    plan, audit, found = from_run(RunSelection(run, "quarantined"), KEYS, open_root_plain, None)
    egress = Egress(audit, plan.run_key, plan.generation, "try-1")
    assert upload_all(api_to(standin), _request(), found, egress, KEYS)["uploaded"] == 1
    (row,) = _rows(audit)
    assert (row["run_key"], row["source_ref"]) == (plan.run_key, found[0].source_ref)


def test_an_image_that_changed_since_is_not_sent(
    standin: StandIn, project: Any, run: str, tmp_path: Path
) -> None:  # fmt: skip
    """It is not the one that was looked at."""
    _, audit, found = from_run(RunSelection(run, "quarantined"), KEYS, open_root_plain, None)
    (tmp_path / "raw" / "refused.jpg").write_bytes(_photo(99, 88, 48))
    assert upload_all(api_to(standin), _request(), found, _egress(audit), KEYS)["refused"] == 1
    assert project.images == {}


def test_another_key_finds_nothing_and_says_so(run: str) -> None:
    """Ids depend on the master key."""
    with pytest.raises(ConfigurationError, match="key_conn_id"):
        from_run(RunSelection(run, "quarantined"), KeyRing.from_master(None), open_root_plain, None)


@pytest.mark.parametrize("wrong", [{"choice": "all"}, {"below": 0.0}, {"below": 1.5}, {"limit": 0}])
def test_wrong_selections_are_refused(wrong: dict[str, Any]) -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigurationError):
        RunSelection(**{"plan": "x", "choice": "quarantined", **wrong})


def test_nothing_in_audit_or_error_holds_the_key(standin: StandIn, project: Any, audit: Store) -> None:
    """Egress rows, notes and the error of a refused upload."""
    standin.script("/dataset/faces/upload", "status", status=403, after=1, body={"error": GOOD_KEY}, times=None)
    with pytest.raises(FogError) as caught:
        upload_all(api_to(standin, concurrency=1), _request(), _candidates([1, 2]), _egress(audit), KEYS)
    assert GOOD_KEY not in str(caught.value)
    for key in audit.list():
        data = audit.read(key)
        assert GOOD_KEY.encode() not in data
        assert NAME.encode() not in data + key.encode()
    assert len(audit.list()) == 3
