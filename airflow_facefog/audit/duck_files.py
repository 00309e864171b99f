"""Parts of an audit as files of DuckDB, for stores that it cannot open itself (``s3://``, ``memory://`` …).

DuckDB's own extensions for these are downloads. Here a part is read whole through the audit's store when DuckDB first opens
it: with the rights of that store, no listing, nothing on disk. Parts never change, so the newest are kept in memory.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractFileSystem

if TYPE_CHECKING:
    from airflow_facefog.audit.objects import Objects

SCHEME = "facefog-audit"

KEPT_BYTES = 256_000_000
"""Parts that are held: a run of 100,000 detections takes about 9 MB."""


class AuditFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Read-only files ``facefog-audit://<key>``; only keys that were named beforehand exist."""

    protocol = SCHEME
    cachable = False

    def __init__(self, audit: Objects, keys: set[str]) -> None:
        super().__init__()
        self._audit, self._keys = audit, keys
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, path: str, mode: str = "rb", **_: Any) -> io.BytesIO:
        """The bytes of a part. Raises PermissionError for writing, FileNotFoundError for anything else."""
        if mode != "rb":
            raise PermissionError("the audit is only read here")
        return io.BytesIO(self._bytes(path))

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name, size and type."""
        return {"name": path, "size": len(self._bytes(path)), "type": "file"}

    def exists(self, path: str, **_: Any) -> bool:
        """Whether the key was named; a part that is gone says so when it is opened."""
        return _key(path) in self._keys

    def glob(self, path: str, **_: Any) -> list[str]:
        """The path itself: names are taken as they are."""
        return [path] if self.exists(path) else []

    def modified(self, path: str) -> datetime:
        """Parts never change."""
        return datetime(2020, 1, 1, tzinfo=UTC)

    def _bytes(self, path: str) -> bytes:
        key = _key(path)
        if key not in self._keys:
            raise FileNotFoundError("no such part in this audit")
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        data = self._audit.read(key)
        with self._lock:
            self._held[key] = data
            while len(self._held) > 1 and sum(map(len, self._held.values())) > KEPT_BYTES:
                self._held.popitem(last=False)
        return data


def _key(path: str) -> str:
    return path.removeprefix(f"{SCHEME}://")
