"""From the server's answer to detections. What is missing, odd or unknown refuses the picture: it never reads as "no faces"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError, ImageError
from airflow_facefog.core.records import XYXY, Detection, Polygon, Reason

if TYPE_CHECKING:
    from airflow_facefog.detectors.roboflow.prepare import Sent

SERVER_CAP = 300
"""What inference servers cut their answer to by default: a list of just this length may have been cut, whatever was asked."""
NAME_SHOWN = 40
HUGE = 1e9
"""No number in an answer is larger; NaN is not smaller either."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Class names: ``known`` casefolded answer → name handed on (None: any name is taken), ``renames`` alike."""

    known: Mapping[str, str] | None
    renames: Mapping[str, str]

    @classmethod
    def of(cls, classes: Sequence[str] | None, class_map: Mapping[str, str] | None) -> Labels:
        """Join class list and map. Raises ConfigurationError: empty names, one twice, a rename of none of the classes."""
        renames = {name.casefold(): new for name, new in (class_map or {}).items()}
        if not all(new.strip() for new in renames.values()) or len(renames) != len(class_map or {}):
            raise ConfigurationError("class_map names a class twice (compared casefolded), or renames one to nothing")
        if classes is None:
            return cls(None, renames)
        if not classes or not all(name.strip() for name in classes):
            raise ConfigurationError("classes is empty or holds an empty name; leave it out when they are not known")
        known = {name.casefold(): renames.get(name.casefold(), name) for name in classes}
        if len(known) != len(classes):
            raise ConfigurationError("classes names a class twice (names are compared casefolded)")
        strangers = sorted(set(renames) - set(known))
        if strangers:
            raise ConfigurationError(f"class_map renames {strangers[0]!r}, which is not in classes")
        return cls(known, renames)

    @property
    def emitted(self) -> tuple[str, ...] | None:
        """Every name handed on, or None when unknown."""
        return None if self.known is None else tuple(dict.fromkeys(self.known.values()))

    def canonical(self) -> list[Any]:
        """Plain values that change whenever names do, for the fingerprint."""
        return [None if self.known is None else sorted(self.known.items()), sorted(self.renames.items())]

    def name_of(self, answered: Any) -> str:
        """The name to hand on. Raises ImageError for a class that is not listed, or no name at all."""
        if not isinstance(answered, str) or not answered.strip():
            raise _refused("a prediction without a class name")
        folded = answered.casefold()
        if self.known is None:
            return self.renames.get(folded, answered)
        if folded not in self.known:
            raise _refused(f"class {answered[:NAME_SHOWN]!r}, which is not in the model's listed classes")
        return self.known[folded]


def is_full(answer: Any, max_detections: int) -> bool:
    """Whether the list of predictions may have been cut off at its end. Raises ImageError when there is no list."""
    count = len(_predictions(answer))
    return count >= max_detections or count == SERVER_CAP


def read_answer(answer: Any, sent: Sent, labels: Labels, floor: float) -> list[Detection]:
    """Return detections with confidence >= ``floor`` in the upright picture, on the 1/64-px grid, clipped to it.

    Raises ImageError(DETECTOR_REFUSED) unless the server saw exactly the size that was sent and every prediction is
    whole, finite, positive, inside that size and of a known class.
    """
    predictions = _predictions(answer)
    size = _size(answer)
    if size != (sent.width, sent.height):
        raise _refused(f"a picture of {size[0]}x{size[1]} px, but {sent.width}x{sent.height} was sent")
    found = [_detection(item, sent, labels) for item in predictions]
    return [detection for detection in found if detection is not None and detection.confidence >= floor]


def _predictions(answer: Any) -> list[Any]:
    predictions = answer.get("predictions") if isinstance(answer, Mapping) else None
    if not isinstance(predictions, list):
        raise _refused("no list of predictions; is this an object-detection model?")
    return predictions


def _size(answer: Mapping[str, Any]) -> tuple[float, float]:
    image = answer.get("image")
    if not isinstance(image, Mapping):
        raise _refused("no image size")
    return _number(image, "width"), _number(image, "height")


def _detection(item: Any, sent: Sent, labels: Labels) -> Detection | None:
    """One prediction in the upright picture; None when it lies in the padding alone."""
    if not isinstance(item, Mapping):
        raise _refused("a prediction that is none")
    x, y, width, height = (_number(item, name) for name in ("x", "y", "width", "height"))
    confidence = round(_number(item, "confidence"), 6)
    if not 0 <= confidence <= 1:
        raise _refused(f"confidence {confidence:g}, outside 0..1")
    if width <= 0 or height <= 0 or not (0 <= x <= sent.width and 0 <= y <= sent.height):
        raise _refused(f"box centre ({x:g}, {y:g}), size {width:g}x{height:g} in {sent.width}x{sent.height} px")
    name = labels.name_of(item.get("class"))
    points = _points(item.get("points"))
    box = _hull((x - width / 2, y - height / 2, x + width / 2, y + height / 2), points)
    (x1, y1), (x2, y2) = _place((box[0], box[1]), sent), _place((box[2], box[3]), sent)
    if x2 <= x1 or y2 <= y1:
        return None
    polygon = tuple(_place(point, sent) for point in points) if len(points) >= 3 else None
    class_id = item.get("class_id")
    number = class_id if isinstance(class_id, int) and class_id >= 0 else 0
    return Detection((x1, y1, x2, y2), confidence, name, number, polygon, "roboflow").on_grid()


def _points(value: Any) -> Polygon:
    """An outline as ``[{"x", "y"}, …]``; none, or too few of them, leave the box alone."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(point, Mapping) for point in value):
        raise _refused("an outline that is no list of points")
    return tuple((_number(point, "x"), _number(point, "y")) for point in value)


def _hull(box: XYXY, points: Polygon) -> XYXY:
    """The box, enlarged to hold its outline."""
    xs, ys = [box[0], box[2], *(x for x, _ in points)], [box[1], box[3], *(y for _, y in points)]
    return min(xs), min(ys), max(xs), max(ys)


def _place(point: tuple[float, float], sent: Sent) -> tuple[float, float]:
    """A point of the sent picture in the upright one, with the factors of our own resize, clipped to the window."""
    fit, window = sent.fit, sent.fit.window
    x = min(max(point[0] * window.width / fit.width, 0.0), window.width)
    y = min(max(point[1] * window.height / fit.height, 0.0), window.height)
    return window.x + x, window.y + y


def _number(item: Mapping[str, Any], name: str) -> float:
    value = item.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < HUGE:
        raise _refused(f"a {name} that is missing or no finite number")
    return float(value)


def _refused(what: str) -> ImageError:
    return ImageError(Reason.DETECTOR_REFUSED, f"the Roboflow server answered with {what}")
