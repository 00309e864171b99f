"""From a model's raw boxes to detections: thinned without losing covered pixels, clipped, and on the grid.

A model answers many jittered boxes per face, and the policy fogs the *hull* of a cluster, so ordinary non-maximum
suppression would throw coverage away. Thinning keeps, per group of boxes that overlap their best one, each box that
enlarges the hull of the better boxes of its group: at every threshold the hull of what is kept equals the hull of all,
to within 1/32 of the best box's side (the policy's margins are 1/10 and more).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.records import Detection, Reason

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.floating]
    Indices = npt.NDArray[np.intp]

GROUP_IOU = 0.60
"""Stricter than the policy's clusters (.30), so that each group falls whole into one cluster."""
MAX_DETECTIONS = 10_000
"""More answers than this after thinning refuse the image: cutting the list off would leave regions clear unseen."""
MAX_RAW = 20_000
"""More raw boxes than this are refused before thinning, which takes seconds from here on."""
HULL_CELLS = 32


def refuse_broken(boxes: Floats, scores: Floats) -> None:
    """Raise ImageError(DETECTOR_REFUSED) if any box or score is NaN or infinite: never read as "nothing found"."""
    import numpy as np

    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ImageError(
            Reason.DETECTOR_REFUSED, "the detector answered with numbers that are not finite; check model and image"
        )


def thin(boxes: Floats, scores: Floats) -> Indices:
    """Return indices of the boxes to keep, best first: xyxy (n, 4), scores (n,)."""
    import numpy as np

    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[Indices] = []
    while order.size:
        same = _iou(boxes[order[0]], boxes[order], areas[order[0]], areas[order]) >= GROUP_IOU
        same[0] = True
        group = order[same]
        kept.append(group[_enlarging(boxes[group])])
        order = order[~same]
    chosen = np.concatenate(kept) if kept else order
    return chosen[np.lexsort((chosen, -scores[chosen]))]


def _iou(best: Floats, others: Floats, best_area: float, areas: Floats) -> Floats:
    import numpy as np

    side = np.minimum(best[2:], others[:, 2:]) - np.maximum(best[:2], others[:, :2])
    common = side.clip(0).prod(axis=1)
    overlap: Floats = common / np.maximum(best_area + areas - common, 1e-12)
    return overlap


def _enlarging(group: Floats) -> npt.NDArray[np.bool_]:
    """Which boxes of a group, best first, stick out of the hull of those before them by a cell of the best box's side."""
    import numpy as np

    cell = (group[0, 2:] - group[0, :2]) / HULL_CELLS
    low = np.minimum.accumulate(np.floor((group[:, :2] - group[0, :2]) / cell), axis=0)
    high = np.maximum.accumulate(np.ceil((group[:, 2:] - group[0, 2:]) / cell), axis=0)
    new = (np.diff(low, axis=0) < 0).any(axis=1) | (np.diff(high, axis=0) > 0).any(axis=1)
    return np.concatenate([[True], new])


def clip_to_frame(boxes: Floats, width: int, height: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Clip xyxy (n, 4) to the picture; second, which boxes keep any area (the rest lies in the padding)."""
    import numpy as np

    clipped: Floats = boxes.clip(0, np.array([width, height] * 2, np.float64))
    return clipped, (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])


def to_detections(boxes: Floats, scores: Floats, class_name: str, class_id: int, detector: str) -> list[Detection]:
    """Make thinned detections of one class on the 1/64-px grid, best first. Raises ImageError when there are too many."""
    if len(scores) > MAX_RAW:
        raise _too_many(len(scores))
    keep = thin(boxes, scores)
    if keep.size > MAX_DETECTIONS:
        raise _too_many(keep.size)
    return [
        Detection(tuple(boxes[i].tolist()), float(scores[i]), class_name, class_id, None, detector).on_grid()
        for i in keep
    ]


def _too_many(count: int) -> ImageError:
    return ImageError(
        Reason.TOO_MANY_DETECTIONS,
        f"the detector found {count} regions, more than can be told apart; raise the policy's record_floor or split the image",
    )
