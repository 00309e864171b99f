"""What passes through the codec: a header (no pixel decoded), a picture (upright 8-bit pixels), encoded bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.records import Reason

Pixels = npt.NDArray[np.uint8]

SWAPS_SIDES = frozenset({5, 6, 7, 8})
"""EXIF orientations that exchange width and height."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the file says about itself. ``width``, ``height`` in pixels of the stored frame, before orientation.

    ``orientation`` is the EXIF value 1..8 that turns the stored frame upright. ``bit_depth`` counts bits per sample.
    ``jpeg_quality`` is the nearest-not-lower IJG quality 1..100 of the quantisation tables; ``jpeg_sampling`` one of
    444, 422, 420, 440, 411, gray, or None when it is none of them. ``same_steps``: a JPEG at ``jpeg_quality`` rounds the
    upright picture to the very steps it already lies on (IJG tables, block grid not moved by the turn, colour unchanged).
    ``lossless`` says whether the stored codec is.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    frames: int = 1
    bit_depth: int = 8
    channels: int = 3
    alpha: bool = False
    palette: bool = False
    lossless: bool = True
    jpeg_quality: int | None = None
    jpeg_sampling: str | None = None
    same_steps: bool = False
    cmyk: bool = False
    inverted: bool = False
    notes: tuple[str, ...] = ()
    icc: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) after orientation."""
        return (self.height, self.width) if self.orientation in SWAPS_SIDES else (self.width, self.height)


class Picture:
    """Upright 8-bit pixels of one image: (h, w) gray, (h, w, 3) BGR or (h, w, 4) BGRA; uint8, C order, read-only.

    ``changes`` lists what decoding altered beyond turning upright (promise P7's listed exceptions).
    """

    __slots__ = ("changes", "header", "image_id", "pixels")

    def __init__(self, pixels: Pixels, header: Header, changes: tuple[str, ...], image_id: str) -> None:
        self.pixels = np.ascontiguousarray(pixels)
        self.pixels.setflags(write=False)
        self.header = header
        self.changes = changes
        self.image_id = image_id

    def __repr__(self) -> str:
        return f"Picture({self.width}x{self.height}, {self.header.format}, id {self.image_id[:12]})"

    def __reduce__(self) -> str:
        raise TypeError("Picture is never serialised: raw pixels stay inside the process that read them")

    @property
    def width(self) -> int:
        """Width in pixels, upright."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels, upright."""
        return int(self.pixels.shape[0])

    def bgr(self) -> Pixels:
        """Colour as the detector sees it: (h, w, 3) uint8 BGR, contiguous.

        Alpha is dropped, not blended: colour hidden under alpha 0 is in the file, so it must be looked at.
        """
        if self.pixels.ndim == 2:
            return np.asarray(cv2.cvtColor(self.pixels, cv2.COLOR_GRAY2BGR), np.uint8)
        if self.pixels.shape[2] == 4:
            return np.asarray(cv2.cvtColor(self.pixels, cv2.COLOR_BGRA2BGR), np.uint8)
        return self.pixels


@dataclass(frozen=True, slots=True)
class Encoded:
    """Fresh bytes made from pixels only. ``extension`` has no dot; ``lossless``: the bytes decode bit-equal.

    ``channels`` is 1, 3 or 4: the layout that was encoded (WebP has no gray, so a gray picture needs this to decode back).
    """

    data: bytes = field(repr=False)
    format: str
    extension: str
    mode: str
    lossless: bool
    channels: int


def corrupt(message: str) -> ImageError:
    """Error: the structure contradicts itself."""
    return ImageError(Reason.CORRUPT, message)


def truncated(message: str) -> ImageError:
    """Error: the file ends before its structure does."""
    return ImageError(Reason.TRUNCATED, message)


def unsupported(message: str) -> ImageError:
    """Error: a valid variant that is not read here."""
    return ImageError(Reason.UNSUPPORTED_FORMAT, message)
