"""The WebP allow-list: RIFF, VP8X (alpha flag at most), ALPH, one VP8 or VP8L, and nothing else or after."""

from __future__ import annotations

from airflow_facefog.core.codec.container_base import refuse
from airflow_facefog.core.codec.headers_webp import chunks
from airflow_facefog.core.errors import ImageError

_ALLOWED = ([b"VP8 "], [b"VP8L"], [b"VP8X", b"VP8L"], [b"VP8X", b"VP8 "], [b"VP8X", b"ALPH", b"VP8 "])
_ALPHA_FLAG = 0x10


def check(data: bytes) -> None:
    """Raise ImageError VERIFY_FAILED unless ``data`` is exactly one still picture and nothing else."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or int.from_bytes(data[4:8], "little") + 8 != len(data):
        refuse("the WebP's RIFF size is not the file's size")
    try:
        found = list(chunks(data, len(data)))
    except ImageError:
        refuse("a WebP chunk runs past the end")
    if [kind for kind, _ in found] not in _ALLOWED:
        refuse("the WebP holds a chunk that is not on the allow-list")
    if 12 + sum(8 + len(body) + (len(body) & 1) for _, body in found) != len(data):
        refuse("the WebP has bytes outside its chunks")
    for kind, body in found:
        if kind == b"VP8X" and (len(body) != 10 or body[0] & ~_ALPHA_FLAG or any(body[1:4])):
            refuse("the WebP announces metadata, a profile or an animation")
