"""TIFF, BMP, AVIF and HEIC pixels through Pillow (pillow-heif), one named decoder each, never by guess.

Called per format class, not through ``Image.open``: that would try other formats and apply its own pixel limit; ours
was applied to the header already.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from io import BytesIO

import cv2
import numpy as np
from PIL import AvifImagePlugin, BmpImagePlugin, Image, TiffImagePlugin

from airflow_facefog.core.codec.picture import Header, Pixels, corrupt, truncated
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.records import Reason

_FAULTS = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error, RuntimeError)
"""What Pillow's decoders raise for damaged data (RuntimeError: libheif, libavif). MemoryError is not among them."""


logging.getLogger("PIL").setLevel(logging.INFO)  # at DEBUG it logs the value of every TIFF tag it reads


def decode(data: bytes, header: Header) -> tuple[Pixels, tuple[str, ...]]:
    """Frame as 8-bit (h, w), (h, w, 3) BGR, (h, w, 4) BGRA or CMYK (0 = no ink), and what that changed.

    TIFF and HEIC come upright already: Pillow and libheif apply turns while loading.
    Raises ImageError: TRUNCATED, CORRUPT, MULTI_FRAME, UNSUPPORTED_DEPTH.
    """
    try:
        image = _OPENERS[header.format](data)
        if getattr(image, "n_frames", 1) != 1:
            raise ImageError(Reason.MULTI_FRAME, "the file holds more than one frame; split it into images first")
        image.load()
    except _FAULTS as error:
        word = header.format.upper()
        if "truncated" in str(error).lower() or isinstance(error, EOFError):
            raise truncated(f"this {word} ends before its picture does") from None
        raise corrupt(f"this {word}'s compressed data is damaged") from None
    return to_pixels(image, header)


def _heic(data: bytes) -> Image.Image:
    import pillow_heif

    found = pillow_heif.open_heif(BytesIO(data), convert_hdr_to_8bit=True)
    image: Image.Image = found[found.primary_index].to_pillow()
    return image


_OPENERS: dict[str, Callable[[bytes], Image.Image]] = {
    "tiff": lambda data: TiffImagePlugin.TiffImageFile(BytesIO(data)),
    "bmp": lambda data: BmpImagePlugin.BmpImageFile(BytesIO(data)),
    "avif": lambda data: AvifImagePlugin.AvifImageFile(BytesIO(data)),
    "heic": _heic,
}


def to_pixels(image: Image.Image, header: Header) -> tuple[Pixels, tuple[str, ...]]:
    """Bring a loaded Pillow image to one of our layouts. Raises ImageError UNSUPPORTED_DEPTH for a mode that has none."""
    changes = [f"depth_{header.bit_depth}_to_8"] if header.bit_depth > 8 else []
    mode = image.mode
    if mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8), tuple(changes)
    if mode in ("P", "PA"):
        mode = "RGBA" if mode == "PA" or "transparency" in image.info else "RGB"
        image = image.convert(mode)
        changes.append("palette_to_rgb")
    elif mode == "LA":
        mode, image = "RGBA", image.convert("RGBA")
        changes.append("gray_alpha_to_bgra")
    elif mode in ("1", "RGBX", "YCbCr"):
        mode = "L" if mode == "1" else "RGB"
        image = image.convert(mode)
    return _arrange(np.asarray(image), mode), tuple(changes)


def _arrange(array: Pixels, mode: str) -> Pixels:
    if mode in ("L", "CMYK"):
        return array
    if mode == "RGB":
        return np.asarray(cv2.cvtColor(array, cv2.COLOR_RGB2BGR), np.uint8)
    if mode == "RGBA":
        return np.asarray(cv2.cvtColor(array, cv2.COLOR_RGBA2BGRA), np.uint8)
    raise ImageError(Reason.UNSUPPORTED_DEPTH, f"pixels of mode {mode} are not read; 8 and 16 bit gray and colour are")
