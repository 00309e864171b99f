"""The AVIF allow-list: ftyp, meta with AV1 items only, mdat that its items fill to the last byte; nothing else or after."""

from __future__ import annotations

import struct

from airflow_facefog.core.codec import isobmff
from airflow_facefog.core.codec.container_base import refuse
from airflow_facefog.core.codec.isobmff import Box
from airflow_facefog.core.errors import ImageError

_META = [b"hdlr", b"iinf", b"iloc", b"iprp", b"pitm"]
_PROPERTIES = frozenset({b"ispe", b"pixi", b"av1C", b"colr", b"auxC"})
_SIZES = {b"ispe": (12,), b"pixi": (6, 8, 7, 9), b"av1C": (4,), b"colr": (11,)}
_AUX = b"\0\0\0\0urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"
_HDLR = b"\0\0\0\0\0\0\0\0pict" + b"\0" * 13
_NAMES = (b"\0", b"Color\0", b"Alpha\0")
_BRANDS = frozenset({b"avif", b"mif1", b"miaf", b"MA1A", b"MA1B"})


def check(data: bytes) -> None:
    """Raise ImageError VERIFY_FAILED unless ``data`` is one AV1 still, with alpha at most, and nothing else."""
    try:
        top = list(isobmff.boxes(data))
        if [box.kind for box in top] != [b"ftyp", b"meta", b"mdat"]:
            refuse("the AVIF holds a box that is not on the allow-list")
        brands = top[0].body[:4] + top[0].body[8:]
        if top[0].body[4:8] != b"\0\0\0\0" or {brands[i : i + 4] for i in range(0, len(brands), 4)} - _BRANDS:
            refuse("the AVIF announces an unknown brand")
        meta = {box.kind: box for box in isobmff.children(top[1], skip=4)}
        _check_meta(meta, len(isobmff.children(top[1], skip=4)))
        _check_extents(meta[b"iloc"], top[2], len(isobmff.item_types(meta[b"iinf"])))
    except (ImageError, struct.error):
        refuse("the AVIF is not exactly one AV1 still picture")


def _check_meta(meta: dict[bytes, Box], count: int) -> None:
    if sorted(meta.keys() - {b"iref"}) != _META or count != len(meta):
        refuse("the AVIF's description holds a box that is not on the allow-list")
    types = isobmff.item_types(meta[b"iinf"])
    if set(types.values()) != {b"av01"} or len(types) > 2:
        refuse("the AVIF holds an item that is no AV1 picture")
    references = isobmff.references(meta[b"iref"]) if b"iref" in meta else []
    if [kind for kind, _, _ in references] not in ([], [b"auxl"]) or len(references) != len(types) - 1:
        refuse("the AVIF holds a picture that is neither the primary one nor its alpha")
    if meta[b"hdlr"].body != _HDLR or any(e.body[12:] not in _NAMES for e in isobmff.children(meta[b"iinf"], skip=6)):
        refuse("the AVIF names an unknown handler or item")
    for box in isobmff.children(meta[b"iprp"]):
        if box.kind == b"ipco":
            _check_properties(isobmff.children(box))
        elif box.kind != b"ipma":
            refuse("the AVIF's properties hold a box that is not on the allow-list")


def _check_properties(properties: list[Box]) -> None:
    for box in properties:
        if box.kind not in _PROPERTIES or len(box.body) not in _SIZES.get(box.kind, (len(_AUX),)):
            refuse("the AVIF holds a property that is not on the allow-list")
        if (box.kind == b"colr" and box.body[:4] != b"nclx") or (box.kind == b"auxC" and box.body != _AUX):
            refuse("the AVIF holds a profile, or an auxiliary picture that is not alpha")


def _check_extents(iloc: Box, mdat: Box, items: int) -> None:
    """Every byte of mdat belongs to exactly one item."""
    body = iloc.body
    if body[0] != 0 or body[4:6] != b"\x44\x00":
        refuse("the AVIF places its items in an unknown way")
    (count,) = struct.unpack_from(">H", body, 6)
    found = []
    for i in range(count):
        _, _, extents, offset, length = struct.unpack_from(">HHHII", body, 8 + 14 * i)
        if extents != 1:
            refuse("the AVIF scatters an item")
        found.append((offset, length))
    at = mdat.at
    for offset, length in sorted(found):
        if offset != at:
            refuse("the AVIF has bytes that belong to no picture")
        at += length
    if count != items or at != mdat.at + len(mdat.body) or len(body) != 8 + 14 * count:
        refuse("the AVIF has bytes that belong to no picture")
