"""JPEG header (ITU-T T.81): size, sampling, matched IJG quality, orientation, ICC. Walks markers, decodes nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from airflow_facefog.core.codec import exif, ijg
from airflow_facefog.core.codec.picture import Header, corrupt, truncated, unsupported
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.records import Reason

NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""The next marker after entropy-coded data: not a stuffed byte, a restart or fill. One C-speed scan."""

_PROGRESSIVE = (0xC2, 0xCA)
_READ_SOF = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SAMPLING = {(1, 1): "444", (2, 1): "422", (2, 2): "420", (1, 2): "440", (4, 1): "411"}
_MAX_ICC = 4 << 20
_MCU = 32
"""Side of the largest unit that any of our samplings codes as one (4:1:1); a multiple of all others."""
_MAX_SEGMENTS = 10_000
_MAX_SCANS = 100
"""More scans make a small file cost minutes to decode; libjpeg's own progressive script has ten."""


@dataclass(slots=True)
class _Seen:
    """What the walk has collected so far."""

    sof: int = 0
    precision: int = 0
    width: int = 0
    height: int = 0
    components: list[tuple[int, int, int, int]] = field(default_factory=list)
    tables: dict[int, list[int]] = field(default_factory=dict)
    exif: bytes | None = None
    icc: dict[int, bytes] = field(default_factory=dict)
    adobe: int | None = None
    refinement: dict[int, list[int]] = field(default_factory=dict)
    scans: int = 0


def parse(data: bytes) -> Header:
    """Header of a JPEG.

    Raises ImageError: TRUNCATED, CORRUPT, UNSUPPORTED_DEPTH (not 8 bit), UNSUPPORTED_FORMAT (lossless, hierarchical, DNL).
    """
    seen = _Seen()
    _walk(data, seen)
    if not seen.sof:
        raise corrupt("this JPEG has a scan before its frame header")
    _require_complete(seen)
    return _header(seen)


def _walk(data: bytes, seen: _Seen) -> None:
    pos = 2
    for _ in range(_MAX_SEGMENTS):
        pos, marker = _marker_at(data, pos)
        if marker == 0xD9:
            return
        if marker in (0x01, *range(0xD0, 0xD8)):
            continue
        if marker == 0xD8:
            raise corrupt("this JPEG starts a second image inside its header")
        length = int.from_bytes(data[pos : pos + 2], "big")
        if pos + length > len(data):
            raise truncated("this JPEG ends inside a header segment")
        if length < 2:
            raise corrupt(f"a JPEG segment gives its length as {length}, less than the length field itself")
        _segment(marker, data[pos + 2 : pos + length], seen)
        pos += length
        if marker == 0xDA:
            following = _after_scan(data, pos, seen)
            if following is None:
                return
            pos = following
    raise corrupt(f"this JPEG has more than {_MAX_SEGMENTS} segments")


def _after_scan(data: bytes, pos: int, seen: _Seen) -> int | None:
    """Where the segment behind a scan begins; None when nothing more needs to be read.

    Only progressive files spread their quality over several scans. A missing end is found by the strict decoder.
    """
    if seen.sof not in _PROGRESSIVE:
        return None
    seen.scans += 1
    if seen.scans > _MAX_SCANS:
        raise corrupt(f"this progressive JPEG has more than {_MAX_SCANS} scans")
    match = NEXT_MARKER.search(data, pos)
    return match.start() if match else None


def _marker_at(data: bytes, pos: int) -> tuple[int, int]:
    """Position after the marker and its code. Fill bytes (FF FF …) are skipped."""
    if pos + 1 >= len(data):
        raise truncated("this JPEG ends before its picture does")
    if data[pos] != 0xFF:
        raise corrupt("this JPEG has stray bytes between its header segments")
    while pos < len(data) and data[pos] == 0xFF:
        pos += 1
    if pos >= len(data):
        raise truncated("this JPEG ends before its picture does")
    return pos + 1, data[pos]


def _segment(marker: int, body: bytes, seen: _Seen) -> None:
    if marker in _SOF:
        _frame(marker, body, seen)
    elif marker == 0xDB and not seen.refinement:
        _quantisation(body, seen)
    elif marker == 0xDA:
        _scan(body, seen)
    elif marker == 0xE1 and body[:6] == b"Exif\0\0" and seen.exif is None:
        seen.exif = body[6:]
    elif marker == 0xE2 and body[:12] == b"ICC_PROFILE\0" and len(body) > 14:
        seen.icc[body[12]] = body[14:]
    elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
        seen.adobe = body[11]
    elif marker == 0xDC:
        raise unsupported("this JPEG defines its height after the scan (DNL); convert it first")


