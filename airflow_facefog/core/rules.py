"""What happens to a class of detections: its family (from its name), its method, its outline and its margins."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field


class Method(StrEnum):
    """How a region is covered. ``pixelate`` and ``blur`` stay linkable to the source photo."""

    FOG = "fog"
    FILL = "fill"
    PIXELATE = "pixelate"
    BLUR = "blur"

    @property
    def linkable(self) -> bool:
        """Whether covered pixels influence the output."""
        return self in (Method.PIXELATE, Method.BLUR)


class Shape(StrEnum):
    """Outline of the fogged region; always covers the whole detection box, ``polygon`` aside."""

    BOX = "box"
    ELLIPSE = "ellipse"
    POLYGON = "polygon"


class Family(StrEnum):
    """Kind of class, from its name: decides default margins and which methods are allowed."""

    FACE = "face"
    PLATE = "plate"
    TEXT = "text"
    OTHER = "other"


_BORDER = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|[\W_]+")
_FACE_WORDS = frozenset({"face", "faces", "head", "heads"})
_PLATE_WORDS = frozenset({"lp", "alpr", "anpr"})
_PLATE_PARTS = ("license", "licence", "registration", "vehicle_number", "nummernschild", "kennzeichen")
_TEXT_NAMES = frozenset({"ocr", "document", "screen", "id_card", "signature"})


def class_family(class_name: str) -> Family:
    """Sort a class name into a family: ``license_plate`` → plate, ``maskedFace`` → face, ``ocr`` → text.

    ``face`` and ``head`` count as whole words alone: a ``surface`` is none.
    """
    words = [word.casefold() for word in _BORDER.split(class_name) if word]
    name = "_".join(words)
    if "plate" in name or not _PLATE_WORDS.isdisjoint(words):
        return Family.PLATE
    if "text" in name or name in _TEXT_NAMES:
        return Family.TEXT
    if not _FACE_WORDS.isdisjoint(words):
        return Family.FACE
    return Family.PLATE if any(part in name for part in _PLATE_PARTS) else Family.OTHER


class Frozen(BaseModel):
    """Base of all parts of a policy: immutable, no unknown keys, and no values in error messages."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


Fraction = Annotated[float, Field(ge=0.0, le=2.0)]


class Margins(NamedTuple):
    """Margin around a cluster's hull, as fractions of the hull's side (sides: of its width; top, bottom: of its height)."""

    sides: float
    top: float
    bottom: float


DEFAULT_MARGINS = {
    Family.FACE: Margins(sides=0.20, top=0.35, bottom=0.25),
    Family.PLATE: Margins(sides=0.10, top=0.15, bottom=0.15),
    Family.TEXT: Margins(sides=0.10, top=0.15, bottom=0.15),
    Family.OTHER: Margins(sides=0.20, top=0.20, bottom=0.20),
}
"""From measured coverage of faces (FOG numbers); plates and the rest are judgement."""


class Margin(Frozen):
    """A rule's own margins, as ``Margins``; None is the default of the class's family."""

    sides: Fraction | None = None
    top: Fraction | None = None
    bottom: Fraction | None = None

    def over(self, default: Margins) -> Margins:
        """``default`` with what is given here in its place."""
        return default._replace(**self.model_dump(exclude_none=True))


class FogRule(Frozen):
    """What happens to one class: fogged at ``min_confidence`` (0..1) and above."""

    min_confidence: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25
    margin: Margin | None = None
    method: Method = Method.FOG
    shape: Shape = Shape.BOX

    def margin_for(self, class_name: str) -> Margins:
        """The default margins of the class's family, with the rule's own in their place."""
        default = DEFAULT_MARGINS[class_family(class_name)]
        return self.margin.over(default) if self.margin else default

    def small_margins(self, class_name: str) -> dict[str, float]:
        """The defaults that this rule's margins go below; rules know their classes casefolded only.

        So ``maskedface`` may be a model's ``maskedFace``: compared with a face's margins, which are the largest.
        """
        if self.margin is None:
            return {}
        family = class_family(class_name)
        maybe_face = family is Family.OTHER and any(word in class_name for word in ("face", "head"))
        default = DEFAULT_MARGINS[Family.FACE if maybe_face else family]
        given = self.margin.over(default)
        return {side: least for side, least in default._asdict().items() if getattr(given, side) < least}
