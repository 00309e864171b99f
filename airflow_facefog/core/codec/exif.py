"""The one EXIF value that matters here, orientation; everything else in there is left behind."""

from __future__ import annotations

import struct

ORIENTATION_TAG = 274
_MAX_ENTRIES = 1000


def orientation(blob: bytes | memoryview | None) -> int:
    """Orientation 1..8 from a TIFF-structured EXIF block (with or without the ``Exif\\0\\0`` prefix).

    Absent, damaged or out-of-range values mean 1, as in every viewer.
    """
    if not blob:
        return 1
    data = bytes(blob)
    if data[:4] == b"Exif":
        data = data[6:]
    if data[:2] not in (b"II", b"MM"):
        return 1
    order = "<" if data[:2] == b"II" else ">"
    try:
        return _from_ifd(data, order)
    except struct.error:
        return 1


def _from_ifd(data: bytes, order: str) -> int:
    (offset,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, offset)
    for i in range(min(count, _MAX_ENTRIES)):
        tag, kind = struct.unpack_from(order + "HH", data, offset + 2 + 12 * i)
        if tag == ORIENTATION_TAG:
            value: int
            (value,) = struct.unpack_from(order + ("I" if kind == 4 else "H"), data, offset + 10 + 12 * i)
            return value if 1 <= value <= 8 else 1
    return 1
