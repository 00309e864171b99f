"""The models of the stand-in: real detectors, painted markers with exactly known boxes, and an echo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import cv2
import numpy as np

from airflow_facefog.detectors import resolve

MARKER_BGR = {"magenta": (255, 0, 255), "red": (0, 0, 255), "blue": (255, 0, 0), "green": (0, 255, 0)}
"""Colours that the marker detector finds; a model's class list names them in this order."""


@dataclass(frozen=True)
class Seen:
    """One object in the pixels that were looked at: corners in px, half-open, not rounded."""

    xyxy: tuple[float, float, float, float]
    confidence: float
    class_id: int


Look = Callable[[Any, float], Sequence[Seen]]
"""Pixels (h, w, 3) uint8 BGR and the lowest confidence (0..1) -> what is there."""


@dataclass
class Model:
    """A model that the inference route serves.

    ``look`` is called on the preprocessed picture. ``rounding``: corners are rounded to whole px as the real server does.
    ``stretch`` is the (width, height) of "Stretch to". ``retired``: the route answers 404.
    """

    model_id: str
    look: Look
    classes: list[str] = field(default_factory=lambda: ["face"])
    stretch: tuple[int, int] | None = None
    max_detections: int = 300
    rounding: bool = True
    polygons: bool = False
    retired: bool = False


@cache
def _local() -> Any:
    return resolve("local")


def look_local(pixels: Any, floor: float) -> Sequence[Seen]:
    """The embedded face detector; every face is class 0."""
    return [Seen(d.xyxy, d.confidence, 0) for d in _local().detect(pixels, floor)]


def look_markers(pixels: Any, floor: float) -> Sequence[Seen]:
    """Painted rectangles of MARKER_BGR, edges to a fraction of a pixel, confidence .9."""
    found = []
    for class_id, bgr in enumerate(MARKER_BGR.values()):
        amount = _amount(pixels, bgr)
        core = (amount > 0.5).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(core)
        for x, y, w, h, area in stats[1:count]:
            if area >= 4 and floor <= 0.9:
                found.append(Seen(_edges(amount, int(x), int(y), int(w), int(h)), 0.9, class_id))
    return found


def look_echo(pixels: Any, floor: float) -> Sequence[Seen]:
    """The middle of the picture with the confidence that was asked for: shows whose parameters were answered."""
    height, width = pixels.shape[:2]
    return [Seen((width / 4, height / 4, width * 3 / 4, height * 3 / 4), floor, 0)]


def _amount(pixels: Any, bgr: tuple[int, int, int]) -> Any:
    """0..1 per pixel: how much of a marker's colour it holds."""
    channels = cv2.split(pixels)
    strong = [channels[i].astype(np.float32) for i in range(3) if bgr[i]]
    weak = [channels[i].astype(np.float32) for i in range(3) if not bgr[i]]
    return ((np.minimum.reduce(strong) - np.maximum.reduce(weak)) / 255).clip(0, 1)


def _edges(amount: Any, x: int, y: int, w: int, h: int) -> tuple[float, float, float, float]:
    """Centre and size from the colour's profile through the middle: exact also when a rescale blurred the edges."""
    pad = 4
    left, top = max(0, x - pad), max(0, y - pad)
    across = amount[y + h // 4 : y + h - h // 4, left : x + w + pad].mean(axis=0)
    down = amount[top : y + h + pad, x + w // 4 : x + w - w // 4].mean(axis=1)
    x1, x2 = _span(across, left)
    y1, y2 = _span(down, top)
    return x1, y1, x2, y2


def _span(profile: Any, start: int) -> tuple[float, float]:
    scaled = profile / np.median(profile[profile > 0.5])
    size = float(scaled.sum())
    centre = start + float((scaled * (np.arange(len(scaled)) + 0.5)).sum()) / size
    return centre - size / 2, centre + size / 2
