"""PNG header (ISO/IEC 15948): chunk walk up to IEND; CRCs are left to the decoder."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from airflow_facefog.core.codec import exif
from airflow_facefog.core.codec.picture import Header, corrupt, truncated
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.records import Reason

_MAX_ICC = 4 << 20
_MAX_CHUNKS = 1 << 17
_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def parse(data: bytes) -> Header:
    """Header of a PNG. Raises ImageError: TRUNCATED, CORRUPT, MULTI_FRAME (any animation chunk)."""
    if len(data) < 33:
        raise truncated("this PNG ends inside its header")
    if data[12:16] != b"IHDR" or data[8:12] != b"\0\0\0\x0d":
        raise corrupt("this PNG does not begin with IHDR")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    if depth not in _DEPTHS.get(colour, ()):
        raise corrupt(f"PNG colour type {colour} with {depth} bits does not exist")
    chunks = _chunks(data)
    return Header(
        format="png",
        width=width,
        height=height,
        orientation=exif.orientation(chunks.get(b"eXIf")),
        bit_depth=depth,
        channels=_CHANNELS[colour],
        alpha=colour in (4, 6) or b"tRNS" in chunks,
        palette=colour == 3,
        icc=_icc(chunks.get(b"iCCP")),
    )


def chunk(data: bytes, kind: bytes) -> bytes | None:
    """Body of the first ``kind`` chunk (eXIf, iCCP or tRNS) of a PNG that ``parse`` accepted, or None."""
    return _chunks(data).get(kind)


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """First body of each chunk that matters here, after walking to IEND."""
    found: dict[bytes, bytes] = {}
    for kind, start, end in _spans(data):
        if kind in (b"acTL", b"fcTL", b"fdAT"):
            raise ImageError(Reason.MULTI_FRAME, "this PNG is animated; split it into frames first")
        if kind in (b"eXIf", b"iCCP", b"tRNS"):
            found.setdefault(kind, data[start + 8 : end - 4])
    return found


def picture_only(data: bytes) -> bytes:
    """``data`` with the signature and the chunks that make the picture alone.

    libpng prints names out of broken metadata chunks on stderr, which ends in a log: it never gets to see them.
    """
    view = memoryview(data)
    return b"".join((data[:8], *(view[start:end] for kind, start, end in _spans(data) if kind in _PICTURE)))


def _spans(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each chunk up to IEND. Raises ImageError TRUNCATED, CORRUPT."""
    pos = 8
    for _ in range(_MAX_CHUNKS):
        if pos + 12 > len(data):
            raise truncated("this PNG ends before its IEND chunk")
        (size,) = struct.unpack_from(">I", data, pos)
        kind = data[pos + 4 : pos + 8]
        if pos + 12 + size > len(data):
            raise truncated("this PNG ends inside a chunk")
        yield kind, pos, pos + 12 + size
        if kind == b"IEND":
            return
        pos += 12 + size
    raise corrupt(f"this PNG has more than {_MAX_CHUNKS} chunks")


def _icc(body: bytes | None) -> bytes | None:
    """Inflate at most 4 MB of an iCCP chunk; a damaged one reads as none."""
    if body is None:
        return None
    packed = body.partition(b"\0")[2][1:]
    try:
        return zlib.decompressobj().decompress(packed, _MAX_ICC) or b"\0"
    except zlib.error:
        return b"\0"
