"""Limits first: format, size, depth and frames from the header, before any pixel is decoded."""

from __future__ import annotations

import struct
from collections.abc import Callable

from airflow_facefog.core.codec import headers_bmp, headers_heif, headers_jpeg, headers_png, headers_tiff, headers_webp
from airflow_facefog.core.codec.picture import Header, corrupt, truncated
from airflow_facefog.core.codec.sniff import sniff
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.policy import Limits
from airflow_facefog.core.raw import RawImage
from airflow_facefog.core.records import Reason

_PARSERS: dict[str, Callable[[bytes], Header]] = {
    "jpeg": headers_jpeg.parse,
    "png": headers_png.parse,
    "webp": headers_webp.parse,
    "tiff": headers_tiff.parse,
    "bmp": headers_bmp.parse,
    "avif": headers_heif.parse_avif,
    "heic": headers_heif.parse_heic,
}


def probe(raw: RawImage, limits: Limits) -> Header:
    """Read the header of ``raw`` and hold it against ``limits``. No pixel is decoded.

    Raises ImageError: EMPTY_FILE, UNKNOWN_FORMAT, UNSUPPORTED_FORMAT, MULTI_FRAME, TOO_MANY_BYTES, TOO_MANY_PIXELS,
    UNSUPPORTED_DEPTH, TRUNCATED, CORRUPT.
    """
    if len(raw) > limits.max_bytes:
        raise ImageError(
            Reason.TOO_MANY_BYTES,
            f"the file has {len(raw)} bytes, more than limits.max_bytes {limits.max_bytes}; raise it to read this image",
        )
    parse = _PARSERS[sniff(raw.data)]
    try:
        header = parse(raw.data)
    except (struct.error, IndexError):
        raise truncated("the file ends inside its header") from None
    _check(header, limits)
    return header


def _check(header: Header, limits: Limits) -> None:
    if header.frames != 1:
        raise ImageError(Reason.MULTI_FRAME, f"the file holds {header.frames} frames; split it into images first")
    if header.width < 1 or header.height < 1:
        raise corrupt(f"the header says {header.width}x{header.height} pixels")
    pixels = header.width * header.height
    if pixels > limits.max_pixels:
        raise ImageError(
            Reason.TOO_MANY_PIXELS,
            f"the image has {header.width}x{header.height} = {pixels} pixels, more than limits.max_pixels "
            f"{limits.max_pixels}; raise it to read this image",
        )
