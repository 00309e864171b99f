"""Local files that appear whole and durable or not at all: temporary file, fsync, then link or rename."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from typing import Any

FILE_MODE = 0o640
"""Before the umask: nobody outside the group reads audit or output unless the folder's owner says so."""

TEMP_PREFIX = ".facefog-"
TEMP_SUFFIX = ".tmp"


def absolute(path: str) -> str:
    """The absolute form of a root, links not resolved."""
    return os.path.abspath(path)


def folder(path: str) -> str:
    """The folder that holds ``path``."""
    return os.path.dirname(path)


def create(path: str, data: bytes) -> bool:
    """Create ``path`` with these bytes unless it exists (False). Data is synced, the folder entry not yet.

    Raises OSError; nothing half-written stays visible under ``path``.
    """
    if os.path.lexists(path):
        return False
    _make_folder(folder(path))
    temporary = _write_temporary(path, data)
    try:
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError:
        return False
    except PermissionError as error:
        if error.errno == errno.EPERM:  # the folder takes files, so this is FAT and the like: no hard links
            raise OSError(errno.ENOTSUP, "no hard links") from None
        raise
    finally:
        os.unlink(temporary)
    return True


def replace(path: str, data: bytes) -> None:
    """Put these bytes at ``path``; a reader sees the old or the new ones, never a mixture."""
    _make_folder(folder(path))
    temporary = _write_temporary(path, data)
    try:
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def sync_folder(path: str) -> None:
    """Make the entries of the folder that holds ``path`` durable."""
    _sync(folder(path))


def read(path: str) -> bytes:
    """All bytes of a file."""
    with open(path, "rb") as file:
        return file.read()


def info(path: str) -> dict[str, Any]:
    """Size and type in fsspec's words."""
    found = os.stat(path)
    return {"size": found.st_size, "type": "file" if stat.S_ISREG(found.st_mode) else "other"}


def remove(path: str) -> bool:
    """Unlink a file; False when it was gone."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    _sync(folder(path))
    return True


def walk(path: str) -> list[str]:
    """All files below ``path`` except unfinished temporaries; none when there is no such folder.

    Unreadable or vanishing subfolders raise OSError: a gap must not look empty.
    """
    found: list[str] = []
    pending = [path] if os.path.isdir(path) else []
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif not (entry.name.startswith(TEMP_PREFIX) and entry.name.endswith(TEMP_SUFFIX)):
                    found.append(entry.path)
    return found


def _write_temporary(path: str, data: bytes) -> str:
    temporary = os.path.join(folder(path), f"{TEMP_PREFIX}{uuid.uuid4().hex}{TEMP_SUFFIX}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            _write_all(file.fileno(), data)
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _make_folder(path: str) -> None:
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    _make_folder(parent)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, "a file stands where a folder is needed") from None
    _sync(parent)


def _sync(path: str) -> None:
    """Windows cannot open folders; its file system journals the entry itself."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
