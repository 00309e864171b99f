"""List a source: folder, file, glob or explicit URIs → one root and the items below it, sorted.

Everything listed ends in exactly one status, so nothing is left out here but hidden files (a name or folder that starts
with a dot). Links to folders are not followed: they are listed, and end as failed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_facefog.core.errors import ConfigurationError, StoreError
from airflow_facefog.job.model import Place, RootOpener

_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Listed:
    """One listed item: ``key`` relative to the root with forward slashes, size in bytes, etag as the store says it."""

    key: str = field(repr=False)
    size: int
    etag: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Listing:
    """One root and its items, sorted by key."""

    root: Place
    items: tuple[Listed, ...] = field(repr=False)


def list_source(source: Place, sources: Sequence[str] | None, open_root: RootOpener) -> Listing:
    """List ``source`` or the explicit ``sources``. A root that does not exist raises ConfigurationError."""
    if sources is not None:
        return _list_explicit(sources, source, open_root)
    root, pattern = split_glob(source)
    items = _local_items(root.local_path) if root.is_local else _remote_items(root, open_root)
    if items is None:  # a single file
        root, _, name = _split_last(root)
        pattern = glob_regex(_escape(name))
        items = _local_items(root.local_path) if root.is_local else _remote_items(root, open_root)
    kept = (item for item in items or () if pattern is None or pattern.fullmatch(item.key))
    return Listing(root, tuple(sorted(kept, key=lambda item: item.key)))


def split_glob(source: Place) -> tuple[Place, re.Pattern[str] | None]:
    """Split at the first segment with a wildcard: the longest glob-free prefix and the pattern for the rest."""
    if source.is_local and os.path.lexists(source.local_path):
        return source, None  # an existing path may hold brackets in its name
    scheme, _, rest = source.uri.partition("://")
    segments = rest.split("/")
    for index, segment in enumerate(segments):
        if _GLOB.search(segment):
            root = Place(f"{scheme}://" + "/".join(segments[:index]), source.conn_id)
            return root, glob_regex("/".join(segments[index:]))
    return source, None


def glob_regex(pattern: str) -> re.Pattern[str]:
    """Compile a glob: ``*``, ``?`` and ``[…]`` stay within a segment, ``**`` spans folders (also none)."""
    segments = pattern.split("/")
    parts = ["(?:[^/]+/)*" if segment == "**" else _segment_regex(segment) + "/" for segment in segments]
    text = "".join(parts)
    return re.compile(text + "[^/]+" if segments[-1] == "**" else text.removesuffix("/"), re.DOTALL)


_TOKEN = re.compile(r"\*+|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)


def _segment_regex(segment: str) -> str:
    parts = []
    for piece in _TOKEN.findall(segment):
        if piece[0] == "*":
            parts.append("[^/]*")
        elif piece == "?":
            parts.append("[^/]")
        elif len(piece) > 1:
            inner = piece[1:-1].replace("\\", r"\\")
            parts.append(f"[{'^/' + inner[1:] if inner.startswith('!') else inner}]")
        else:
            parts.append(re.escape(piece))
    return "".join(parts)


def _escape(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _split_last(place: Place) -> tuple[Place, str, str]:
    head, _, name = place.uri.rpartition("/")
    return Place(head, place.conn_id), "/", name


def _local_items(root: str) -> list[Listed] | None:
    if os.path.isfile(root):
        return None
    if not os.path.isdir(root):
        raise ConfigurationError(
            "the source folder does not exist or is not a folder; check the path and its permissions"
        )
    try:
        return list(_walk(root, ""))
    except OSError as error:
        raise StoreError(f"the source cannot be listed ({error.strerror})") from None


def _walk(root: str, prefix: str) -> Iterator[Listed]:
    with os.scandir(os.path.join(root, prefix)) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            key = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, key + "/")
            else:
                yield Listed(key, *_local_stat(entry))


def _local_stat(entry: os.DirEntry[str]) -> tuple[int, str]:
    try:
        stat = entry.stat()
    except OSError:  # dangling link: listed, fails when read
        return 0, "dangling"
    return stat.st_size, local_etag(stat)


def local_etag(stat: os.stat_result) -> str:
    """What changes when a local file does: modification time in ns and size."""
    return f"{stat.st_mtime_ns}-{stat.st_size}"


def _remote_items(root: Place, open_root: RootOpener) -> list[Listed] | None:
    path = open_root(root.uri, root.conn_id)
    fs: Any = path.fs
    base = str(path.path).rstrip("/")
    fs.invalidate_cache()
    try:
        found: dict[str, dict[str, Any]] = fs.find(base, detail=True)
    except FileNotFoundError:
        found = {}
    except Exception as error:
        raise StoreError(f"the source cannot be listed ({type(error).__name__})") from None
    if list(found) == [base]:
        return None
    if not found and not _remote_exists(fs, base):
        raise ConfigurationError("the source prefix does not exist; check the URI and the connection's rights")
    items = []
    for name, info in found.items():
        key = name.removeprefix(base).lstrip("/")
        if key and not any(segment.startswith(".") for segment in key.split("/")):
            items.append(Listed(key, int(info.get("size") or 0), remote_etag(info)))
    return items


def _remote_exists(fs: Any, base: str) -> bool:
    try:
        return bool(fs.exists(base)) or "/" in base.strip("/")  # an object store has no empty folders
    except Exception as error:
        raise StoreError(f"the source cannot be listed ({type(error).__name__})") from None


def remote_etag(info: dict[str, Any]) -> str:
    """The store's own change mark: etag, md5 or generation, else modification time and size."""
    for name in ("ETag", "etag", "md5Hash", "generation", "content_md5"):
        if info.get(name):
            return str(info[name]).strip('"')
    moment = info.get("LastModified") or info.get("mtime") or info.get("created") or ""
    if isinstance(moment, datetime):  # some filesystems list seconds and look up a datetime
        moment = moment.timestamp()
    return f"{moment}-{info.get('size')}"


