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
MOVED_QUALITY = 90
"""When rounding to the source's quality would round a second time on other steps: a turn that moved the block grid, a
camera's own tables, converted colour. Measured on 10 photos, worst 16-px tile: 13.4 RMS at q50..75, 6.2 at 90 (limit 8);
on the same steps 4.0."""
COARSE_QUALITY = 75
"""For sources below ``MIN_QUALITY``: 30 → 50 reached 8.5 RMS in a tile, 30 → 75 reached 4.8."""


def write(pixels: Pixels, header: Header, output: OutputFormat) -> Encoded:
    """Encode at the source's IJG quality (higher where that would not do, see above) and sampling, or the policy's.

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
    if header.jpeg_quality is None:
        return FOREIGN_QUALITY
    if not header.same_steps:
        return max(MOVED_QUALITY, header.jpeg_quality)
    return header.jpeg_quality if header.jpeg_quality >= MIN_QUALITY else COARSE_QUALITY


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
