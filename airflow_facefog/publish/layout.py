"""Keys of published objects, and the way back to plain names. Pure text; a name is never identity.

``named``: ``data/<relative path>.<sha256[:12]>.<ext>``, each segment percent-encoded byte by byte (so NFC and NFD stay
apart) and cut to 255 bytes. ``content``: ``data/<ab>/<sha256>.<ext>``, for when names identify people.

``~`` is never produced by the encoding: it marks what was cut (``…~<16 hex of the whole segment>``) and paths too long
for an object store (``data/~deep/<sha256 of the path>/<last segment>``). ``%-`` is an empty segment (``a//b``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from urllib.parse import quote_from_bytes, unquote_to_bytes

from airflow_facefog.core.errors import ConfigurationError

ROOT = "data/"
SEGMENT_BYTES = 255
PATH_BYTES = 700
"""Longer keys go below ``~deep``: object stores stop at 1024 bytes, of which the destination's own prefix takes some."""

_EMPTY = "%-"
_DEEP = "~deep"
_SUFFIX = re.compile(r"\.([0-9a-f]{64}|[0-9a-f]{12})\.([a-z0-9]{1,8})$")
_SAME = {"jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "tif": "tiff", "heif": "heic"}
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\\ud800-\udfff]")


def output_key(layout: str, rel_path: str, sha256: str, ext: str, full: bool = False) -> str:
    """Key of an output: ``rel_path`` relative to the listed prefix, ``sha256`` of the output bytes, ``ext`` without dot.

    ``full`` puts the whole hash into a named key: the fallback when the short one is taken by other bytes.
    Raises ConfigurationError for an unknown layout, a hash that is not 64 hex digits or an odd extension.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", sha256) or not re.fullmatch(r"[a-z0-9]{1,8}", ext):
        raise ConfigurationError("an output key needs a sha256 of 64 lower-case hex digits and a plain extension")
    if layout == "content":
        return f"{ROOT}{sha256[:2]}/{sha256}.{ext}"
    if layout != "named":
        raise ConfigurationError(f"layout {layout!r} is unknown; valid: named, content")
    suffix = f".{sha256 if full else sha256[:12]}.{ext}"
    segments = [segment.encode("utf-8", "surrogateescape") for segment in rel_path.split("/")]
    folders = [_cut(segment, SEGMENT_BYTES) for segment in segments[:-1]]
    last = _cut(segments[-1], SEGMENT_BYTES - len(suffix)) + suffix
    key = ROOT + "/".join([*folders, last])
    if len(key) <= PATH_BYTES:
        return key
    return f"{ROOT}{_DEEP}/{hashlib.sha256(b'/'.join(segments)).hexdigest()}/{last}"


def source_path(key: str) -> str | None:
    """The relative source path that a named key was made from; None for the content layout.

    Segments that could not be written safely as a file name stay encoded; cut ones stay cut.
    """
    match = _SUFFIX.search(key)
    if match is None or not key.startswith(ROOT):
        return None
    return "/".join(_decode(segment) for segment in key[len(ROOT) : match.start()].split("/"))


def output_format(key: str) -> str:
    """Format of an output by its key: ``jpeg``, ``png``, ``webp``, ``tiff``, …"""
    ext = key.rpartition(".")[2]
    return _SAME.get(ext, ext)


def plain_names(keys: Sequence[str]) -> dict[str, str]:
    """Plain relative names for ``facefog export``: safe to write, unique even where case is ignored.

    The first key (in sorted order) takes the plain name; one that would collide with it, or be a file where another needs
    a folder, keeps its hash. Content keys lose ``data/`` only.
    """
    files: set[str] = set()
    folders: set[str] = set()
    names: dict[str, str] = {}
    for key in sorted(set(keys)):
        hashed = key.removeprefix(ROOT)
        apart = f"~{hashlib.sha256(key.encode()).hexdigest()[:16]}/{hashed.rpartition('/')[2]}"
        for name in (_plain_name(key), hashed, apart):
            folded = name.casefold()
            parents = {folded[:index] for index, char in enumerate(folded) if char == "/"}
            if folded not in files and folded not in folders and not parents & files:
                break
        files.add(folded)
        folders |= parents
        names[key] = name
    return names


def _plain_name(key: str) -> str:
    path = source_path(key)
    if path is None:
        return key.removeprefix(ROOT)
    have = path.rpartition("/")[2].rpartition(".")[2].casefold()
    ext = key.rpartition(".")[2]
    same = _SAME.get(have, have) == _SAME.get(ext, ext)
    return path if same else f"{path}.{ext}"


def _cut(segment: bytes, limit: int) -> str:
    if not segment:
        return _EMPTY
    text = quote_from_bytes(segment, safe="").replace("~", "%7E")
    if text.startswith("."):
        text = "%2E" + text[1:]
    if len(text) <= limit:
        return text
    head = text[: limit - 17]
    half = head.rfind("%", len(head) - 2)
    return f"{head if half < 0 else head[:half]}~{hashlib.sha256(segment).hexdigest()[:16]}"


def _decode(segment: str) -> str:
    text = unquote_to_bytes(segment).decode("utf-8", "surrogateescape")
    unsafe = (
        segment == _EMPTY or text in (".", "..") or _UNSAFE.search(text) or len(text.encode("utf-8", "replace")) > 240
    )
    return segment if unsafe else text
