"""What a training reached: mAP, precision, recall and the curves per epoch, as JSON, Parquet and a picture.

Scores are 0..1 here. Roboflow writes percent into a version's ``model`` and fractions into a training's ``metrics``.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import PermanentError, TransientError
from airflow_facefog.hooks.roboflow_api import ProjectRef, RoboflowApi
from airflow_facefog.hooks.roboflow_session import status_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from airflow_facefog.publish.store import Store

    Image = npt.NDArray[np.uint8]

NAMES = {
    "map50": ("map50", "map", "mAP", "mAP50"),
    "map50_95": ("map50_95", "map5095", "map50-95", "mAP50-95"),
    "precision": ("precision",),
    "recall": ("recall",),
}
CURVES = ("mAP", "box_loss", "class_loss", "obj_loss")
WIDTH, HEIGHT, EDGE = 960, 480, 56
COLOURS = ((170, 90, 20), (40, 110, 230), (60, 150, 60), (150, 60, 160))
"""BGR of the lines, told apart also without seeing colours by their different lightness."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Scores 0..1 (None: not reported) and one row per epoch: epoch, mAP (0..1) and losses."""

    model_id: str
    map50: float | None
    map50_95: float | None
    precision: float | None
    recall: float | None
    epochs: tuple[dict[str, float], ...] = field(repr=False, default=())

    def scores(self) -> dict[str, Any]:
        """Everything but the curves, as plain values."""
        return {**{k: v for k, v in asdict(self).items() if k != "epochs"}, "epochs": len(self.epochs)}


def read_metrics(api: RoboflowApi, ref: ProjectRef, number: int | str) -> Metrics:
    """Metrics of the newest finished training. Raises TransientError while the version has no model with a mAP."""
    version = api.version(ref, number)
    trained = _trained(api, ref, number)
    model = version.get("model") if isinstance(version.get("model"), Mapping) else {}
    scores = _scores(trained.get("metrics"), 1.0) or _scores(model, 100.0)
    model_id = str(trained.get("modelId") or (model or {}).get("id") or f"{ref.project}/{number}")
    if scores.get("map50") is None:
        raise TransientError(f"version {number} of {ref} reports no mAP yet; train it, or try again later")
    curves = (version.get("models") or {}).get("roboflow-train") or {}
    return Metrics(model_id, **{name: scores.get(name) for name in NAMES}, epochs=_epochs(curves.get("epochs") or ()))


def _trained(api: RoboflowApi, ref: ProjectRef, number: int | str) -> Mapping[str, Any]:
    """The first model of the newest training; empty for a version that was trained elsewhere and uploaded."""
    try:
        models = api.results(ref, number).get("models") or ()
    except PermanentError as error:
        if status_of(error) != 404:
            raise
        models = ()
    return next((entry for entry in models if isinstance(entry, Mapping)), {})


def _scores(found: Any, scale: float) -> dict[str, float | None]:
    if not isinstance(found, Mapping):
        return {}
    return {name: _first(found, keys, scale) for name, keys in NAMES.items()}


def _first(found: Mapping[str, Any], keys: Iterable[str], scale: float) -> float | None:
    for key in keys:
        value = _finite(found.get(key))
        if value is not None and 0 <= value / scale <= 1:
            return value / scale
    return None


def _finite(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _epochs(found: Iterable[Any]) -> tuple[dict[str, float], ...]:
    rows = []
    for entry in found:
        row = {name: _finite(entry.get(name)) for name in ("epoch", *CURVES)} if isinstance(entry, Mapping) else {}
        if row.get("epoch") is not None:
            rows.append({name: value for name, value in row.items() if value is not None})
    return tuple(sorted(rows, key=lambda row: row["epoch"]))


def write_metrics(metrics: Metrics, store: Store) -> dict[str, str]:
    """Write ``metrics.json``, ``curves.parquet`` and ``curves.png``; return their URIs. Same metrics, same files."""
    import cv2

    text = json.dumps({**asdict(metrics), "epochs": list(metrics.epochs)}, indent=1, sort_keys=True)
    picture = cv2.imencode(".png", plot(metrics))[1].tobytes()
    files = {"metrics.json": text.encode(), "curves.parquet": _parquet(metrics.epochs), "curves.png": picture}
    for name, data in files.items():
        store.replace(name, data)
    return {name: store.uri(name) for name in files}


def _parquet(epochs: Sequence[Mapping[str, float]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"epoch": pa.array([int(row["epoch"]) for row in epochs], pa.int64())}
    columns |= {name: pa.array([row.get(name) for row in epochs], pa.float64()) for name in CURVES}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def plot(metrics: Metrics) -> Image:
    """A picture of the curves, (480, 960, 3) uint8 BGR: mAP from 0 to 1 at the left, losses at the right."""
    import numpy as np

    image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    top = max((row.get(name, 0.0) for row in metrics.epochs for name in CURVES[1:]), default=0.0) or 1.0
    _panel(image, 0, metrics.epochs, CURVES[:1], 1.0, f"{metrics.model_id}: mAP {metrics.map50 or 0:.3f}")
    _panel(image, WIDTH // 2, metrics.epochs, CURVES[1:], top, "losses")
    return image


def _panel(
    image: Image, left: int, epochs: Sequence[Mapping[str, float]], names: Sequence[str], top: float, title: str
) -> None:
    import cv2

    x0, x1, y0, y1 = left + EDGE, left + WIDTH // 2 - 20, HEIGHT - EDGE, EDGE
    cv2.rectangle(image, (x0, y1), (x1, y0), (200, 200, 200), 1)
    _text(image, title, x0, y1 - 22)
    _text(image, f"{top:.2f}", left + 8, y1 + 6)
    _text(image, "0", left + 36, y0 + 4)
    last = max((row["epoch"] for row in epochs), default=0.0)
    _text(image, f"epoch {int(last)}", x1 - 84, y0 + 24)
    for index, name in enumerate(names):
        colour = COLOURS[index]
        points = [
            (round(x0 + (x1 - x0) * row["epoch"] / max(last, 1)), round(y0 - (y0 - y1) * min(row[name] / top, 1)))
            for row in epochs
            if name in row
        ]
        for start, end in itertools.pairwise(points):
            cv2.line(image, start, end, colour, 2, cv2.LINE_AA)
        for point in points if len(points) < 20 else ():
            cv2.circle(image, point, 3, colour, -1, cv2.LINE_AA)
        _text(image, name, x0 + 110 * index, y0 + 44, colour)


def _text(image: Image, text: str, x: int, y: int, colour: tuple[int, int, int] = (60, 60, 60)) -> None:
    import cv2

    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
