"""Read one listed item, and notice when it is gone, changed, a link out of the source, or not a file.

Messages never name the item: its ``source_ref`` does, in the audit.
"""

from __future__ import annotations

import hashlib
import os
import stat as stat_module
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ImageError, SourceError, StoreError
from airflow_facefog.core.raw import RawImage
from airflow_facefog.core.records import Reason
from airflow_facefog.job.listing import local_etag, remote_etag
from airflow_facefog.publish.store import read_whole

if TYPE_CHECKING:
    from upath import UPath

    from airflow_facefog.core.keys import KeyRing


@dataclass(frozen=True, slots=True)
class Item:
    """One planned item. Prints its ``source_ref`` only: the key is a file name."""

    source_ref: str
    key: str = field(repr=False)
    size: int
    etag: str = field(repr=False)
    group: str = field(repr=False)


class Source:
    """Reads items below one root. ``root`` and file names stay out of its repr."""

    def __init__(self, root: UPath, *, local_root: str | None, max_bytes: int) -> None:
        self._fs: Any = root.fs
        self._base = str(root.path).rstrip("/")
        self._local_root = os.path.realpath(local_root) if local_root is not None else None
        self._max_bytes = max_bytes

    def __repr__(self) -> str:
        return "Source(…)"

    def read(self, item: Item, keys: KeyRing) -> RawImage:
        """Return the item's bytes with their id.

        Raises SourceError (gone, changed, unreadable, outside), ImageError(TOO_MANY_BYTES, EMPTY_FILE), StoreError.
        """
        if item.size > self._max_bytes:
            raise ImageError(Reason.TOO_MANY_BYTES, f"{item.size} bytes; limits.max_bytes is {self._max_bytes}")
        data = self._read_local(item) if self._local_root is not None else self._read_remote(item)
        digest = hashlib.sha256(data).digest()
        return RawImage(data, keys.image_id_of(digest), digest)

    def _read_local(self, item: Item) -> bytes:
        path = os.path.join(self._local_root or "", item.key)
        real = os.path.realpath(path)
        if os.path.commonpath([real, self._local_root or "/"]) != self._local_root:
            raise SourceError(Reason.SOURCE_OUTSIDE, "a link leads out of the source; copy the file into it")
        try:
            descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise SourceError(Reason.SOURCE_MISSING, "the file is gone since it was listed") from None
        except OSError as error:
            raise SourceError(Reason.SOURCE_UNREADABLE, f"the file cannot be opened ({error.strerror})") from None
        if not stat_module.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise SourceError(Reason.SOURCE_UNREADABLE, "not a regular file; links to folders are not followed")
        with os.fdopen(descriptor, "rb") as handle:
            try:
                data = handle.read(item.size + 1)  # one more shows growth; a buffer of max_bytes cost 10 ms
            except OSError as error:
                raise SourceError(Reason.SOURCE_UNREADABLE, f"the file cannot be read ({error.strerror})") from None
            changed = local_etag(os.fstat(descriptor)) != item.etag or len(data) != item.size
        if changed:
            raise SourceError(Reason.SOURCE_CHANGED, "the file changed since it was listed; the next run takes it")
        return data

    def _read_remote(self, item: Item) -> bytes:
        path = f"{self._base}/{item.key}"
        try:
            data = read_whole(self._fs, path)
            etag = remote_etag(self._fresh_info(path))
        except FileNotFoundError:
            raise SourceError(Reason.SOURCE_MISSING, "the object is gone since it was listed") from None
        except PermissionError:
            raise SourceError(
                Reason.SOURCE_UNREADABLE, "the object may not be read; check the connection's rights"
            ) from None
        except Exception as error:
            raise StoreError(f"the source store failed ({type(error).__name__})") from None
        if etag != item.etag or len(data) != item.size:
            raise SourceError(Reason.SOURCE_CHANGED, "the object changed since it was listed; the next run takes it")
        return data

    def _fresh_info(self, path: str) -> dict[str, Any]:
        try:
            info: dict[str, Any] = self._fs.info(path, refresh=True)
        except TypeError:  # a filesystem without listing cache
            info = self._fs.info(path)
        return info