def item_folders(sources: Sequence[str]) -> list[Place]:
    """Every folder that directly holds one of the explicit ``sources``, once each."""
    places = map(Place.parse, sources)
    return sorted(
        {Place(f"{place.uri.partition('://')[0]}://{_folder(place)}", place.conn_id) for place in places},
        key=lambda place: place.uri,
    )


def _folder(place: Place) -> str:
    return os.path.dirname(place.uri.partition("://")[2])


def _list_explicit(sources: Sequence[str], source: Place, open_root: RootOpener) -> Listing:
    if not sources:
        return Listing(source, ())
    places = sorted({Place.parse(uri) for uri in sources}, key=lambda place: place.uri)
    if len({(place.conn_id, place.uri.partition("://")[0]) for place in places}) > 1:
        raise ConfigurationError("the listed images lie in several stores or connections; plan one run for each")
    root = _explicit_root(places, source)
    places = [Place(place.uri, root.conn_id) for place in places]
    items = []
    for place in places:
        key = place.uri.removeprefix(root.uri).lstrip("/")
        items.append(_explicit_local(place, key) if place.is_local else _explicit_remote(place, key, open_root))
    return Listing(root, tuple(items))


def _explicit_root(places: Sequence[Place], source: Place) -> Place:
    """``source`` when every image lies below it (then keys, and so output names, are those of a run over all of it), else
    the folder that they share."""
    prefix = source.uri.rstrip("/") + "/"
    if all(place.uri.startswith(prefix) and place.conn_id in (None, source.conn_id) for place in places):
        return source
    folder = os.path.commonpath([_folder(place) for place in places])
    return Place(f"{places[0].uri.partition('://')[0]}://{folder}", places[0].conn_id)


def _explicit_local(place: Place, key: str) -> Listed:
    try:
        stat = os.stat(place.local_path)
    except OSError:
        return Listed(key, 0, "dangling")
    return Listed(key, stat.st_size, local_etag(stat))


def _explicit_remote(place: Place, key: str, open_root: RootOpener) -> Listed:
    path = open_root(place.uri, place.conn_id)
    try:
        info = path.fs.info(path.path)
    except FileNotFoundError:
        return Listed(key, 0, "dangling")
    except Exception as error:
        raise StoreError(f"the source cannot be listed ({type(error).__name__})") from None
    return Listed(key, int(info.get("size") or 0), remote_etag(info))
