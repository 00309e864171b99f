"""A user's own YOLO-layout detection model in one ONNX file, run on the CPU in this process.

The picture is letterboxed as Ultralytics does it: scaled to fit, centred, padded with gray 114, RGB / 255. Boxes come
back through the exact factors of that resize.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.detector import DetectorInfo
from airflow_facefog.core.errors import ConfigurationError, DetectorError
from airflow_facefog.core.records import Detection
from airflow_facefog.detectors import yolo
from airflow_facefog.detectors.canary import Canary, read_picture
from airflow_facefog.detectors.candidates import clip_to_frame, to_detections
from airflow_facefog.detectors.class_names import find_class_names
from airflow_facefog.detectors.files import read_file
from airflow_facefog.detectors.frame import Fit, Window, check_pixels, cut, windows
from airflow_facefog.detectors.session import run_session, shared_session

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.floating]

CODE = "facefog.onnx.1"
"""Raise the number whenever letterboxing, decoding or thinning change: it is part of the fingerprint."""
LOWEST = 0.01
"""Scores below this are not answers, whatever floor is asked for: a YOLO head scores every one of its thousands of cells."""
PAD = 114
DEFAULT_SIZE = 640
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}


@dataclass(frozen=True, slots=True)
class _Model:
    sha256: str
    classes: tuple[str, ...]


class OnnxDetector:
    """The model at ``path``; see ``detectors.spec.OnnxSpec`` for the settings. Nothing is read before it is needed."""

    def __init__(
        self,
        path: str,
        classes: Sequence[str] | None = None,
        input_size: int | None = None,
        layout: str | None = None,
        canary: Mapping[str, Any] | None = None,
    ) -> None:
        self._path = path
        self._given = classes
        self._input_size = input_size
        self._layout = layout
        self._canary = canary
        self._read: _Model | None = None
        self._reading = threading.Lock()

    @property
    def info(self) -> DetectorInfo:
        """Identity; reads the file once. Raises ConfigurationError (file, classes) and DetectorError (no ONNX model)."""
        model = self._model()
        stem = PurePath(self._path).stem
        text = "\0".join((CODE, model.sha256, str(self._input_size), str(self._layout), *model.classes))
        return DetectorInfo(
            name=f"onnx:{stem}",
            model_id=stem,
            model_version=model.sha256[:12],
            model_sha256=model.sha256,
            fingerprint=hashlib.sha256(text.encode()).hexdigest(),
            classes=model.classes,
        )

    def canary(self) -> Canary | None:
        """The configured picture, or None. Raises ConfigurationError if it cannot be read or names a foreign class."""
        if self._canary is None:
            return None
        class_name = str(self._canary["class_name"])
        classes = self._model().classes
        if class_name.casefold() not in {name.casefold() for name in classes}:
            raise ConfigurationError(
                f"the canary expects {class_name!r}, which the model cannot emit; it has: {', '.join(classes)}"
            )
        picture = read_picture(read_file(str(self._canary["picture"]), "canary picture"))
        return Canary(picture, class_name, float(self._canary["min_confidence"]))

    def detect(self, pixels: Pixels, floor: float) -> Sequence[Detection]:
        """Return everything with confidence >= ``floor`` (but at least .01), class by class, best first.

        Raises ImageError (numbers not finite, empty box, too many regions) and DetectorError (not the model it should be).
        """
        import numpy as np

        width, height = check_pixels(pixels)
        floor = max(floor, LOWEST)
        found = [self._look(pixels, window, floor) for window in windows(width, height)]
        boxes, inside = clip_to_frame(np.concatenate([b for b, _ in found]), width, height)
        scores = np.concatenate([s for _, s in found])
        result: list[Detection] = []
        for class_id, class_name in enumerate(self._model().classes):
            mine = inside & (scores[:, class_id] >= floor)
            result += to_detections(boxes[mine], scores[mine, class_id], class_name, class_id, self.info.name)
        return result

    def _look(self, pixels: Pixels, window: Window, floor: float) -> tuple[Floats, Floats]:
        """Boxes in the upright picture and scores per class of one window."""
        session = shared_session(self._model().sha256, self._bytes)
        name, height, width, dtype = self._input(session)
        fit = _letterbox(window, width, height)
        output = run_session(session, {name: _blob(cut(pixels, fit), fit, width, height, dtype)})
        if len(output) != 1:
            raise DetectorError(f"the model has {len(output)} outputs, a detection model has 1; export without masks")
        n_classes = len(self._model().classes)
        layout = yolo.find_layout(output[0].shape, n_classes, self._layout)
        boxes, scores = yolo.decode(output[0], layout, n_classes, floor)
        return fit.to_frame(boxes), scores

    def _model(self) -> _Model:
        with self._reading:
            if self._read is None:
                data = read_file(self._path, "detector model")
                classes = find_class_names(self._given, self._path, _metadata(data))
                self._read = _Model(hashlib.sha256(data).hexdigest(), classes)
            return self._read

    def _bytes(self) -> bytes:
        data = read_file(self._path, "detector model")
        if hashlib.sha256(data).hexdigest() != self._model().sha256:
            raise DetectorError(
                "the model file changed while it was in use; clear the list task too, so that a new plan is made"
            )
        return data

    def _input(self, session: Any) -> tuple[str, int, int, str]:
        """Name, height, width and dtype of the model's only input."""
        inputs = session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        fixed = [side if isinstance(side, int) else wanted for side, wanted in zip(shape[:2], (1, 3), strict=False)]
        if len(shape) != 4 or fixed != [1, 3] or inputs[0].type not in DTYPES:
            raise DetectorError(
                "the model does not take one (1, 3, height, width) float input; export a detection model with batch 1"
            )
        height, width = (self._side(side) for side in shape[2:])
        return inputs[0].name, height, width, DTYPES[inputs[0].type]

    def _side(self, declared: object) -> int:
        if not isinstance(declared, int):
            return self._input_size or DEFAULT_SIZE
        if self._input_size not in (None, declared):
            raise ConfigurationError(
                f"input_size {self._input_size} does not fit the model, which takes {declared} only; leave it out"
            )
        return declared


def _metadata(data: bytes) -> dict[str, str]:
    """Metadata of an ONNX file. Raises DetectorError if it is none."""
    import onnx

    try:
        model = onnx.load_from_string(data)
    except Exception:  # protobuf's DecodeError, whose home moves between its versions
        model = None
    if model is None or not model.graph.node:
        raise DetectorError(f"the detector model ({len(data)} bytes) is not an ONNX model; export it to ONNX")
    return {item.key: item.value for item in model.metadata_props}


def _letterbox(window: Window, width: int, height: int) -> Fit:
    factor = min(width / window.width, height / window.height)
    wide = min(width, max(1, round(window.width * factor)))
    high = min(height, max(1, round(window.height * factor)))
    return Fit(window, wide, high, (width - wide) // 2, (height - high) // 2)


def _blob(image: Pixels, fit: Fit, width: int, height: int, dtype: str) -> Floats:
    """The letterboxed image as (1, 3, height, width) RGB 0..1."""
    import numpy as np

    canvas = np.full((height, width, 3), PAD, np.uint8)
    canvas[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = image
    blob: Floats = (canvas[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255).astype(dtype)
    return blob
