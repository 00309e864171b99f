"""BMP, written by ourselves: the file is one computed header and the rows, so the walker compares it whole."""

from __future__ import annotations

import struct

import numpy as np

from airflow_facefog.core.codec.picture import Encoded, Pixels
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.records import Reason

_MASKS = (0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)
_GRAYS = b"".join(bytes((v, v, v, 0)) for v in range(256))


def stride(width: int, channels: int) -> int:
    """Bytes of one stored row: padded to a multiple of four."""
    return (width * channels + 3) // 4 * 4


def header(width: int, height: int, channels: int) -> bytes:
    """All bytes before the rows: 8-bit gray with a gray palette, 24-bit BGR, or 32-bit BGRA (BITMAPV4HEADER, sRGB)."""
    info_size, compression, palette = (108, 3, b"") if channels == 4 else (40, 0, _GRAYS if channels == 1 else b"")
    size = stride(width, channels) * height
    offset = 14 + info_size + len(palette)
    info = struct.pack("<IiiHHIIiiII", info_size, width, height, 1, 8 * channels, compression, size, 0, 0, 0, 0)
    if channels == 4:
        info += struct.pack("<4I4s48x", *_MASKS, b"BGRs")
    return struct.pack("<2sIHHI", b"BM", offset + size, 0, 0, offset) + info + palette


def write(pixels: Pixels) -> Encoded:
    """Encode (h, w), (h, w, 3) BGR or (h, w, 4) BGRA, uncompressed. Raises ImageError ENCODE_FAILED over 4 GB."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else int(pixels.shape[2])
    row = stride(width, channels)
    if row * height > 2**32 - 2000:
        raise ImageError(Reason.ENCODE_FAILED, f"{width}x{height} pixels do not fit a BMP (4 GB)")
    rows = np.zeros((height, row), np.uint8)
    rows[:, : width * channels] = pixels[::-1].reshape(height, width * channels)
    return Encoded(header(width, height, channels) + rows.tobytes(), "bmp", "bmp", "bmp", True, channels)


def read(data: bytes) -> Pixels:
    """Decode bytes of ``write`` to the layout written. Raises ImageError VERIFY_FAILED for anything else."""
    width, height, channels = size_of(data)
    row = stride(width, channels)
    rows = np.frombuffer(data, np.uint8, offset=len(header(width, height, channels))).reshape(height, row)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.ascontiguousarray(rows[::-1, : width * channels]).reshape(shape)


def size_of(data: bytes) -> tuple[int, int, int]:
    """(width, height, channels) of a file that is exactly what ``write`` makes. Raises ImageError VERIFY_FAILED."""
    if len(data) >= 54:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
        channels = bits // 8
        if width > 0 and height > 0 and bits in (8, 24, 32) and stride(width, channels) * height < len(data):
            head = header(width, height, channels)
            if data.startswith(head) and len(data) == len(head) + stride(width, channels) * height:
                return width, height, channels
    raise ImageError(Reason.VERIFY_FAILED, "the BMP is not exactly one header and its rows")
