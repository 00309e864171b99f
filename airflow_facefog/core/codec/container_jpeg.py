"""The JPEG allow-list: SOI, one plain JFIF, DQT, one SOF, DHT, DRI, SOS, scan, one EOI, and nothing else or after."""

from __future__ import annotations

from airflow_facefog.core.codec.container_base import refuse
from airflow_facefog.core.codec.headers_jpeg import NEXT_MARKER

_JFIF = b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
"""Version 1.01, no density, no thumbnail: what libjpeg writes. Anything else could carry a message."""
_SOI, _EOI, _SOS, _DQT, _DHT, _DRI, _SOF0, _APP0 = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xC0, 0xE0


def check(data: bytes) -> None:
    """Raise ImageError VERIFY_FAILED unless ``data`` is exactly one baseline picture with no carrier in it."""
    if not data.startswith(b"\xff\xd8\xff"):
        refuse("the JPEG does not start with SOI")
    pos, seen = 2, set[int]()
    while True:
        marker, body, pos = _segment(data, pos)
        if marker in (_APP0, _SOF0) and marker in seen:
            refuse(f"the JPEG repeats segment {marker:02X}")
        seen.add(marker)
        _allowed(marker, body)
        if marker == _SOS:
            break
    match = NEXT_MARKER.search(data, pos)
    if match is None or match.group() != b"\xff\xd9":
        refuse("the JPEG's scan is not followed by its end marker")
    elif match.end() != len(data):
        refuse("the JPEG has bytes after its end marker")


def _segment(data: bytes, pos: int) -> tuple[int, bytes, int]:
    if data[pos : pos + 1] != b"\xff" or pos + 4 > len(data):
        refuse("the JPEG has stray bytes between segments")
    length = int.from_bytes(data[pos + 2 : pos + 4], "big")
    end = pos + 2 + length
    if length < 2 or end > len(data):
        refuse("a JPEG segment has a wrong length")
    return data[pos + 1], data[pos + 4 : end], end


def _allowed(marker: int, body: bytes) -> None:
    good = {
        _APP0: lambda: body == _JFIF,
        _DQT: lambda: _tables_fill(body, lambda _: 64),
        _DHT: lambda: _tables_fill(body, lambda at: 16 + sum(body[at + 1 : at + 17])),
        _DRI: lambda: len(body) == 2,
        _SOF0: lambda: len(body) == 6 + 3 * body[5] and body[0] == 8 and body[5] in (1, 3),
        _SOS: lambda: len(body) == 4 + 2 * body[0] and body[-3:] == b"\0\x3f\0",
    }.get(marker)
    if good is None:
        refuse(f"the JPEG holds segment {marker:02X}, which is not on the allow-list")
    elif not body or not good() or b"\xff\xd8\xff" in body:
        refuse(f"the JPEG's segment {marker:02X} holds more or less than its format says")


def _tables_fill(body: bytes, size: object) -> bool:
    """Whether the tables of a DQT or DHT segment fill it to the last byte."""
    assert callable(size)
    pos, count = 0, 0
    while pos < len(body):
        pos += 1 + size(pos)
        count += 1
    return pos == len(body) and count <= 4
