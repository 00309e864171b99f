"""Which ground-truth faces are covered, ours against deface 1.5.0 with its defaults, on a folder of labelled photos.

``DATA`` holds ``annotations.json`` (COCO boxes, category ``face``; pixels of the stored frame, before EXIF rotation) and
the files that it names. A face counts as covered when at least 90 % (99 %) of its box's pixels are under a mask. The
interval of the difference is a bootstrap over photos. Boxes with ``ignore`` count neither way.

What is fogged for nothing is counted as area, shares of all pixels: outside the labelled boxes (margins are most of it),
and further than half a box's side away from any of them (that is false detections).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from airflow_facefog.core.codec.orient import upright
from airflow_facefog.core.fog import layers_of
from airflow_facefog.core.fog.masks import covered_grid, expand
from airflow_facefog.core.pipeline import look
from airflow_facefog.core.raw import RawImage
from airflow_facefog.core.regions import decide
from benchmarks.deface_venv import deface_python
from benchmarks.measure import ROOT, Row, at_least, show
from benchmarks.whole import POLICY, scratch

SHARES = (0.90, 0.99)
DRAWS = 2000


@dataclass(frozen=True, eq=False, slots=True)
class Photo:
    """One labelled photo. Masks are upright uint8: one for each face, all labels (ignored ones too), these grown."""

    path: Path
    orientation: int
    faces: tuple[np.ndarray, ...]
    labelled: np.ndarray
    near: np.ndarray


@dataclass(frozen=True, slots=True)
class Scored:
    """One tool on one photo: covered share of each face, share of the frame fogged outside and far from any truth."""

    shares: tuple[float, ...]
    outside: float
    far: float


def measure(data: Path) -> list[Row]:
    """Rows for both shares and for precision. Raises FileNotFoundError when ``data`` has no annotations."""
    photos = list(_photos(data))
    ours = [_score(_our_mask(photo.path), photo) for photo in photos]
    masks = _deface_masks([photo.path for photo in photos])
    theirs = [_score(upright(m, p.orientation), p) for m, p in zip(masks, photos, strict=True)]
    rows = [_compare(ours, theirs, share) for share in SHARES]
    for name, scored in (("ours", ours), ("deface", theirs)):
        outside, far = (100 * float(np.mean([getattr(s, part) for s in scored])) for part in ("outside", "far"))
        note = f"{far:.1f} % further than half a box away; mean of {len(photos)} photos"
        rows.append(Row(f"area fogged outside the labels, {name}", f"{outside:.1f} %", note=note))
    return rows


def _photos(data: Path) -> Iterator[Photo]:
    listed = json.loads((data / "annotations.json").read_text())
    category = next(c["id"] for c in listed["categories"] if c["name"] == "face")
    for image in listed["images"]:
        boxes = [a for a in listed["annotations"] if a["image_id"] == image["id"] and a["category_id"] == category]
        truth = [a["bbox"] for a in boxes if not a.get("ignore")]
        if truth:
            size, turned = (image["height"], image["width"]), int(image.get("exif_orientation", 1))
            faces = tuple(upright(_box(size, xywh), turned) for xywh in truth)
            labelled, near = (np.any([_box(size, a["bbox"], grow) for a in boxes], axis=0) for grow in (0.0, 0.5))
            yield Photo(
                data / image["file_name"], turned, faces, upright(labelled.astype(np.uint8), turned),
                upright(near.astype(np.uint8), turned),
            )  # fmt: skip


def _box(size: tuple[int, int], xywh: list[float], grow: float = 0.0) -> np.ndarray:
    """1 inside the box, grown on every side by a part of that side."""
    mask = np.zeros(size, np.uint8)
    x, y, w, h = xywh
    rows = slice(max(0, round(y - grow * h)), max(0, round(y + h + grow * h)))
    mask[rows, max(0, round(x - grow * w)) : max(0, round(x + w + grow * w))] = 1
    return mask


def _our_mask(path: Path) -> np.ndarray:
    """What the job would fog: its own look, decision and masks."""
    from airflow_facefog.detectors import resolve

    looked = look(RawImage(path.read_bytes(), "bench"), resolve("local"), POLICY)
    height, width = looked.picture.height, looked.picture.width
    decided = decide(looked.detections, POLICY, width, height, keyed=True)
    grid = covered_grid((layer.mask for layer in layers_of(decided)), height, width)
    return expand(grid, (0, 0), (0, 0, width, height))


def _deface_masks(paths: list[Path]) -> list[np.ndarray]:
    with scratch() as room:
        script = ROOT / "benchmarks" / "deface_masks.py"
        subprocess.run([deface_python(), script, room, *paths], check=True, capture_output=True)
        files = [room / f"{number}.png" for number in range(len(paths))]
        return [cv2.imdecode(np.frombuffer(f.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE) for f in files]


def _score(mask: np.ndarray, photo: Photo) -> Scored:
    fogged = mask > 0
    shares = tuple(float(fogged[face > 0].mean()) for face in photo.faces if face.any())
    outside, far = (float((fogged & (known == 0)).mean()) for known in (photo.labelled, photo.near))
    return Scored(shares, outside, far)


def _compare(ours: list[Scored], theirs: list[Scored], share: float) -> Row:
    """Share of faces covered by at least ``share``; target: the interval of the difference reaches 0 or more."""
    hits = np.array([[sum(v >= share for v in s.shares) for s in tool] for tool in (ours, theirs)], np.float64)
    faces = np.array([len(s.shares) for s in ours], np.float64)
    drawn = np.random.default_rng(0).integers(0, len(ours), (DRAWS, len(ours)))
    differences = 100 * (hits[0] - hits[1])[drawn].sum(axis=1) / faces[drawn].sum(axis=1)
    low, high = np.percentile(differences, [2.5, 97.5])
    mine, other = (100 * h.sum() / faces.sum() for h in hits)
    note = f"deface {other:.1f} %; difference {mine - other:+.1f}, 95 % interval {low:+.1f}..{high:+.1f}; {faces.sum():.0f} faces"
    return at_least(f"faces covered >= {share:.0%}", mine, other, "{:.1f} %", note)


if __name__ == "__main__":
    import sys

    show(measure(Path(sys.argv[1])), __doc__ or "")
