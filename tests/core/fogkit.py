"""Synthetic pictures with faces, the way through fog and codec, and the faults that verify must catch."""

from __future__ import annotations

import cv2
import numpy as np

from airflow_facefog.core import codec
from airflow_facefog.core.fog import fog as fog_pixels
from airflow_facefog.core.fog import layers_of, render_layers
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy, load_policy
from airflow_facefog.core.raw import RawImage
from airflow_facefog.core.records import Detection
from airflow_facefog.core.regions import Decided, decide
from airflow_facefog.core.verify import Verdict, verify

KEYS = KeyRing.from_master(bytes(range(32)))
CID = b"c" * 32
TEXTURED, DARK, FLAT, LOW = "textured", "dark", "flat", "low contrast"


def policy(method: str = "fog", shape: str = "box", **more: object) -> FogPolicy:
    """A policy for faces with one method and shape."""
    return load_policy({"rules": {"face": {"method": method, "shape": shape}}, "accept_linkable": True, **more})


def face_at(x: float, y: float, side: float, name: str = "face", confidence: float = 0.9) -> Detection:
    """A detection whose box is ``side`` wide and 1.2 times as high."""
    return Detection((x, y, x + side, y + 1.2 * side), confidence, name)


def texture(rng: np.random.Generator, height: int, width: int, grain: float, contrast: float) -> np.ndarray:
    """Smooth coloured noise around a random colour, float (h, w, 3)."""
    noise = cv2.GaussianBlur(rng.normal(0, 1, (height, width, 3)).astype(np.float32), (0, 0), grain)
    grey = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), grain)[:, :, None]
    mixed = 0.4 * noise / max(noise.std(), 1e-6) + grey / max(grey.std(), 1e-6)
    return rng.uniform(70, 180, 3) + contrast * mixed


def paint_face(rng: np.random.Generator, target: np.ndarray, x: int, y: int, side: int, kind: str) -> None:
    """Draw skin, hair, eyes and mouth with texture into a float picture."""
    height, width = max(1, round(1.2 * side)), max(1, side)
    if kind == FLAT:
        face = np.full((height, width, 3), rng.uniform(60, 200, 3))
    else:
        face = texture(rng, height, width, max(0.6, side / 16), 14) + rng.uniform(-30, 40)
        face[: height // 4] -= 70
        for fx in (0.3, 0.7):
            cv2.circle(face, (round(fx * width), round(0.45 * height)), max(1, side // 10), (30.0, 30.0, 30.0), -1)
        cv2.line(
            face, (width // 3, round(0.8 * height)), (2 * width // 3, round(0.8 * height)), (60.0, 50.0, 140.0),
            max(1, side // 14),
        )  # fmt: skip
    if kind == DARK:
        face = face * 0.2
    if kind == LOW:
        face = face.mean() + 0.15 * (face - face.mean())
    part = target[y : y + height, x : x + width]
    part[...] = face[: part.shape[0], : part.shape[1]]


def picture(seed: int, faces: list[tuple[int, int, int]], kind: str = TEXTURED, size: int = 320) -> np.ndarray:
    """(size, size, 3) BGR with faces at (x, y, side)."""
    rng = np.random.default_rng(seed)
    canvas = texture(rng, size, size, 3.0, 22)
    for x, y, side in faces:
        paint_face(rng, canvas, x, y, side, kind)
    return np.clip(canvas + rng.normal(0, 3, canvas.shape), 0, 255).astype(np.uint8)


def opened(pixels: np.ndarray, quality: int | None) -> codec.Picture:
    """The picture as a source file: JPEG 4:2:0 of that quality, or PNG for None."""
    extension, options = (".png", []) if quality is None else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])
    done, data = cv2.imencode(extension, pixels, options)
    assert done
    return codec.decode(RawImage(data.tobytes(), "ab" * 32), FogPolicy().limits)


def judge(source: codec.Picture, output: np.ndarray, decided: Decided, rules: FogPolicy) -> Verdict:
    """Encode ``output`` as the device would and verify it."""
    return verify(source.pixels, codec.encode(source, output, rules.output), decided, rules, KEYS, CID)


def cover(source: codec.Picture, detections: list[Detection], rules: FogPolicy) -> tuple[np.ndarray, Decided]:
    """Decide and fog."""
    decided = decide(detections, rules, source.width, source.height, keyed=True)
    return fog_pixels(source.pixels, decided, rules, KEYS, CID), decided


def faulty(name: str, source: codec.Picture, good: np.ndarray, decided: Decided, rules: FogPolicy) -> np.ndarray:
    """The output of a broken fogger."""
    pixels = source.pixels
    if name == "no-op":
        return pixels.copy()
    if name.startswith("alpha"):
        alpha = float(name.split()[1])
        return np.rint(alpha * good + (1 - alpha) * pixels.astype(np.float64)).astype(np.uint8)
    if name == "wrong orientation":
        turned = np.ascontiguousarray(np.rot90(pixels))
        return np.ascontiguousarray(np.rot90(fog_pixels(turned, decided, rules, KEYS, CID), -1))
    result = pixels.copy()
    patches = [(p.layer.mask.box, p.pixels) for p in render_layers(layers_of(decided), pixels, rules, KEYS, CID)]
    if name == "one region missing":
        patches = patches[1:]
    if name == "swapped regions":
        boxes = [box for box, _ in patches]
        patches = [(_moved(box, new), patch) for (box, patch), new in zip(patches, boxes[::-1], strict=True)]
    for (x1, y1, x2, y2), patch in patches:
        _paste(name, result, (x1, y1, x2, y2), patch)
    return result


def _moved(box: tuple[int, int, int, int], to: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    return to[0], to[1], to[0] + box[2] - box[0], to[1] + box[3] - box[1]


def _paste(name: str, result: np.ndarray, box: tuple[int, int, int, int], patch: np.ndarray) -> None:
    x1, y1, x2, y2 = box
    height, width = y2 - y1, x2 - x1
    mask = np.full((height, width), 255, np.uint8)
    if name == "offset 10 %":
        x1 += max(1, round(0.1 * width))
        y1 += max(1, round(0.1 * height))
    elif name.startswith("coverage"):
        mask[round(float(name.split()[1]) / 100 * height) :] = 0
    elif name == "inscribed ellipse":
        mask[...] = 0
        cv2.ellipse(mask, (width // 2, height // 2), (width // 2 - 1, height // 2 - 1), 0, 0, 360, 255, -1)
    there = result[y1 : y1 + height, x1 : x1 + width]
    rows, columns = there.shape[:2]
    there[mask[:rows, :columns] > 0] = patch[:rows, :columns][mask[:rows, :columns] > 0]


FAULTS = (
    "no-op", "offset 10 %", "coverage 75 %", "coverage 90 %", "inscribed ellipse", "alpha 0.5", "alpha 0.8",
    "wrong orientation", "one region missing", "swapped regions",
)  # fmt: skip
