"""TIFF 6.0 header: exactly one page, 1 to 16 bits of unsigned integers, every strip inside the file."""

from __future__ import annotations

import struct

from airflow_facefog.core.codec.picture import Header, corrupt, truncated, unsupported
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.records import Reason

_TYPE_SIZE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_UNPACK = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I"}
_MAX_VALUES = 1 << 20
_MAX_ICC = 4 << 20
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _STRIP_COUNTS = 273, 274, 277, 279
_TILE_OFFSETS, _TILE_COUNTS, _EXTRA, _SAMPLE_FORMAT = 324, 325, 338, 339
_SUBFILE, _ICC, _DNG = 254, 34675, 50706
_LOSSY = (6, 7, 34712)
_PHOTOMETRICS = {0: "gray", 1: "gray", 2: "rgb", 3: "palette", 5: "cmyk", 6: "ycbcr"}


def parse(data: bytes) -> Header:
    """Header of a TIFF.

    Raises ImageError: TRUNCATED, CORRUPT, MULTI_FRAME (a second page), UNSUPPORTED_DEPTH (float, signed, over 16 bit),
    UNSUPPORTED_FORMAT (camera raw, exotic colour).
    """
    order = "<" if data[:2] == b"II" else ">"
    tags = _Tags(data, order)
    _refuse_raw(tags)
    _require_inside(tags, len(data))
    kind = _PHOTOMETRICS.get(tags.one(_PHOTOMETRIC, 1))
    bits = tags.many(_BITS) or (1,)
    samples = tags.one(_SAMPLES, 1)
    inverted_16 = tags.one(_PHOTOMETRIC, 1) == 0 and bits[0] == 16  # Pillow reads this pair as a negative
    if kind is None or inverted_16 or not 1 <= samples <= 5:
        raise unsupported(f"TIFF with photometric {tags.one(_PHOTOMETRIC, 1)} and {samples} samples is not read")
    if set(tags.many(_SAMPLE_FORMAT)) - {1} or len(set(bits)) != 1 or bits[0] not in (1, 2, 4, 8, 16):
        raise ImageError(
            Reason.UNSUPPORTED_DEPTH, f"TIFF with {bits[0]} bits of another kind than unsigned is not read; 1 to 16 are"
        )
    orientation = tags.one(_ORIENTATION, 1)
    return Header(
        format="tiff",
        width=tags.one(_WIDTH, 0),
        height=tags.one(_HEIGHT, 0),
        orientation=orientation if 1 <= orientation <= 8 else 1,
        bit_depth=bits[0],
        channels=samples,
        alpha=bool(tags.many(_EXTRA)) and kind != "cmyk",
        palette=kind == "palette",
        lossless=tags.one(_COMPRESSION, 1) not in _LOSSY,
        cmyk=kind == "cmyk",
        icc=tags.raw(_ICC, _MAX_ICC),
    )


class _Tags:
    """The one directory of a TIFF."""

    def __init__(self, data: bytes, order: str) -> None:
        self._data, self._order = data, order
        (offset,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, offset)
        self._entries = {}
        for i in range(count):
            tag, kind, length = struct.unpack_from(order + "HHI", data, offset + 2 + 12 * i)
            self._entries[tag] = (kind, length, offset + 10 + 12 * i)
        (following,) = struct.unpack_from(order + "I", data, offset + 2 + 12 * count)
        if following:
            raise ImageError(Reason.MULTI_FRAME, "this TIFF has more than one page; split it into pages first")

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def _place(self, tag: int) -> tuple[int, int, int]:
        kind, length, at = self._entries[tag]
        if _TYPE_SIZE.get(kind, 1) * length > 4:
            (at,) = struct.unpack_from(self._order + "I", self._data, at)
        return kind, length, at

    def many(self, tag: int) -> tuple[int, ...]:
        """Integer values of ``tag``, or () when it is absent."""
        if tag not in self._entries:
            return ()
        kind, length, at = self._place(tag)
        if kind not in _UNPACK or length > _MAX_VALUES:
            raise corrupt(f"TIFF tag {tag} has type {kind} and {length} values")
        return struct.unpack_from(f"{self._order}{length}{_UNPACK[kind]}", self._data, at)

    def one(self, tag: int, default: int) -> int:
        """First value of ``tag``, or ``default``."""
        values = self.many(tag)
        return values[0] if values else default

    def raw(self, tag: int, limit: int) -> bytes | None:
        """Bytes of ``tag`` (at most ``limit``), or None when it is absent."""
        if tag not in self._entries:
            return None
        _, length, at = self._place(tag)
        return self._data[at : at + min(length, limit)]


def _refuse_raw(tags: _Tags) -> None:
    if _DNG in tags or tags.one(_SUBFILE, 0) & 1:
        raise unsupported("this TIFF is a camera raw file whose first picture is a preview; develop it first")


def _require_inside(tags: _Tags, size: int) -> None:
    for offsets, counts in ((_STRIP_OFFSETS, _STRIP_COUNTS), (_TILE_OFFSETS, _TILE_COUNTS)):
        starts, lengths = tags.many(offsets), tags.many(counts)
        if len(starts) != len(lengths):
            raise corrupt(f"TIFF tags {offsets} and {counts} differ in length")
        if any(start + length > size for start, length in zip(starts, lengths, strict=True)):
            raise truncated("this TIFF ends before its picture does")
    if _STRIP_OFFSETS not in tags and _TILE_OFFSETS not in tags:
        raise corrupt("this TIFF has no strips and no tiles")
