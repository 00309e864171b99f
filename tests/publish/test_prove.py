"""``prove``: every object of a store ends in exactly one class, and nothing raw, foreign or changed passes as proven."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from provekit import KEYS, World, counts, encode, found, pictures

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy

PIXELS = pictures()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One run over four pictures, with pixel ids; never changed."""
    world = World(tmp_path_factory.mktemp("made")).fill()
    world.run(policy=FogPolicy(record_pixel_id=True))
    return world


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """A copy of it to spoil."""
    return made.copy(tmp_path / "w")


def zipped(data: bytes) -> bytes:
    """An archive that holds a picture."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("photo.jpg", data)
    return buffer.getvalue()


def with_exif(data: bytes) -> bytes:
    """The same JPEG with a comment segment more: other bytes, equal pixels."""
    return data[:2] + b"\xff\xfe\x00\x07hello" + data[2:]


def half(pixels: Any) -> Any:
    """Half the size."""
    return cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def test_a_store_as_it_was_published_is_proven(made: World) -> None:
    """Every object is current or bookkeeping, nothing is decoded, nothing is missing; the numbers add up."""
    report = made.prove()
    assert report.clean, report.document["findings"]
    assert counts(report) == {"proven": 4, "record": 6}
    assert report.document["states"]["current"] == 4
    assert report.document["objects"] == sum(1 for path in made.clean.rglob("*") if path.is_file())


def test_proven_objects_are_never_decoded(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The codec is not called when nothing is unknown."""
    monkeypatch.setattr("airflow_facefog.publish.prove.strangers.decode", lambda *_: pytest.fail("decoded"))
    assert made.prove().clean


