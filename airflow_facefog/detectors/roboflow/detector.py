"""A Roboflow model as a detector: we prepare the pixels, ask, and check every answer before we believe it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.detector import Detections, DetectorInfo
from airflow_facefog.core.errors import ConfigurationError, DetectorError, ImageError
from airflow_facefog.core.raw import sealed
from airflow_facefog.core.records import Detection, Reason
from airflow_facefog.detectors.canary import Canary, read_picture
from airflow_facefog.detectors.files import read_file
from airflow_facefog.detectors.frame import Window, check_pixels, windows
from airflow_facefog.detectors.roboflow.access import Access
from airflow_facefog.detectors.roboflow.answer import Labels, is_full, read_answer
from airflow_facefog.detectors.roboflow.guard import Gate
from airflow_facefog.detectors.roboflow.http import Session, TooLargeError, deadline
from airflow_facefog.detectors.roboflow.model_ids import ModelId, parse_model_id

if TYPE_CHECKING:
    from airflow_facefog.core.detector import Pixels
    from airflow_facefog.detectors.roboflow.prepare import Sent

CODE = "facefog.roboflow.1"
"""Raise the number whenever preparation or decoding change: it is part of the fingerprint."""
ASKED_FLOOR = 0.10
"""Lowest confidence asked for, unless the caller wants less; the server adds nothing below .01."""
LOWEST = 0.01
STRIP = 32
"""Pictures with a shorter side (px) are asked about in one piece, however long: a model sees nothing in them anyway."""


class RoboflowDetector:
    """One model on one server. Thread-safe; at most ``access.concurrency`` requests run at once.

    ``classes``: names that the model answers (compared casefolded); another name in an answer refuses the image. None:
    unknown, any name is taken. ``class_map`` renames them for the policy. ``overlap``: IoU (0..1) above which the server
    merges boxes. ``max_side``: long side in px of what is sent. When the server is full (``max_detections``), it is asked
    once more from ``raise_to`` upwards; ``Detections.floor`` then says so. ``canary``: as for ``onnx``.

    Raises ConfigurationError for a wrong model name or setting.
    """

    def __init__(
        self, model_id: str | ModelId, access: Access, *, classes: Sequence[str] | None = None,
        class_map: Mapping[str, str] | None = None, overlap: float = 0.60, max_detections: int = 1000,
        max_side: int = 1600, raise_to: float = 0.20, canary: Mapping[str, Any] | None = None,
        allow_remote: bool = False,
    ) -> None:  # fmt: skip
        self.model = parse_model_id(model_id)
        self._access = access
        self._labels = Labels.of(classes, class_map)
        self._overlap = overlap
        self._max_detections = max_detections
        self._max_side = max_side
        self._raise_to = raise_to
        self._canary = canary
        self._gate = Gate.of(access, allow_remote=allow_remote)
        self._session = Session(access, access.inference_url, self._gate)
        self._remote: tuple[str | None] | None = None
        self._resolving = threading.Lock()

    def __repr__(self) -> str:
        return f"RoboflowDetector({self.model})"

    @property
    def info(self) -> DetectorInfo:
        """Identity. ``remote_host`` is None when the host's every address is private, or the host is listed.

        Asks the name service once. Raises TransientError when the name cannot be resolved now.
        """
        return DetectorInfo(
            name="roboflow",
            model_id=self.model.project if self.model.version else self.model.path,
            model_version=str(self.model.version or "named"),
            model_sha256="not reported",
            fingerprint=self._fingerprint(),
            classes=self._labels.emitted,
            remote_host=self._remote_host(),
            concurrency=self._access.concurrency,
            cacheable=True,
        )

    @sealed
    def detect(self, pixels: Pixels, floor: float) -> Detections:
        """Return everything with confidence >= ``floor`` in (h, w, 3) uint8 BGR, best first.

        Pictures beyond 3:1 are asked about in overlapping windows. Raises ImageError (an answer that cannot be
        believed, too many regions), TransientError (after bounded retries, or when all requests for this picture together
        take longer than ``http.BUDGET_S``) and PermanentError (key, model, settings).
        """
        ends = deadline()
        width, height = check_pixels(pixels)
        whole = min(width, height) < STRIP
        parts = [Window(0, 0, width, height)] if whole else list(windows(width, height))
        seen = [self._look(pixels, part, max(floor, LOWEST), ends) for part in parts]
        found = {detection for part in seen for detection in part}
        used = [part.floor for part in seen if part.floor is not None]
        return Detections(sorted(found, key=_order), max(used, default=None))

    def canary(self) -> Canary | None:
        """The configured picture, or None. Raises ConfigurationError if it cannot be read or names a foreign class."""
        if self._canary is None:
            return None
        name = str(self._canary["class_name"])
        emitted = self._labels.emitted
        if emitted is not None and name.casefold() not in {known.casefold() for known in emitted}:
            raise ConfigurationError(
                f"the canary expects {name!r}, which the model cannot emit; it has: {', '.join(emitted)}"
            )
        picture = read_picture(read_file(str(self._canary["picture"]), "canary picture"))
        return Canary(picture, name, float(self._canary["min_confidence"]))

    def egress(self) -> dict[str, dict[str, float]]:
        """What was sent so far: ``{host: {"calls": int, "bytes": int, "credits": float}}``."""
        return self._session.egress()

    def close(self) -> None:
        """Close the connections; the next ``detect`` opens new ones."""
        self._session.close()

    def _look(self, pixels: Pixels, window: Window, floor: float, ends: float) -> Detections:
        """One window: ask from ``ASKED_FLOOR`` (or ``floor``, if lower), once more higher up when the server is full."""
        asked = min(ASKED_FLOOR, floor)
        sent, answer = self._ask(pixels, window, asked, ends)
        if not is_full(answer, self._max_detections):
            return Detections(read_answer(answer, sent, self._labels, floor), None)
        higher = max(self._raise_to, floor)
        if higher > asked:
            sent, answer = self._ask(pixels, window, higher, ends)
        if higher <= asked or is_full(answer, self._max_detections):
            raise ImageError(
                Reason.TOO_MANY_DETECTIONS,
                f"the server answers {self._max_detections} regions or its own limit even from confidence {higher:g}; "
                "what it left out would stay clear: raise max_detections, or split the image",
            )
        return Detections(read_answer(answer, sent, self._labels, higher), higher if higher > floor else None)

    def _ask(self, pixels: Pixels, window: Window, confidence: float, ends: float) -> tuple[Sent, Any]:
        """Send one window; when it is too large for the server, once more at half its size."""
        from airflow_facefog.detectors.roboflow.prepare import prepare

        sent = prepare(pixels, window, self._max_side)
        try:
            return sent, self._call(sent, confidence, ends)
        except TooLargeError:
            smaller = prepare(pixels, window, max(sent.long_side // 2, 1), len(sent.data) // 2)
        try:
            return smaller, self._call(smaller, confidence, ends)
        except TooLargeError:
            refused = len(smaller.data)
        raise DetectorError(
            f"the Roboflow server refuses pictures of {refused} bytes as too large (413); lower max_side, or raise its limit"
        )

    def _call(self, sent: Sent, confidence: float, ends: float) -> Any:
        parameters = {
            "confidence": as_percent(confidence),
            "overlap": as_percent(self._overlap),
            "max_detections": str(self._max_detections),
            "disable_active_learning": "true",
            "disable_preproc_static_crop": "true",  # a crop set up for training would leave the rest unseen
            "format": "json",
        }
        return self._session.post_picture(f"/{self.model.path}", parameters, sent.data, ends)

    def _fingerprint(self) -> str:
        settings = [self._overlap, self._max_detections, self._max_side, self._raise_to, self._labels.canonical()]
        text = "\0".join((CODE, self.model.path, json.dumps(settings, sort_keys=True)))
        return hashlib.sha256(text.encode()).hexdigest()

    def _remote_host(self) -> str | None:
        with self._resolving:
            if self._remote is None:
                self._remote = (self._gate.remote_host(),)
            return self._remote[0]


def as_percent(fraction: float) -> str:
    """Whole percent as the server's old route reads it, rounded down, at least 1.

    The server divides what is >= 1 by 100, so 0.4 and 40 are the same there and 1 means 1 %: only whole percents from 1
    upwards mean one thing.
    """
    return str(max(1, int(round(fraction * 100, 6))))


def _order(detection: Detection) -> tuple[Any, ...]:
    return -detection.confidence, detection.class_name, detection.xyxy, detection.class_id, detection.polygon or ()
