"""JPEG out and back in, through libjpeg-turbo: baseline, IJG tables, 4:2:0 to 4:4:4 or gray. Byte-deterministic."""

from __future__ import annotations

import numpy as np
import simplejpeg

from airflow_facefog.core.codec.decode_jpeg import decode_strict
from airflow_facefog.core.codec.ijg import MIN_QUALITY
from airflow_facefog.core.codec.picture import Encoded, Header, Pixels
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.policy import OutputFormat
from airflow_facefog.core.records import Reason

FOREIGN_QUALITY = 92
"""For pictures that were no JPEG before (HEIC, or a policy that asks for JPEG)."""


def write(pixels: Pixels, header: Header, output: OutputFormat) -> Encoded:
    """Encode at the source's IJG quality (nearest not lower, at least 50) and sampling, or the policy's quality.

    Raises ImageError ENCODE_FAILED for alpha or more than 65500 px a side.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        raise ImageError(Reason.ENCODE_FAILED, "JPEG has no alpha; set output.format to source, png or webp")
    quality, sampling = _quality(header, output), _sampling(pixels, header)
    colour = "GRAY" if pixels.ndim == 2 else "BGR"
    try:
        data = simplejpeg.encode_jpeg(np.atleast_3d(pixels), quality, colour, sampling, fastdct=False)
    except ValueError:
        height, width = pixels.shape[:2]
        raise ImageError(Reason.ENCODE_FAILED, f"{width}x{height} pixels do not fit a JPEG (65500 a side)") from None
    return Encoded(data, "jpeg", "jpg", f"jpeg_q{quality}_{sampling.lower()}", False, 1 if pixels.ndim == 2 else 3)


def _quality(header: Header, output: OutputFormat) -> int:
    if output.quality != "source":
        return output.quality
    return max(MIN_QUALITY, header.jpeg_quality or FOREIGN_QUALITY)


def _sampling(pixels: Pixels, header: Header) -> str:
    if pixels.ndim == 2:
        return "Gray"
    sampling = header.jpeg_sampling
    return sampling if sampling in ("444", "422", "420", "440", "411") else "444"


def read(data: bytes) -> Pixels:
    """Decode bytes of ``write``: (h, w) or (h, w, 3) BGR. Raises ImageError VERIFY_FAILED."""
    try:
        gray = simplejpeg.decode_jpeg_header(data)[2] == "Gray"
        pixels = np.asarray(decode_strict(data, "GRAY" if gray else "BGR"), np.uint8)
    except ValueError:
        raise ImageError(Reason.VERIFY_FAILED, "our own JPEG does not decode") from None
    return pixels[:, :, 0] if gray else pixels
