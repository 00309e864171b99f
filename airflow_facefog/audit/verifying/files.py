"""Objects of the audit as open files: local ones are hashed in chunks and read by columns, never held whole."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_facefog.audit.objects import Objects

CHUNK = 256 * 1024
"""Bytes that are read and hashed at once."""

_held = threading.local()


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
    found, size, view = hashlib.sha256(), 0, _buffer()
    while count := file.readinto(view):
        found.update(view[:count])
        size += count
    file.seek(0)
    return found.hexdigest(), size


def _buffer() -> memoryview:
    """One for each thread, which stays in the processor's cache: a new one for each file costs page faults."""
    if not hasattr(_held, "view"):
        _held.view = memoryview(bytearray(CHUNK))
    view: memoryview = _held.view
    return view


def _open(audit: Objects, key: str) -> Any:
    if audit.local:
        try:
            return open(audit.uri(key).removeprefix("file://"), "rb", buffering=0)
        except OSError:
            pass  # the store says what that means
    data = audit.get(key)
    return None if data is None else io.BytesIO(data)
