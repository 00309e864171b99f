"""Photos to measure on: the public-domain astronaut portrait (scikit-image), scaled onto backgrounds without people.

Two to five faces each, JPEG quality 90, 4:2:0, about .27 bytes a pixel: what a phone writes. Same seed, same photos.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from skimage import data

MEGAPIXELS = {0.3: (640, 480), 2.0: (1632, 1224), 12.0: (4000, 3000)}
"""Megapixels → (width, height)."""

QUALITY, SAMPLING = 90, "420"
_SCENES, _SURFACES = ("coffee", "rocket"), ("grass", "brick")
_NOISE = 4.5  # grey levels of sensor noise; gives camera-like file sizes


def write_photos(folder: Path, count: int, megapixels: float, seed: int = 0) -> list[Path]:
    """Write ``count`` different photos into ``folder`` and return their paths, sorted."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        path = folder / f"photo_{index:04d}.jpg"
        picture = photo(MEGAPIXELS[megapixels], seed + index)
        path.write_bytes(simplejpeg.encode_jpeg(picture, QUALITY, "BGR", SAMPLING, fastdct=False))
        paths.append(path)
    return paths


def photo(size: tuple[int, int], seed: int) -> np.ndarray:
    """One BGR picture of (width, height) with 2 to 5 portraits, each in a column of its own."""
    rng = np.random.default_rng(seed)
    picture = _background(size, rng)
    count = int(rng.integers(2, 6))
    column = size[0] // count
    for index in range(count):
        side = int(min(column, size[1]) * rng.uniform(0.35, 0.95))
        x = index * column + int(rng.integers(0, column - side + 1))
        y = int(rng.integers(0, size[1] - side + 1))
        picture[y : y + side, x : x + side] = _portrait(side, mirrored=bool(rng.integers(0, 2)))
    noise = rng.normal(0.0, _NOISE, (size[1], size[0], 1)).astype(np.float32)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def astronaut() -> np.ndarray:
    """The portrait's square around head and shoulders, BGR; its face is about a third of the side."""
    return cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)[0:320, 64:384]


def _portrait(side: int, *, mirrored: bool) -> np.ndarray:
    source = astronaut()[:, ::-1] if mirrored else astronaut()
    method = cv2.INTER_AREA if side < source.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(source), (side, side), interpolation=method)


def _background(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A photo without people: a scene scaled to the frame, or a surface laid out in mirrored tiles."""
    name = str(rng.choice(_SCENES + _SURFACES))
    image = cv2.cvtColor(getattr(data, name)(), cv2.COLOR_RGB2BGR if name in _SCENES else cv2.COLOR_GRAY2BGR)
    if name in _SCENES:
        return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    wide, high = size[0] - image.shape[1], size[1] - image.shape[0]
    return cv2.copyMakeBorder(image, 0, max(0, high), 0, max(0, wide), cv2.BORDER_REFLECT)[: size[1], : size[0]].astype(
        np.float32
    )
