"""WebP header (RFC 9649): RIFF chunk walk; size, alpha, lossless, orientation, ICC."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_facefog.core.codec import exif
from airflow_facefog.core.codec.picture import Header, corrupt, truncated
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.records import Reason

_MAX_ICC = 4 << 20
_MAX_CHUNKS = 1000


def parse(data: bytes) -> Header:
    """Header of a WebP. Raises ImageError: TRUNCATED, CORRUPT, MULTI_FRAME (any animation)."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise truncated("this WebP is shorter than its RIFF size")
    found: dict[bytes, bytes] = {}
    for kind, body in chunks(data, end):
        found.setdefault(kind, body)
    extended = found.get(b"VP8X", b"")
    if b"ANIM" in found or b"ANMF" in found or (extended[:1] and extended[0] & 2):
        raise ImageError(Reason.MULTI_FRAME, "this WebP is animated; split it into frames first")
    lossless = b"VP8L" in found
    if lossless == (b"VP8 " in found):
        raise corrupt("this WebP holds no picture, or two")
    width, height, alpha = _vp8l(found[b"VP8L"]) if lossless else (*_vp8(found[b"VP8 "]), b"ALPH" in found)
    icc = found.get(b"ICCP")
    return Header(
        format="webp",
        width=width,
        height=height,
        orientation=exif.orientation(found.get(b"EXIF")),
        channels=4 if alpha else 3,
        alpha=alpha,
        lossless=lossless,
        icc=icc[:_MAX_ICC] if icc else icc,
    )


def chunks(data: bytes, end: int) -> Iterator[tuple[bytes, bytes]]:
    """(fourcc, body) of every chunk up to ``end``. Raises ImageError TRUNCATED when one runs past it."""
    pos = 12
    for _ in range(_MAX_CHUNKS):
        if pos + 8 > end:
            return
        size = int.from_bytes(data[pos + 4 : pos + 8], "little")
        if pos + 8 + size > end:
            raise truncated("a WebP chunk runs past the end of the file")
        yield data[pos : pos + 4], data[pos + 8 : pos + 8 + size]
        pos += 8 + size + (size & 1)
    raise corrupt(f"this WebP has more than {_MAX_CHUNKS} chunks")


def _vp8(body: bytes) -> tuple[int, int]:
    """Size from a VP8 key frame (RFC 6386, 9.1)."""
    if len(body) < 10 or body[0] & 1 or body[3:6] != b"\x9d\x01\x2a":
        raise corrupt("this WebP's picture is no VP8 key frame")
    return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF


def _vp8l(body: bytes) -> tuple[int, int, bool]:
    if len(body) < 5 or body[0] != 0x2F:
        raise corrupt("this WebP's picture is no lossless stream")
    bits = int.from_bytes(body[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