def _frame(marker: int, body: bytes, seen: _Seen) -> None:
    if seen.sof:
        raise corrupt("this JPEG has two frame headers")
    if marker not in _READ_SOF:
        raise unsupported(f"JPEG process SOF{marker - 0xC0} (lossless or hierarchical) is not read; convert it first")
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise corrupt("the JPEG frame header has a wrong length")
    seen.sof, seen.precision = marker, body[0]
    seen.height, seen.width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    seen.components = [(body[i], body[i + 1] >> 4, body[i + 1] & 15, body[i + 2]) for i in range(6, len(body), 3)]
    if seen.precision != 8:
        raise ImageError(Reason.UNSUPPORTED_DEPTH, f"JPEG with {seen.precision} bits a sample is not read; 8 is")
    if len(seen.components) not in (1, 3, 4):
        raise unsupported(f"JPEG with {len(seen.components)} components is not read; 1, 3 and 4 are")


def _quantisation(body: bytes, seen: _Seen) -> None:
    pos = 0
    while pos < len(body):
        wide, number = body[pos] >> 4, body[pos] & 15
        size = 128 if wide else 64
        raw = body[pos + 1 : pos + 1 + size]
        if len(raw) != size or wide > 1 or number > 3:
            raise corrupt("a JPEG quantisation table has a wrong length or number")
        seen.tables[number] = [int.from_bytes(raw[i : i + 2], "big") for i in range(0, 128, 2)] if wide else list(raw)
        pos += 1 + size


def _scan(body: bytes, seen: _Seen) -> None:
    """Note, per component and coefficient band, how many low bits are still missing (progressive)."""
    count = body[0] if body else 0
    if len(body) != 4 + 2 * count or not 1 <= count <= 4:
        raise corrupt("a JPEG scan header has a wrong length")
    first, last, low = body[-3], body[-2], body[-1] & 15
    for i in range(count):
        bits = seen.refinement.setdefault(body[1 + 2 * i], [99] * 64)
        for k in range(first, min(last, 63) + 1):
            bits[k] = low


def _require_complete(seen: _Seen) -> None:
    """A progressive file cut between two scans is a valid, coarse picture that no decoder complains about."""
    if seen.sof not in _PROGRESSIVE:
        return
    for identifier, *_ in seen.components:
        if any(seen.refinement.get(identifier, [99])):
            raise truncated("this progressive JPEG lacks its last scans, so its picture is only a coarse preview")


def _header(seen: _Seen) -> Header:
    channels = len(seen.components)
    quality, turn = _quality(seen), exif.orientation(seen.exif)
    return Header(
        format="jpeg",
        width=seen.width,
        height=seen.height,
        orientation=turn,
        channels=channels,
        lossless=False,
        jpeg_quality=quality,
        jpeg_sampling=_sampling(seen),
        same_steps=_exact(seen, quality) and _grid_stays(seen.width, seen.height, turn),
        cmyk=channels == 4,
        inverted=channels == 4 and seen.adobe is not None,
        icc=_icc(seen.icc),
    )


def _quality(seen: _Seen) -> int | None:
    """From the luma and chroma tables; inks (CMYK) have one table and no chroma."""
    components = seen.components[:1] if len(seen.components) == 4 else seen.components[:2]
    return ijg.matched_quality([seen.tables[c[3]] for c in components if c[3] in seen.tables])


def _exact(seen: _Seen, quality: int | None) -> bool:
    """Whether the tables are IJG's at ``quality``."""
    if quality is None or len(seen.components) == 4:
        return False
    used = [seen.tables.get(c[3]) for c in seen.components]
    return all(own == list(ijg.table(quality, i > 0)) for i, own in enumerate(used))


def _grid_stays(width: int, height: int, turn: int) -> bool:
    """Whether block corners fall on block corners again after the turn: each mirrored side must be whole MCUs."""
    mirrors_x, mirrors_y = turn in (2, 3, 7, 8), turn in (3, 4, 6, 7)
    return not ((mirrors_x and width % _MCU) or (mirrors_y and height % _MCU))


def _sampling(seen: _Seen) -> str | None:
    factors = [(h, v) for _, h, v, _ in seen.components]
    if len(factors) == 1:
        return "gray"
    if len(set(factors)) == 1:
        return "444"
    if len(factors) == 3 and factors[1] == factors[2] == (1, 1):
        return _SAMPLING.get(factors[0])
    return None


def _icc(parts: dict[int, bytes]) -> bytes | None:
    """The profile; one that is too large reads as a damaged one."""
    if not parts:
        return None
    return b"".join(parts[number] for number in sorted(parts))[:_MAX_ICC]
