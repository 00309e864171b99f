"""Dataset archives: a good one, and those that must not be trusted."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import stat
import zipfile
from collections.abc import Mapping
from functools import cache

import cv2
import numpy as np

from standin.exchange import Answer
from standin.models import MARKER_BGR

SPLITS = {"train": 4, "valid": 1, "test": 1}
BOMB_BYTES = 400 * 1024 * 1024


def dataset(fmt: str, classes: list[str], uploads: Mapping[str, bytes]) -> bytes:
    """A small dataset: six pictures with one painted marker each, and what was uploaded.

    ``fmt`` "coco" has one ``_annotations.coco.json`` per split, every other format YOLO's text files and ``data.yaml``.
    """
    files: dict[str, bytes] = {"README.roboflow.txt": b"Exported from the stand-in server\n"}
    number = 0
    for split, count in SPLITS.items():
        names = []
        for _ in range(count):
            number += 1
            names.append(f"picture_{number}")
            files[f"{_folder(split, fmt)}/picture_{number}.jpg"] = picture(number)
        files |= _coco(split, names, classes) if fmt == "coco" else _yolo(split, names)
    files |= {f"{_folder('train', fmt)}/{name}": data for name, data in uploads.items()}
    if fmt != "coco":
        files["data.yaml"] = _data_yaml(classes)
    return pack(files)


def pack(files: Mapping[str, bytes]) -> bytes:
    """A zip with these members, the same bytes each time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


@cache
def picture(number: int) -> bytes:
    """A 64x48 JPEG with a magenta marker at (16, 12, 40, 36)."""
    pixels = np.full((48, 64, 3), 40 + number * 10, np.uint8)
    pixels[12:36, 16:40] = MARKER_BGR["magenta"]
    return bytes(cv2.imencode(".jpg", pixels)[1])


def as_answer(data: bytes) -> Answer:
    """The archive as a bucket serves it, with hashes in the headers."""
    return Answer(200, data, hashes(data))


def hashes(data: bytes) -> dict[str, str]:
    """Headers as Google Cloud Storage sends them for ``data``."""
    md5 = hashlib.md5(data)
    google = base64.b64encode(md5.digest()).decode()
    return {"Content-Type": "application/zip", "ETag": f'"{md5.hexdigest()}"', "x-goog-hash": f"md5={google}"}


def slipping(data: bytes) -> bytes:
    """The archive with a member that climbs out of the folder it is unpacked into."""
    return pack({**_members(data), "../../slipped.txt": b"outside", "/slipped_absolute.txt": b"outside"})


def linking(data: bytes) -> bytes:
    """The archive with a symbolic link out of the folder and a file written through it."""
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as archive:
        link = zipfile.ZipInfo("train/outside")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "../../..")
        archive.writestr("train/outside/slipped.txt", b"outside")
    return buffer.getvalue()


@cache
def _zeros() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open(_bomb_info(), "w") as member:
        for _ in range(BOMB_BYTES // (1 << 20)):
            member.write(bytes(1 << 20))
    return buffer.getvalue()


def _bomb_info() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("train/images/bomb.jpg")
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def bomb(data: bytes) -> bytes:
    """Some 400 KB that unpack to BOMB_BYTES."""
    return _zeros()


def bad_crc(data: bytes) -> bytes:
    """The archive with one flipped byte inside a picture: the directory is intact, the content is not."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        info = next(i for i in archive.infolist() if i.filename.endswith(".jpg"))
    middle = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _folder(split: str, fmt: str) -> str:
    return split if fmt == "coco" else f"{split}/images"


def _yolo(split: str, names: list[str]) -> dict[str, bytes]:
    return {f"{split}/labels/{name}.txt": b"0 0.4375 0.5 0.375 0.5\n" for name in names}


def _coco(split: str, names: list[str], classes: list[str]) -> dict[str, bytes]:
    images = [{"id": i, "file_name": f"{n}.jpg", "width": 64, "height": 48} for i, n in enumerate(names)]
    box = {"category_id": 1, "bbox": [16, 12, 24, 24], "area": 576, "iscrowd": 0}
    payload = {
        "info": {"version": "1"},
        "categories": [{"id": i, "name": name} for i, name in enumerate(["stand-in", *classes])],
        "images": images,
        "annotations": [{"id": i, "image_id": i, **box} for i in range(len(names))],
    }
    return {f"{split}/_annotations.coco.json": json.dumps(payload).encode()}


def _data_yaml(classes: list[str]) -> bytes:
    names = ", ".join(f"'{name}'" for name in classes)
    lines = ["train: ../train/images", "val: ../valid/images", "test: ../test/images", ""]
    return "\n".join([*lines, f"nc: {len(classes)}", f"names: [{names}]", ""]).encode()
