"""Objects of the audit as open files: local ones are hashed in chunks and read by columns, never held whole."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_facefog.audit.objects import Objects


@contextmanager
def opened(audit: Objects, key: str) -> Iterator[Any]:
    """The object as a seekable binary file, or None when there is none. Remote objects are read whole. Errors as the store's."""
    file = _open(audit, key)
    try:
        yield file
    finally:
        if file is not None:
            file.close()


def digest(file: Any) -> tuple[str, int]:
    """sha256 (64 hex digits) and size in bytes of an open file, read once from its start; leaves it at its start."""
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()
    size = file.seek(0, io.SEEK_END)  # hashing reads a buffer in memory without moving
    file.seek(0)
    return found, size


def _open(audit: Objects, key: str) -> Any:
    if audit.local:
        try:
            return open(audit.uri(key).removeprefix("file://"), "rb", buffering=0)
        except OSError:
            pass  # the store says what that means
    data = audit.get(key)
    return None if data is None else io.BytesIO(data)
