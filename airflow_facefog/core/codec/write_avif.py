"""AVIF out and back in, through libavif: one thread and no tiling, so that the bytes do not depend on the machine."""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
from PIL import AvifImagePlugin, Image

from airflow_facefog.core.codec.picture import Encoded, Pixels
from airflow_facefog.core.codec.write_webp import to_image
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.policy import OutputFormat
from airflow_facefog.core.records import Reason

UNKNOWN_QUALITY = 85
MIN_QUALITY = 75
_SPEED = 8


def write(pixels: Pixels, output: OutputFormat) -> Encoded:
    """Encode 8-bit AVIF, 4:4:4 (gray 4:0:0), quality at least 75. Raises ImageError ENCODE_FAILED."""
    channels = 1 if pixels.ndim == 2 else int(pixels.shape[2])
    quality = UNKNOWN_QUALITY if output.quality == "source" else max(MIN_QUALITY, output.quality)
    image = Image.fromarray(pixels) if channels == 1 else to_image(pixels)
    stream = BytesIO()
    try:
        image.save(
            stream, "AVIF", quality=quality, speed=_SPEED, max_threads=1, autotiling=False,
            subsampling="4:0:0" if channels == 1 else "4:4:4", icc_profile=b"", exif=b"", xmp=b"",
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError, SyntaxError):
        height, width = pixels.shape[:2]
        raise ImageError(Reason.ENCODE_FAILED, f"libavif refused {width}x{height} pixels") from None
    return Encoded(stream.getvalue(), "avif", "avif", f"avif_q{quality}", False, channels)


def read(data: bytes) -> Pixels:
    """Decode bytes of ``write``: (h, w) or (h, w, 3) BGR or (h, w, 4) BGRA. Raises ImageError VERIFY_FAILED."""
    try:
        image = AvifImagePlugin.AvifImageFile(BytesIO(data))
        array = np.asarray(image, np.uint8)
    except (OSError, ValueError, RuntimeError, SyntaxError):
        raise ImageError(Reason.VERIFY_FAILED, "our own AVIF does not decode") from None
    if image.mode == "L":
        return array
    code = cv2.COLOR_RGB2BGR if image.mode == "RGB" else cv2.COLOR_RGBA2BGRA
    return np.asarray(cv2.cvtColor(array, code), np.uint8)
