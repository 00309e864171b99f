"""Bytes → upright 8-bit picture. Bytes only, never a path: ``cv2.imread`` returns half-gray pictures silently."""

from __future__ import annotations

from dataclasses import replace

from airflow_facefog.core.codec import colour, decode_cv, decode_jpeg, decode_pillow
from airflow_facefog.core.codec.decode_cv import decode_webp
from airflow_facefog.core.codec.orient import upright
from airflow_facefog.core.codec.picture import Header, Picture, Pixels, corrupt
from airflow_facefog.core.codec.probe import probe
from airflow_facefog.core.policy import Limits
from airflow_facefog.core.raw import RawImage

_UPRIGHT_ALREADY = frozenset({"tiff", "heic"})


def decode(raw: RawImage, limits: Limits) -> Picture:
    """Decode ``raw`` to upright 8-bit pixels in sRGB (or gray).

    Raises ImageError as ``probe`` does, and CORRUPT or TRUNCATED for whatever does not decode whole.
    """
    header = probe(raw, limits)
    frame, changes = _frame(raw.data, header)
    if header.format not in _UPRIGHT_ALREADY:
        frame = upright(frame, header.orientation)
    width, height = header.upright_size
    if frame.shape[:2] != (height, width):
        raise corrupt(f"the header says {width}x{height}, the picture inside is {frame.shape[1]}x{frame.shape[0]}")
    pixels, colour_changes = colour.to_srgb(frame, header)
    changes = header.notes + changes + colour_changes
    header = replace(header, icc=None, same_steps=header.same_steps and not changes)
    return Picture(pixels, header, changes, raw.image_id)


def _frame(data: bytes, header: Header) -> tuple[Pixels, tuple[str, ...]]:
    if header.format == "jpeg":
        return decode_jpeg.decode(data, header), ()
    if header.format == "png":
        return decode_cv.decode(data, header)
    if header.format == "webp":
        return decode_webp(data), ()
    return decode_pillow.decode(data, header)
