"""Answers written in a file: for tests, demonstrations and rehearsals of faults. Never for real images.

The file is JSON::

    {"classes": ["face"],
     "canary": true,
     "images": {"640x480":      [{"xyxy": [10, 10, 60, 80], "confidence": 0.9, "class_name": "face"}],
                "sha256:3f2c…": {"error": "image"}},
     "default": []}

An image is found by the sha256 of its pixels (``pixels_sha256``), then by ``WIDTHxHEIGHT`` of the upright picture, then
``default``; without one an unknown image is refused. ``error`` is ``image``, ``transient`` or ``permanent``.
``"canary": false`` makes the detector miss its canary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.detector import DetectorInfo
from airflow_facefog.core.errors import ConfigurationError, DetectorError, ImageError, TransientError
from airflow_facefog.core.records import Detection, Reason
from airflow_facefog.detectors.canary import Canary, bundled
from airflow_facefog.detectors.files import read_file
from airflow_facefog.detectors.frame import check_pixels

if TYPE_CHECKING:
    from airflow_facefog.core.detector import Pixels

NAME = "scripted"
KEYS = {"classes", "canary", "images", "default"}


def pixels_sha256(pixels: Pixels) -> str:
    """Name a picture by its shape and pixels (h, w, 3): the key ``sha256:<this>`` of a script."""
    return hashlib.sha256(f"{pixels.shape}\0".encode() + pixels.tobytes()).hexdigest()


class ScriptedDetector:
    """Answers from the script at ``path``. Raises ConfigurationError for a file that is no valid script."""

    def __init__(self, path: str) -> None:
        self._data = read_file(path, "detector script")
        self._script = _parse(self._data)

    @cached_property
    def info(self) -> DetectorInfo:
        """Identity; the fingerprint is the script's sha256."""
        digest = hashlib.sha256(self._data).hexdigest()
        classes = self._script.get("classes")
        return DetectorInfo(NAME, NAME, digest[:12], digest, digest, None if classes is None else tuple(classes))

    def canary(self) -> Canary:
        """The bundled portrait, which a script answers by itself unless it says ``"canary": false``."""
        return bundled()

    def detect(self, pixels: Pixels, floor: float) -> Sequence[Detection]:
        """Return what the script says about this picture; raises what it says."""
        width, height = check_pixels(pixels)
        canary = self.canary()
        if pixels.shape == canary.picture.shape and (pixels == canary.picture).all():
            return _canary_answer(canary) if self._script.get("canary", True) else []
        images = self._script.get("images", {})
        for key in (f"sha256:{pixels_sha256(pixels)}", f"{width}x{height}"):
            if key in images:
                return _answer(images[key], floor)
        if "default" not in self._script:
            raise ImageError(Reason.DETECTOR_REFUSED, f"the script has no answer for {width}x{height} and no default")
        return _answer(self._script["default"], floor)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        script = json.loads(data)
    except ValueError:
        raise ConfigurationError("the detector script is not JSON; see airflow_facefog.detectors.scripted") from None
    if not isinstance(script, dict) or not script.keys() <= KEYS:
        raise ConfigurationError(f"a detector script is a mapping with the keys {', '.join(sorted(KEYS))} only")
    for entry in [*script.get("images", {}).values(), *([script["default"]] if "default" in script else [])]:
        if not isinstance(entry, Mapping):
            _detections(entry)
    return script


def _detections(entry: Any) -> list[Detection]:
    try:
        return [_detection(item) for item in entry]
    except (TypeError, KeyError, ValueError) as error:
        raise ConfigurationError(
            f"the detector script holds a wrong detection ({error}); write xyxy (4 numbers), confidence and class_name"
        ) from None


def _detection(item: Mapping[str, Any]) -> Detection:
    x1, y1, x2, y2 = (float(v) for v in item["xyxy"])
    polygon = item.get("polygon")
    return Detection(
        (x1, y1, x2, y2),
        float(item["confidence"]),
        str(item["class_name"]),
        int(item.get("class_id", 0)),
        None if polygon is None else tuple((float(x), float(y)) for x, y in polygon),
        NAME,
    ).on_grid()


def _answer(entry: Any, floor: float) -> list[Detection]:
    if isinstance(entry, Mapping):
        raise _error(str(entry.get("error")))
    return [detection for detection in _detections(entry) if detection.confidence >= floor]


def _error(kind: str) -> Exception:
    message = f"the script says: {kind} error"
    if kind == "transient":
        return TransientError(message)
    return ImageError(Reason.DETECTOR_REFUSED, message) if kind == "image" else DetectorError(message)


def _canary_answer(canary: Canary) -> list[Detection]:
    box = canary.xyxy or (0.0, 0.0, 1.0, 1.0)
    return [Detection(box, 0.9, canary.class_name, 0, None, NAME)]
