"""Boxes of ISO base media files (ISO/IEC 14496-12), as far as HEIF still images (23008-12) need them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_facefog.core.codec.picture import corrupt, truncated

_MAX_BOXES = 100_000


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its four-letter ``kind``, the file offset of its body and the body."""

    kind: bytes
    at: int
    body: bytes


def boxes(data: bytes, base: int = 0) -> Iterator[Box]:
    """Boxes that fill ``data`` to the last byte; ``base`` is the file offset of its first byte.

    Raises ImageError: TRUNCATED when a box runs past the end, CORRUPT when one is shorter than its own head.
    """
    pos = 0
    for _ in range(_MAX_BOXES):
        if pos >= len(data):
            return
        if pos + 8 > len(data):
            raise truncated("an ISO media box ends inside its head")
        size, kind = struct.unpack_from(">I4s", data, pos)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, pos + 8)
            head = 16
        elif size == 0:
            size = len(data) - pos
        if size < head:
            raise corrupt("an ISO media box is shorter than its own head")
        if pos + size > len(data):
            raise truncated("this ISO media file ends inside a box")
        yield Box(kind, base + pos + head, data[pos + head : pos + size])
        pos += size
    raise corrupt(f"an ISO media box holds more than {_MAX_BOXES} boxes")


def children(box: Box, *, skip: int = 0) -> list[Box]:
    """Boxes inside ``box`` after ``skip`` bytes (4 for a full box)."""
    return list(boxes(box.body[skip:], box.at + skip))


def item_types(iinf: Box) -> dict[int, bytes]:
    """Item id → four-letter type, from an ``iinf`` box."""
    skip = 6 if iinf.body[0] == 0 else 8
    types: dict[int, bytes] = {}
    for entry in children(iinf, skip=skip):
        version = entry.body[0]
        if entry.kind != b"infe" or version not in (2, 3):
            raise corrupt(f"an item entry has version {version}; 2 and 3 exist")
        at = 6 if version == 2 else 8
        types[int.from_bytes(entry.body[4:at], "big")] = entry.body[at + 2 : at + 6]
    return types


def references(iref: Box) -> list[tuple[bytes, int, tuple[int, ...]]]:
    """(type, from item, to items) of an ``iref`` box."""
    wide = 4 if iref.body[0] else 2
    found = []
    for box in children(iref, skip=4):
        source = int.from_bytes(box.body[:wide], "big")
        count = int.from_bytes(box.body[wide : wide + 2], "big")
        at = range(wide + 2, wide + 2 + wide * count, wide)
        found.append((box.kind, source, tuple(int.from_bytes(box.body[i : i + wide], "big") for i in at)))
    return found


def associations(ipma: Box) -> dict[int, list[int]]:
    """Item id → 1-based property indexes in order, from an ``ipma`` box."""
    body, wide_id, wide_index = ipma.body, ipma.body[0] >= 1, bool(ipma.body[3] & 1)
    (entries,) = struct.unpack_from(">I", body, 4)
    pos, found = 8, {}
    for _ in range(entries):
        size = 4 if wide_id else 2
        item = int.from_bytes(body[pos : pos + size], "big")
        count = body[pos + size]
        pos += size + 1
        step, mask = (2, 0x7FFF) if wide_index else (1, 0x7F)
        found[item] = [int.from_bytes(body[i : i + step], "big") & mask for i in range(pos, pos + step * count, step)]
        pos += step * count
        if pos > len(body):
            raise corrupt("the property associations run past their box")
    return found
