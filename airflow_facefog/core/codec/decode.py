"""Bytes → upright 8-bit picture. Bytes only, never a path: ``cv2.imread`` returns half-gray pictures silently."""

from __future__ import annotations

from dataclasses import replace

from airflow_facefog.core.codec import colour, decode_jpeg, decode_png
from airflow_facefog.core.codec.orient import upright
from airflow_facefog.core.codec.picture import Header, Picture, Pixels, corrupt
from airflow_facefog.core.codec.probe import probe
from airflow_facefog.core.policy import Limits
from airflow_facefog.core.raw import RawImage


def decode(raw: RawImage, limits: Limits) -> Picture:
    """Decode ``raw`` to upright 8-bit pixels in sRGB (or gray).

    Raises ImageError as ``probe`` does, and CORRUPT or TRUNCATED for whatever does not decode whole.
    """
    header = probe(raw, limits)
    frame, changes = _frame(raw.data, header)
    if frame.shape[:2] != (header.height, header.width):
        raise corrupt(
            f"the header says {header.width}x{header.height}, the picture inside is {frame.shape[1]}x{frame.shape[0]}"
        )
    frame, colour_changes = colour.to_srgb(frame, header)
    pixels = upright(frame, header.orientation)
    return Picture(pixels, replace(header, icc=None), changes + colour_changes, raw.image_id)


def _frame(data: bytes, header: Header) -> tuple[Pixels, tuple[str, ...]]:
    if header.format == "jpeg":
        return decode_jpeg.decode(data, header), ()
    return decode_png.decode(data, header)
