"""BMP header: Windows BITMAPINFOHEADER and later (40, 52, 56, 108, 124 bytes); OS/2 variants are refused."""

from __future__ import annotations

import struct

from airflow_facefog.core.codec.picture import Header, corrupt, truncated, unsupported

_INFO_SIZES = (40, 52, 56, 108, 124)


def parse(data: bytes) -> Header:
    """Header of a BMP. Raises ImageError: TRUNCATED, CORRUPT, UNSUPPORTED_FORMAT (OS/2, RLE, embedded JPEG or PNG)."""
    offset, info, width, height, planes, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    if info not in _INFO_SIZES:
        raise unsupported(f"BMP with a {info}-byte info header is not read; convert it first")
    if compression not in (0, 3) or bits not in (1, 4, 8, 16, 24, 32):
        raise unsupported(f"BMP with compression {compression} at {bits} bits is not read; convert it first")
    if planes != 1 or width < 1 or height == 0 or offset < 14 + info:
        raise corrupt("the BMP header contradicts itself")
    if offset + (width * bits + 31) // 32 * 4 * abs(height) > len(data):
        raise truncated("this BMP ends before its picture does")
    alpha = bits == 32 and compression == 3 and info >= 56 and data[66:70] != b"\0\0\0\0"
    return Header(
        format="bmp",
        width=width,
        height=abs(height),
        channels=4 if alpha else 3,
        alpha=alpha,
        palette=bits <= 8,
        bit_depth=min(bits, 8),
    )
