"""Pixels → fresh bytes, and back. Nothing of the source file but its format, quality and sampling is looked at."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from airflow_facefog.core.codec import write_avif, write_bmp, write_jpeg, write_png, write_tiff, write_webp
from airflow_facefog.core.codec.picture import Encoded, Header, Picture, Pixels
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.policy import OutputFormat
from airflow_facefog.core.records import Reason


def encode(picture: Picture, pixels: Pixels, output: OutputFormat) -> Encoded:
    """Encode ``pixels`` (same size and layout as ``picture.pixels``) as ``output`` asks; same pixels, same bytes.

    Raises ImageError ENCODE_FAILED when the target cannot hold the picture (JPEG has no alpha; WebP ends at 16383 px).
    """
    if pixels.shape != picture.pixels.shape:
        raise ImageError(
            Reason.ENCODE_FAILED, f"pixels of shape {pixels.shape} do not replace a picture of {picture.pixels.shape}"
        )
    target = _target(picture.header, output, alpha=pixels.ndim == 3 and pixels.shape[2] == 4)
    return _WRITERS[target](pixels, picture.header, output)


_WRITERS: dict[str, Callable[[Pixels, Header, OutputFormat], Encoded]] = {
    "jpeg": write_jpeg.write,
    "png": lambda pixels, _header, _output: write_png.write(pixels),
    "webp": write_webp.write,
    "avif": lambda pixels, _header, output: write_avif.write(pixels, output),
    "bmp": lambda pixels, _header, _output: write_bmp.write(pixels),
    "tiff": lambda pixels, _header, _output: write_tiff.write(pixels),
}
_READERS: dict[str, Callable[[bytes], Pixels]] = {
    "jpeg": write_jpeg.read,
    "png": write_png.read,
    "webp": write_webp.read,
    "avif": write_avif.read,
    "bmp": write_bmp.read,
    "tiff": write_tiff.read,
}


def _target(header: Header, output: OutputFormat, *, alpha: bool) -> str:
    if output.format != "source":
        return output.format
    if header.format == "heic":  # HEVC needs a licence and most consumers cannot read it; AVIF costs ten times as much
        return "png" if alpha else "jpeg"
    return header.format


def decode_output(encoded_data: bytes, format: str, channels: int | None = None) -> Pixels:
    """Decode our own final bytes to the layout that was given to ``encode``: (h, w), (h, w, 3) BGR or (h, w, 4) BGRA.

    ``channels`` (``Encoded.channels``) is needed only for gray pictures in WebP, which has no gray mode.
    Raises ImageError VERIFY_FAILED when they do not decode.
    """
    pixels = _READERS[format](encoded_data)
    if channels == 1 and pixels.ndim == 3:
        return np.asarray(cv2.cvtColor(pixels[:, :, :3], cv2.COLOR_BGR2GRAY), np.uint8)
    return pixels
