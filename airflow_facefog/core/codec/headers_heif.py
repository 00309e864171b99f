"""Header of AVIF and HEIC stills: the primary item's properties. Thumbnails, depth maps and metadata items are not read."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from airflow_facefog.core.codec import isobmff
from airflow_facefog.core.codec.isobmff import Box
from airflow_facefog.core.codec.picture import Header, corrupt, truncated, unsupported
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.records import Reason

_SEQUENCES = (b"avis", b"msf1", b"hevc", b"hevx", b"hevm", b"hevs")
_ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
_ALPHA_HEVC = b"urn:mpeg:hevc:2015:auxid:1"
_SRGB_PRIMARIES = (1, 2, 5, 6)
"""ITU-T H.273: BT.709, unspecified, BT.601: near enough to sRGB to be read as it."""
_PLAIN_TRANSFERS = (1, 2, 6, 13, 14, 15)
_MAX_ICC = 4 << 20
_ORIENTATION = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip
"""(irot quarter turns anticlockwise, imir axis) → EXIF orientation; ISO/IEC 23008-12 6.5.10, 6.5.12: turn, then mirror."""


@dataclass(slots=True)
class _Item:
    properties: list[Box]
    alpha: bool


def parse_avif(data: bytes) -> Header:
    """Header of an AVIF still. Raises ImageError: TRUNCATED, CORRUPT, MULTI_FRAME, UNSUPPORTED_FORMAT."""
    return _parse(data, "avif")


def parse_heic(data: bytes) -> Header:
    """Header of a HEIC still. Raises ImageError: TRUNCATED, CORRUPT, MULTI_FRAME, UNSUPPORTED_FORMAT."""
    return _parse(data, "heic")


def _parse(data: bytes, name: str) -> Header:
    item = _primary(data, name)
    sizes = [struct.unpack_from(">II", box.body, 4) for box in item.properties if box.kind == b"ispe"]
    if not sizes:
        raise corrupt(f"this {name.upper()} gives no size for its primary picture")
    width, height = _cropped(item.properties, sizes[-1], name)
    depths = [box.body[5] for box in item.properties if box.kind == b"pixi" and len(box.body) > 5]
    icc, notes = _colour(item.properties)
    return Header(
        format=name,
        width=width,
        height=height,
        orientation=_orientation(item.properties),
        bit_depth=max(depths, default=_coded_depth(item.properties)),
        channels=4 if item.alpha else 3,
        alpha=item.alpha,
        lossless=False,
        notes=notes,
        icc=icc,
    )


def _primary(data: bytes, name: str) -> _Item:
    top = {box.kind: box for box in reversed(list(isobmff.boxes(data)))}
    if b"moov" in top or data[8:12] in _SEQUENCES:
        raise ImageError(Reason.MULTI_FRAME, f"this {name.upper()} is a sequence; split it into frames first")
    if b"meta" not in top:
        raise truncated(f"this {name.upper()} has no description of its pictures")
    meta = {box.kind: box for box in reversed(isobmff.children(top[b"meta"], skip=4))}
    if not {b"pitm", b"iprp", b"iinf"} <= meta.keys():
        raise corrupt(f"this {name.upper()} names no primary picture")
    pitm = meta[b"pitm"].body
    primary = int.from_bytes(pitm[4 : 6 if pitm[0] == 0 else 8], "big")
    properties = _properties(meta[b"iprp"])
    refs = isobmff.references(meta[b"iref"]) if b"iref" in meta else []
    helpers = [source for kind, source, to in refs if kind == b"auxl" and primary in to]
    alpha = any(_is_alpha(box) for source in helpers for box in properties.get(source, []))
    if primary not in properties:
        raise corrupt(f"this {name.upper()} says nothing about its primary picture")
    return _Item(properties[primary], alpha)


def _properties(iprp: Box) -> dict[int, list[Box]]:
    inside = isobmff.children(iprp)
    pool = [box for ipco in inside if ipco.kind == b"ipco" for box in isobmff.children(ipco)]
    found: dict[int, list[Box]] = {}
    for ipma in inside:
        if ipma.kind == b"ipma":
            for item, indexes in isobmff.associations(ipma).items():
                found.setdefault(item, []).extend(pool[i - 1] for i in indexes if 0 < i <= len(pool))
    return found


def _is_alpha(box: Box) -> bool:
    return box.kind == b"auxC" and box.body[4:].partition(b"\0")[0] in (_ALPHA, _ALPHA_HEVC)


def _cropped(properties: list[Box], size: tuple[int, int], name: str) -> tuple[int, int]:
    """Size after ``clap``: HEVC codes even sizes only, so odd ones are cropped. libheif applies it, libavif does not."""
    crop = next((box for box in properties if box.kind == b"clap"), None)
    if crop is None:
        return size
    if name == "avif":
        raise unsupported("this AVIF is cropped by its container; convert it first")
    width_n, width_d, height_n, height_d = struct.unpack_from(">4I", crop.body)
    if not width_d or not height_d:
        raise corrupt("the crop of this picture divides by zero")
    return width_n // width_d, height_n // height_d


def _orientation(properties: list[Box]) -> int:
    kinds = [box.kind for box in properties if box.kind in (b"irot", b"imir")]
    if kinds not in ([], [b"irot"], [b"imir"], [b"irot", b"imir"]):
        raise unsupported("this picture is turned in an unusual order by its container; convert it first")
    turn = next((box.body[0] & 3 for box in properties if box.kind == b"irot"), 0)
    mirror = next((box.body[0] & 1 for box in properties if box.kind == b"imir"), None)
    return _ORIENTATION[turn, mirror]


def _coded_depth(properties: list[Box]) -> int:
    """Bit depth from the AV1 or HEVC configuration when no ``pixi`` says it."""
    for box in properties:
        if box.kind == b"av1C" and box.body[2] & 0x40:
            return 12 if box.body[2] & 0x20 else 10
        if box.kind == b"hvcC":
            return 8 + (box.body[17] & 7)
    return 8


def _colour(properties: list[Box]) -> tuple[bytes | None, tuple[str, ...]]:
    """ICC profile, and a note when coded colour (nclx) is wide or HDR and therefore read as if it were sRGB."""
    icc: bytes | None = None
    notes: tuple[str, ...] = ()
    for box in properties:
        if box.kind == b"colr" and box.body[:4] in (b"prof", b"rICC"):
            icc = box.body[4 : 4 + _MAX_ICC]
        elif box.kind == b"colr" and box.body[:4] == b"nclx":
            primaries, transfer = struct.unpack_from(">HH", box.body, 4)
            if primaries not in _SRGB_PRIMARIES or transfer not in _PLAIN_TRANSFERS:
                notes = ("wide_colour_read_as_srgb",)
    return icc, notes if icc is None else ()
