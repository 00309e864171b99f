"""TIFF 6.0, written by ourselves: one directory, Deflate strips with horizontal differencing, no byte unaccounted for.

libtiff's writer is not used because the walker can then rebuild the whole directory and compare it byte by byte.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import cv2
import numpy as np

from airflow_facefog.core.codec.picture import Encoded, Pixels
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.records import Reason

_STRIP_BYTES = 1 << 20
_LEVEL = 1
_SHORT, _LONG = 3, 4


@dataclass(frozen=True, slots=True)
class Layout:
    """What the directory says: sizes in pixels, samples a pixel, compressed strip sizes in bytes."""

    width: int
    height: int
    channels: int
    counts: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows of a full strip."""
        return max(1, min(self.height, _STRIP_BYTES // (self.width * self.channels)))

    def strip_sizes(self) -> list[int]:
        """Uncompressed size of each strip in bytes."""
        starts = range(0, self.height, self.rows)
        return [min(self.rows, self.height - y) * self.width * self.channels for y in starts]


def directory(layout: Layout) -> bytes:
    """Header, directory and out-of-line values: every byte before the first strip."""
    channels, count = layout.channels, len(layout.counts)
    entries: list[tuple[int, int, list[int]]] = [
        (256, _LONG, [layout.width]),
        (257, _LONG, [layout.height]),
        (258, _SHORT, [8] * channels),
        (259, _SHORT, [8]),
        (262, _SHORT, [1 if channels == 1 else 2]),
        (273, _LONG, [0] * count),
        (277, _SHORT, [channels]),
        (278, _LONG, [layout.rows]),
        (279, _LONG, list(layout.counts)),
        (284, _SHORT, [1]),
        (317, _SHORT, [2]),
    ]
    if channels == 4:
        entries.append((338, _SHORT, [2]))
    size = len(_pack(entries))
    entries[5] = (273, _LONG, list(accumulate(layout.counts, initial=size))[:-1])
    return _pack(entries)


def _pack(entries: list[tuple[int, int, list[int]]]) -> bytes:
    table, extra = b"", b""
    base = 8 + 2 + 12 * len(entries) + 4
    for tag, kind, values in entries:
        body = struct.pack(f"<{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
        if len(body) > 4:
            body += b"\0" * (len(body) % 2)
            place, extra = struct.pack("<I", base + len(extra)), extra + body
        else:
            place = body.ljust(4, b"\0")
        table += struct.pack("<HHI", tag, kind, len(values)) + place
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + b"\0\0\0\0" + extra


def write(pixels: Pixels) -> Encoded:
    """Encode (h, w), (h, w, 3) BGR or (h, w, 4) BGRA losslessly. Raises ImageError ENCODE_FAILED over 4 GB."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else int(pixels.shape[2])
    layout = Layout(width, height, channels, ())
    packed = [_strip(pixels[y : y + layout.rows]) for y in range(0, height, layout.rows)]
    if sum(map(len, packed)) > 2**32 - 2**20:
        raise ImageError(Reason.ENCODE_FAILED, f"{width}x{height} pixels do not fit a TIFF (4 GB)")
    head = directory(Layout(width, height, channels, tuple(map(len, packed))))
    return Encoded(b"".join((head, *packed)), "tiff", "tif", "tiff_deflate", True, channels)


def _strip(rows: Pixels) -> bytes:
    if rows.ndim == 3:
        rows = np.asarray(
            cv2.cvtColor(rows, cv2.COLOR_BGR2RGB if rows.shape[2] == 3 else cv2.COLOR_BGRA2RGBA), np.uint8
        )
    differences = rows.copy()
    differences[:, 1:] -= rows[:, :-1]
    return zlib.compress(differences.tobytes(), _LEVEL)


def read(data: bytes) -> Pixels:
    """Decode bytes of ``write`` to the layout written. Raises ImageError VERIFY_FAILED for anything else."""
    layout = layout_of(data)
    shape = (layout.height, layout.width, layout.channels)
    pixels = np.frombuffer(b"".join(strips(data, layout)), np.uint8).reshape(shape)
    pixels = np.cumsum(pixels, axis=1, dtype=np.uint8)
    if layout.channels == 1:
        return pixels[:, :, 0]
    code = cv2.COLOR_RGB2BGR if layout.channels == 3 else cv2.COLOR_RGBA2BGRA
    return np.asarray(cv2.cvtColor(pixels, code), np.uint8)


def strips(data: bytes, layout: Layout) -> Iterator[bytes]:
    """Uncompressed strips, in order. Raises ImageError VERIFY_FAILED when one is not exactly its rows."""
    pos = len(directory(layout))
    for count, size in zip(layout.counts, layout.strip_sizes(), strict=True):
        yield _inflate(data[pos : pos + count], size)
        pos += count


def _inflate(strip: bytes, size: int) -> bytes:
    engine = zlib.decompressobj()
    try:
        out = engine.decompress(strip, size + 1)
    except zlib.error:
        out = b""
    if len(out) != size or not engine.eof or engine.unused_data:
        raise ImageError(Reason.VERIFY_FAILED, "a TIFF strip holds more or less than its rows")
    return out


def layout_of(data: bytes) -> Layout:
    """Layout of a file whose directory is exactly what ``write`` makes. Raises ImageError VERIFY_FAILED."""
    try:
        layout = _parse(data)
        whole = len(layout.counts) == -(-layout.height // layout.rows)
        if whole and data.startswith(directory(layout)) and len(data) == len(directory(layout)) + sum(layout.counts):
            return layout
    except (struct.error, IndexError, ZeroDivisionError):
        pass
    raise ImageError(Reason.VERIFY_FAILED, "the TIFF is not exactly one directory and its strips")


def _parse(data: bytes) -> Layout:
    (n,) = struct.unpack_from("<H", data, 8)
    entries = {e[0]: e for e in (struct.unpack_from("<HHII", data, 10 + 12 * i) for i in range(min(n, 12)))}
    if not {256, 257, 277, 279} <= entries.keys():
        raise IndexError
    _, _, strips, at = entries[279]
    if strips > len(data):
        raise IndexError
    counts = (at,) if strips == 1 else struct.unpack_from(f"<{strips}I", data, at)
    return Layout(entries[256][3], entries[257][3], entries[277][3], counts)
