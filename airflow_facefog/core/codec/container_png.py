"""The PNG allow-list: IHDR, IDAT in one run, IEND, and nothing else or after."""

from __future__ import annotations

import zlib

from airflow_facefog.core.codec.container_base import refuse

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def check(data: bytes) -> None:
    """Raise ImageError VERIFY_FAILED unless ``data`` is IHDR, IDAT…, IEND with right checksums and nothing else."""
    if not data.startswith(_SIGNATURE) or data.find(_SIGNATURE, 1) != -1:
        refuse("the PNG does not start with its signature, or holds it twice")
    kinds = _kinds(data)
    if kinds[:1] != [b"IHDR"] or kinds[-1:] != [b"IEND"] or set(kinds[1:-1]) != {b"IDAT"}:
        refuse("the PNG holds a chunk that is not on the allow-list")


def _kinds(data: bytes) -> list[bytes]:
    view, kinds, pos = memoryview(data), [], 8
    while pos < len(data):
        size = int.from_bytes(data[pos : pos + 4], "big")
        kind, end = data[pos + 4 : pos + 8], pos + 12 + size
        if end > len(data):
            refuse("a PNG chunk runs past the end")
        if zlib.crc32(view[pos + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            refuse("a PNG chunk has a wrong checksum")
        if (kind == b"IHDR" and size != 13) or (kind == b"IEND" and size):
            refuse("a PNG chunk has a wrong length")
        kinds.append(kind)
        pos = end
    return kinds
