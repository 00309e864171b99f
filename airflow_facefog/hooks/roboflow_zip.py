"""Unpack an archive that somebody else made: no path out of the folder, no links, no bombs, every checksum right."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from airflow_facefog.core.errors import PermanentError, StoreError, TransientError

CHUNK = 1 << 20
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".avif")


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """``max_unpacked`` bytes and ``max_files`` in all; ``max_ratio``: how far one larger file may shrink in an archive.

    Pictures are compressed already (ratio about 1) and label files shrink 20 times; 200 is ten times that.
    """

    max_unpacked: int = 100_000_000_000
    max_files: int = 5_000_000
    max_ratio: int = 200


RATIO_FROM = 10_000_000
"""Smaller files are not judged by ratio: a label file of zeros is no bomb."""


def unpack(archive: Path, folder: Path, limits: ArchiveLimits) -> dict[str, int]:
    """Unpack into a new ``folder``; return ``{"files", "images"}``.

    Raises PermanentError for an archive that must not be unpacked, TransientError for one that arrived damaged,
    StoreError when the disk fails.
    """
    problem: Exception
    try:
        with zipfile.ZipFile(archive) as opened:
            members = check(opened, limits)
            folder.mkdir()
            for info, path in members:
                _extract(opened, info, folder / path)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        problem = TransientError(f"the dataset's archive is damaged ({type(error).__name__}); try again")
    except OSError as error:
        problem = StoreError(f"the dataset cannot be unpacked ({error.strerror})")
    else:
        images = sum(path.suffix.casefold() in PICTURES for _, path in members)
        return {"files": len(members), "images": images}
    raise problem


def check(opened: zipfile.ZipFile, limits: ArchiveLimits) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The archive's files with their safe relative paths; nothing is unpacked yet. Raises PermanentError."""
    found = [(info, _safe_path(info)) for info in opened.infolist() if not info.is_dir()]
    if not found or len(found) > limits.max_files:
        raise PermanentError(f"the dataset's archive holds {len(found)} files; it must be 1 to {limits.max_files}")
    if len({str(path).casefold() for _, path in found}) != len(found):
        raise PermanentError("the dataset's archive holds two files of one name; it is refused")
    total = sum(info.file_size for info, _ in found)
    if total > limits.max_unpacked:
        raise PermanentError(f"the dataset's archive unpacks to {total} bytes; the limit is {limits.max_unpacked}")
    for info, _ in found:
        if info.file_size > RATIO_FROM and info.file_size > limits.max_ratio * max(info.compress_size, 1):
            raise PermanentError("a file in the dataset's archive unpacks to far more than pictures do; it is refused")
    return found


def _safe_path(info: zipfile.ZipInfo) -> PurePosixPath:
    name = info.filename
    kind = stat.S_IFMT(info.external_attr >> 16)
    path = PurePosixPath(name)
    if kind not in (0, stat.S_IFREG) or info.flag_bits & 1:
        raise PermanentError("the dataset's archive holds a link, a device or an encrypted file; it is refused")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise PermanentError("the dataset's archive is compressed in an unusual way; it is refused")
    odd = "\\" in name or ":" in name or "\0" in name or any(ord(letter) < 32 for letter in name)
    if odd or path.is_absolute() or ".." in path.parts or not path.parts:
        raise PermanentError("the dataset's archive names a file outside its folder; it is refused")
    return path


def _extract(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """One file. ``zipfile`` reads at most the promised size and checks the CRC at its end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(info) as source, target.open("xb") as file:
        shutil.copyfileobj(source, file, CHUNK)
