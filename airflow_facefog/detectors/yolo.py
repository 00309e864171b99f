"""The output layouts of YOLO detection exports, and how each becomes boxes and scores. Anything else is refused.

========== ================ ===========================================================================
v8         (1, 4 + c, n)    cx, cy, w, h, then c class scores; Ultralytics v8, v9, v11, v12
v5         (1, n, 5 + c)    cx, cy, w, h, objectness, then c class scores; v5, v6, v7
end2end    (1, n, 6)        x1, y1, x2, y2, score, class id; NMS inside the model: v10, ``nms=True`` exports
========== ================ ===========================================================================

Boxes are in pixels of the model's input, scores 0..1 (sigmoid inside the model).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_facefog.core.errors import ConfigurationError, DetectorError, ImageError
from airflow_facefog.core.records import Reason

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.floating]

SCORE_SLACK = 1e-3
"""How far a float16 sigmoid may stray from 0..1."""
NORMALISED = 2.0
"""If no coordinate of any box exceeds this many pixels, the model answers in fractions of its input, not in pixels."""


def find_layout(shape: tuple[int, ...], n_classes: int, wanted: str | None) -> str:
    """Name the layout of an output of this shape. Raises DetectorError if none fits, ConfigurationError if several do."""
    fits: list[str] = []
    if len(shape) == 3 and shape[0] == 1:
        tests = {"v8": shape[1] == 4 + n_classes, "v5": shape[2] == 5 + n_classes, "end2end": shape[2] == 6}
        fits = [name for name, fit in tests.items() if fit]
    if wanted in fits:
        return str(wanted)
    if wanted is None and len(fits) == 1:
        return fits[0]
    if wanted is None and fits:
        raise ConfigurationError(
            f"the model's output {shape} with {n_classes} classes could be {' or '.join(fits)}; say which with `layout`"
        )
    raise DetectorError(
        f"the model's output {shape} with {n_classes} classes is not {wanted or 'any known YOLO detection layout'}; "
        f"expected (1, {4 + n_classes}, n), (1, n, {5 + n_classes}) or (1, n, 6): check the class list and the export"
    )


def decode(output: Floats, layout: str, n_classes: int, floor: float) -> tuple[Floats, Floats]:
    """Return xyxy (k, 4) in input pixels and scores (k, n_classes), rows with some score >= ``floor`` > 0 only.

    Every class above the floor counts, not the best alone: a face that is also a likely "person" stays a face.
    Raises ImageError (numbers not finite, an empty box) and DetectorError (the model cannot be what it is said to be).
    """
    import numpy as np

    if not np.isfinite(output).all():
        raise ImageError(Reason.DETECTOR_REFUSED, "the model answered with numbers that are not finite")
    rows = (output[0].T if layout == "v8" else output[0]).astype(np.float64)
    if layout == "end2end":
        boxes, scores = _end2end(rows, n_classes, floor)
    else:
        boxes = _corners(rows[:, :4])
        scores = rows[:, 4:] if layout == "v8" else rows[:, 5:] * rows[:, 4:5]
        _check_scores(rows[:, 4:])
    scores = scores.clip(0, 1).round(6)
    strong = (scores >= floor).any(axis=1)
    _check_boxes(boxes[strong])
    return boxes[strong], scores[strong]


def _corners(boxes: Floats) -> Floats:
    import numpy as np

    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    corners: Floats = np.concatenate([centre - half, centre + half], axis=1)
    return corners


def _end2end(rows: Floats, n_classes: int, floor: float) -> tuple[Floats, Floats]:
    import numpy as np

    _check_scores(rows[:, 4])
    rows = rows[rows[:, 4].round(6) >= floor]
    ids = rows[:, 5].round().astype(np.int64)
    wrong = (ids < 0) | (ids >= n_classes) | (np.abs(rows[:, 5] - ids) > SCORE_SLACK)
    if wrong.any():
        raise DetectorError(
            f"the model answered class id {rows[wrong][0, 5]:g}, its class list has 0..{n_classes - 1}; "
            "give the class list it was trained with"
        )
    scores = np.zeros((len(rows), n_classes))
    scores[np.arange(len(rows)), ids] = rows[:, 4]
    return rows[:, :4], scores


def _check_scores(scores: Floats) -> None:
    if scores.size and (scores.min() < -SCORE_SLACK or scores.max() > 1 + SCORE_SLACK):
        raise DetectorError(
            f"the model's scores reach {scores.min():.3g}..{scores.max():.3g}, not 0..1; "
            "wrong `layout`, or an export without its final sigmoid"
        )


def _check_boxes(boxes: Floats) -> None:
    if not boxes.size:
        return
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ImageError(Reason.DETECTOR_REFUSED, "the model answered with an empty box")
    if boxes.max() <= NORMALISED:
        raise DetectorError(
            "the model's boxes are fractions of its input, not pixels; export it with pixel coordinates"
        )
