"""PNG and WebP pixels through cv2 (libpng, libwebp), which refuses a wrong checksum and a picture cut short."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from airflow_facefog.core.codec.headers_png import chunk, picture_only
from airflow_facefog.core.codec.picture import Header, Pixels, corrupt

Samples = npt.NDArray[np.uint8 | np.uint16]


def decode(data: bytes, header: Header) -> tuple[Pixels, tuple[str, ...]]:
    """Stored frame as 8-bit (h, w), (h, w, 3) BGR or (h, w, 4) BGRA, and what that changed.

    Raises ImageError: CORRUPT.
    """
    frame = imdecode(picture_only(data))
    if frame is None:
        raise corrupt("this PNG is damaged: a checksum, the compressed data or a chunk is wrong")
    if frame.ndim == 2 and header.alpha:
        frame = _gray_transparency(frame, header, chunk(data, b"tRNS"))
    changes = []
    if frame.dtype == np.uint16:
        frame = (frame >> 8).astype(np.uint8)
        changes.append("depth_16_to_8")
    if header.palette:
        changes.append("palette_to_rgb")
    if header.channels == 2:
        changes.append("gray_alpha_to_bgra")
    return np.asarray(frame, np.uint8), tuple(changes)


def decode_webp(data: bytes) -> Pixels:
    """Stored frame of a still WebP: (h, w, 3) BGR or (h, w, 4) BGRA. Raises ImageError CORRUPT."""
    frame = imdecode(data)
    if frame is None or frame.ndim != 3:
        raise corrupt("this WebP's compressed data is damaged")
    return np.asarray(frame, np.uint8)


def imdecode(data: bytes) -> Samples | None:
    """cv2.imdecode, unchanged layout and unrotated; None when it refuses."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)  # type: ignore[return-value]
    except cv2.error:
        return None


def _gray_transparency(frame: Samples, header: Header, body: bytes | None) -> Samples:
    """Gray with one transparent level → BGRA; cv2 leaves the tRNS chunk of gray files unread."""
    if body is None or len(body) != 2:
        raise corrupt("this gray PNG has a tRNS chunk of a wrong length")
    full = 65535 if header.bit_depth == 16 else 255
    level = int.from_bytes(body, "big") * full // ((1 << header.bit_depth) - 1)
    out = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGRA)
    out[:, :, 3] = np.where(frame == level, 0, full)
    return np.asarray(out, frame.dtype)