PLANTS: dict[str, tuple[Callable[[World], bytes], str, str]] = {
    "raw copy": (lambda w: w.raws["astronaut.jpg"], "raw-match", "bytes"),
    "raw copy of an unfogged picture": (lambda w: w.raws["rocket.jpg"], "raw-match", "bytes"),
    "metadata changed": (lambda w: with_exif(w.raws["astronaut.jpg"]), "raw-match", "pixels"),
    "png of a png": (lambda w: encode(PIXELS["chelsea.png"], ".png")[:-12] + b"\0\0\0\0IEND\xaeB`\x82", "raw-match", ""),
    "bmp of a png": (lambda w: encode(PIXELS["chelsea.png"], ".bmp"), "raw-match", "pixels"),
    "q95": (lambda w: encode(PIXELS["astronaut.jpg"], quality=95), "raw-derived", "unlike it in 1"),
    "q60": (lambda w: encode(PIXELS["coffee.jpg"], quality=60), "raw-derived", "unlike it in 1"),
    "q30 of two regions": (lambda w: encode(PIXELS["chelsea.png"], quality=30), "raw-derived", "unlike it in 2"),
    "png of a jpeg's original": (lambda w: encode(PIXELS["coffee.jpg"], ".png"), "raw-derived", "unlike it in 1"),
    "half size": (lambda w: encode(half(PIXELS["astronaut.jpg"])), "raw-derived", "scale 0.50"),
    "grey": (lambda w: encode(cv2.cvtColor(PIXELS["coffee.jpg"], cv2.COLOR_BGR2GRAY)), "raw-derived", "unlike"),
    "turned": (lambda w: encode(cv2.rotate(PIXELS["coffee.jpg"], 0), quality=80), "raw-derived", "orientation 6"),
    "mirrored": (lambda w: encode(np.fliplr(PIXELS["astronaut.jpg"]), quality=80), "raw-derived", "orientation 2"),
    "cropped": (lambda w: encode(PIXELS["astronaut.jpg"][40:, 40:]), "orphan", "no record knows it"),
    "unfogged picture saved again": (lambda w: encode(PIXELS["rocket.jpg"], quality=85), "orphan", "like a published"),
    "noise": (lambda w: encode(np.random.default_rng(1).integers(0, 255, (400, 600, 3), np.uint8)), "orphan", "no record"),
    "flat": (lambda w: encode(np.full((512, 512, 3), 128, np.uint8)), "orphan", "no record knows it"),
    "archive": (lambda w: zipped(w.raws["astronaut.jpg"]), "orphan", "no picture was decoded"),
    "empty": (lambda w: b"", "orphan", "empty file"),
    "sidecar": (lambda w: b'{"name": "someone"}', "orphan", "no picture was decoded"),
    "cut raw": (lambda w: w.raws["astronaut.jpg"][:20_000], "orphan", "no picture was decoded"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_object_is_found(world: World, name: str) -> None:
    """It is in the expected class, the exit says no, and everything that was there stays proven."""
    make, cls, says = PLANTS[name]
    key = world.put("data/holiday/x.jpg", make(world))
    report = world.prove()
    finding = found(report)[key]
    assert not report.clean
    assert finding["class"] == cls
    assert says in finding["detail"]
    assert finding["raw"] is (cls != "orphan") if "raw" in finding else cls == "orphan"
    assert counts(report) == {"proven": 4, "record": 6, cls: 1}


def test_a_published_picture_saved_again_is_an_orphan_not_raw(world: World) -> None:
    """Equal everywhere up to the codec: it is said which one it equals, and raw pixels are not claimed."""
    again = cv2.imdecode(np.frombuffer(world.published("astronaut.jpg").read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    key = world.put("data/again.jpg", encode(again, quality=70))
    finding = found(world.prove())[key]
    assert (finding["class"], finding.get("raw", False)) == ("orphan", False)
    assert finding["detail"].startswith("equals a published picture")
    assert finding["matched_key"] == f"data/{world.published('astronaut.jpg').name}"


def test_kinds_are_named(world: World) -> None:
    """The report says what an orphan is, from its first bytes."""
    kinds = {
        "a.zip": (zipped(b"x"), "ZIP archive"), "b": (b"", "empty"), "c.txt": ("é text".encode(), "text"),
        "d": (b'[{"a": 1}]', "JSON text"), "e.mp4": (b"\0\0\0\x18ftypmp42" + b"\0" * 20, "MP4 or QuickTime video"),
        "f.gif": (b"GIF89a" + b"\0" * 20, "GIF"), "g.gz": (b"\x1f\x8b\x08\0", "gzip archive"), "h": (b"\0\1\2\3" * 9, "unknown"),
        "i.pdf": (b"%PDF-1.7", "PDF"), "j": (b"<svg/>", "XML or HTML text"), "k.jpg": (b"\xff\xd8\xff\xe0cut", "jpeg"),
        "l.tar": (b"name" + b"\0" * 253 + b"ustar" + b"\0" * 9, "tar archive"), "m.avi": (b"RIFF....AVI LIST", "AVI video"),
    }  # fmt: skip
    for name, (data, _) in kinds.items():
        world.put(f"data/{name}", data)
    report = found(world.prove())
    assert {key: f["kind"] for key, f in report.items()} == {f"data/{name}": kind for name, (_, kind) in kinds.items()}


@pytest.mark.parametrize("at", [0, 100, -1])
def test_one_flipped_byte_is_tampering(world: World, at: int) -> None:
    """A published object with one other byte is named; it is not called missing."""
    path = world.published("coffee.jpg")
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    report = world.prove()
    assert counts(report) == {"proven": 3, "record": 6, "tampered": 1}
    assert found(report)[f"data/{path.name}"]["class"] == "tampered"


def test_raw_bytes_under_a_published_key_are_tampering_and_raw(world: World) -> None:
    """The class is that of the key; that raw pixels are there is counted and said."""
    path = world.published("coffee.jpg")
    path.write_bytes(world.raws["astronaut.jpg"])
    report = world.prove()
    finding = found(report)[f"data/{path.name}"]
    assert (finding["class"], finding["raw"], report.document["raw"]) == ("tampered", True, 1)
    assert "raw image that a run read" in finding["detail"]


def test_swapped_names_are_tampering(world: World) -> None:
    """Both objects hold recorded bytes, but not those of their keys."""
    one, other = world.published("coffee.jpg"), world.published("astronaut.jpg")
    datas = one.read_bytes(), other.read_bytes()
    one.write_bytes(datas[1])
    other.write_bytes(datas[0])
    report = world.prove()
    assert counts(report) == {"proven": 2, "record": 6, "tampered": 2}
    assert found(report)[f"data/{one.name}"]["matched_key"] == f"data/{other.name}"


def test_a_deleted_object_is_missing(world: World) -> None:
    """What the newest snapshot shows must be there; its bytes elsewhere do not help whoever follows the snapshot."""
    path = world.published("chelsea.png")
    path.rename(path.with_name("renamed.png"))
    report = world.prove()
    assert counts(report) == {"proven": 4, "record": 6, "missing": 1}
    assert "its bytes are at data/renamed.png" in found(report)[f"data/{path.name}"]["detail"]
    assert report.document["renamed"] == 1


def test_a_copy_elsewhere_is_proven_without_its_folders(world: World, made: World, tmp_path: Path) -> None:
    """Plain names in another folder: proven by hash; the recorded destination says what is current and lends candidates."""
    copy = tmp_path / "warehouse"
    copy.mkdir()
    for path in (world.clean / "data").iterdir():
        (copy / path.name.split(".")[0]).write_bytes(path.read_bytes())
    (copy / "astronaut").unlink()
    (copy / "raw").write_bytes(encode(PIXELS["astronaut.jpg"], quality=80))
    report = made.prove(store=copy)
    assert counts(report) == {"proven": 3, "raw-derived": 1}
    assert report.document["states"]["current"] == 3
    assert not report.document["missing_checked"]


@pytest.mark.parametrize(
    "name", ["__.jpg", "a b/č.jpg", "\u202egpj.exe", "-rf", "x\n\x1b[31m.jpg", "'\"<script>.jpg", ".hidden"]
)
def test_hostile_names(world: World, name: str) -> None:
    """Any name is walked, hashed and reported; the page shows no character of it that could act."""
    key = world.put(f"data/{name}", world.raws["coffee.jpg"])
    report = world.prove()
    assert found(report)[key]["class"] == "raw-match"
    page = report.html()
    assert not [bad for bad in ("<script", "\u202e", "\x1b") if bad in page]


def test_what_is_no_file_is_not_opened(world: World) -> None:
    """Links are not followed, pipes not waited for; a name that is no UTF-8 is shown by its bytes; nothing is skipped."""
    secret = world.root / "outside.jpg"
    secret.write_bytes(world.raws["coffee.jpg"])
    (world.clean / "link.jpg").symlink_to(secret)
    (world.clean / "folder").symlink_to(world.raw)
    os.mkfifo(world.clean / "pipe")
    with open(os.fsencode(world.clean) + b"/\xff.jpg", "wb") as file:
        file.write(world.raws["coffee.jpg"])
    report = world.prove()
    findings = found(report)
    assert {key: findings[key]["class"] for key in findings} == {
        "folder": "orphan", "link.jpg": "orphan", "pipe": "orphan", "\\xff.jpg": "raw-match",
    }  # fmt: skip
    assert "not followed" in findings["link.jpg"]["detail"]
    assert "\\xff.jpg" in pq.read_table(io.BytesIO(report.parquet))["key"].to_pylist()


def test_an_unfinished_temporary_is_an_object(world: World) -> None:
    """A hidden temporary file can be read by consumers: raw bytes in one are found."""
    raw = world.put("data/.facefog-0.tmp", world.raws["coffee.jpg"])
    cut = world.put("data/.facefog-1.tmp", world.published("coffee.jpg").read_bytes()[:1000])
    whole = world.put("data/.facefog-2.tmp", world.published("coffee.jpg").read_bytes())
    findings = found(world.prove())
    assert findings[raw]["class"] == "raw-match"
    assert findings[cut]["detail"].startswith("an unfinished temporary file")
    assert whole not in findings


def test_the_wrong_key_is_refused(world: World) -> None:
    """A key of no run would find no raw image and say nothing of it."""
    with pytest.raises(ConfigurationError, match=f"the runs of this audit were made with {KEYS.key_id}"):
        world.prove(keys=KeyRing.from_master(b"y" * 32))


def test_without_the_key_the_report_says_what_it_cannot_see(world: World) -> None:
    """A raw copy of a keyed audit is still found by likeness, and that bytes were not compared is said."""
    key = world.put("data/x.jpg", world.raws["astronaut.jpg"])
    report = world.prove(keys=KeyRing.from_master(None))
    assert found(report)[key]["class"] == "raw-derived"
    assert "not possible" in report.document["raw_check"]


def test_ignored_objects_are_counted_not_read(world: World) -> None:
    """They have a class of their own, no hash, and the globs stand in the report."""
    world.put("data/logs/raw.jpg", world.raws["astronaut.jpg"])
    world.put("data/logs/deep/raw.jpg", world.raws["astronaut.jpg"])
    report = world.prove(ignore=("data/logs/*",))
    assert report.clean
    assert counts(report) == {"proven": 4, "record": 6, "ignored": 2}
    assert report.document["ignore"] == ["data/logs/*"]
    assert "data/logs/*" in report.html()


def test_an_empty_or_absent_store_proves_nothing(world: World, tmp_path: Path) -> None:
    """A wrong path must not look proven."""
    (tmp_path / "empty").mkdir()
    assert not world.prove(store=tmp_path / "empty").clean
    with pytest.raises(ConfigurationError, match="no such folder"):
        world.prove(store=tmp_path / "absent")
