"""WebP out and back in, through libwebp.

Lossless uses effort 0 (33 ms per megapixel, files 16 % larger than effort 4 at 120); lossy uses method 2 (32 ms, no
larger than method 4 at 78). Measured on a photo. ``exact`` keeps the colour under alpha 0 as it is.
"""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from airflow_facefog.core.codec.decode_cv import imdecode
from airflow_facefog.core.codec.picture import Encoded, Header, Pixels
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.policy import OutputFormat
from airflow_facefog.core.records import Reason

UNKNOWN_QUALITY = 90
"""WebP does not record its quality: high enough to add little to what is there."""
MIN_QUALITY = 75
_FINE_CHROMA = ("444", "422", "440")
"""JPEG samplings that lossy WebP, always 4:2:0, would coarsen: up to 13.6 RMS in a tile (limit 8), 6.3 from 4:2:0."""


def write(pixels: Pixels, header: Header, output: OutputFormat) -> Encoded:
    """Encode: a lossless source stays lossless unless the policy names a quality; lossy is at least 75.

    A JPEG source with finer chroma than WebP's becomes lossless too. Gray is written
    as equal channels: WebP has no gray. Raises ImageError ENCODE_FAILED over 16383 px a side.
    """
    channels = 1 if pixels.ndim == 2 else int(pixels.shape[2])
    lossless = output.quality == "source" and (header.lossless or header.jpeg_sampling in _FINE_CHROMA)
    quality = UNKNOWN_QUALITY if output.quality == "source" else max(MIN_QUALITY, output.quality)
    stream = BytesIO()
    try:
        image = to_image(pixels)
        if lossless:
            image.save(stream, "WEBP", lossless=True, quality=20, method=0, exact=True, exif=b"", xmp=b"")
        else:
            image.save(stream, "WEBP", quality=quality, method=2, exact=True, exif=b"", xmp=b"")
    except (OSError, ValueError):
        height, width = pixels.shape[:2]
        raise ImageError(Reason.ENCODE_FAILED, f"{width}x{height} pixels do not fit a WebP (16383 a side)") from None
    mode = "webp_lossless" if lossless else f"webp_q{quality}"
    return Encoded(stream.getvalue(), "webp", "webp", mode, lossless, channels)


def to_image(pixels: Pixels) -> Image.Image:
    """Pillow image of our layouts; gray becomes RGB."""
    if pixels.ndim == 2:
        return Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB))
    code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return Image.fromarray(cv2.cvtColor(pixels, code))


def read(data: bytes) -> Pixels:
    """Decode bytes of ``write``: (h, w, 3) BGR or (h, w, 4) BGRA. Raises ImageError VERIFY_FAILED."""
    frame = imdecode(data)
    if frame is None:
        raise ImageError(Reason.VERIFY_FAILED, "our own WebP does not decode")
    return np.asarray(frame, np.uint8)
