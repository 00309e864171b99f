"""Find every object below a root, and hash them: in parallel, streaming, never following a link.

Local: one ``scandir`` a folder and one ``fstat`` a file. Remote: one flat listing with sizes; the listing is held by the
client as a whole. Unfinished temporaries are objects too: a consumer can read them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from airflow_facefog.publish import local_files
from airflow_facefog.publish.faults import storage_faults
from airflow_facefog.publish.prove.model import Found, Hashed
from airflow_facefog.publish.store import Store

CHUNK_OBJECTS = 128
CHUNK_BYTES = 64_000_000
"""Objects that one thread hashes in one go: enough to make the hand-over cheap, little enough to share evenly."""

RANGE = 16_000_000
"""Bytes held of one object at a time."""

WHOLE = 1_000_000
"""Files up to this size are read with one call."""

REMOTE_THREADS = 16
"""Round trips to an object store overlap; its bytes come slower than a CPU hashes them."""

LINK, SPECIAL = "a symbolic link, not followed", "no regular file (pipe, socket or device), not opened"
AMBIGUOUS = "a key that clients of the store read as another object's version; not opened"
UNREADABLE = "cannot be read"
GONE = "gone"
"""Removed between listing and reading: no object any more."""

_VERSION = re.compile(r"\?versionid=|#[0-9]+$", re.IGNORECASE)
"""What fsspec's clients cut off a key, so that they would read another object. Our own keys have neither character."""

_buffers = threading.local()


def walk(store: Store) -> Iterator[Found]:
    """Every object once, keys relative to the root. Raises ConfigurationError or StoreError: a gap must not look empty."""
    with storage_faults("list", ""):
        yield from _walk_local(_base(store)) if store.local else _walk_remote(store)


def is_unfinished(key: str) -> bool:
    """Whether a key is that of a temporary file that a dead attempt left."""
    name = key.rpartition("/")[2]
    return name.startswith(local_files.TEMP_PREFIX) and name.endswith(local_files.TEMP_SUFFIX)


def hash_all(store: Store, found: Iterable[Found], workers: int) -> Iterator[list[Hashed]]:
    """Hash objects in chunks, in the order of ``found``; at most two chunks a thread are under way."""
    threads = workers if store.local else max(workers, REMOTE_THREADS)
    window: deque[Future[list[Hashed]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="facefog-prove") as pool:
        try:
            for chunk in _chunks(found):
                window.append(pool.submit(_hash_chunk, store, chunk))
                if len(window) >= 2 * threads:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()
        finally:
            for future in window:
                future.cancel()


def read(store: Store, key: str) -> bytes | None:
    """The whole object, or None when it is gone or cannot be read. For keys as ``walk`` gives them."""
    with storage_faults("read", ""):
        try:
            if not store.local:
                return bytes(_fs(store).cat_file(f"{_base(store)}/{key}"))
            with os.fdopen(_open(f"{_base(store)}/{key}"), "rb") as file:
                return file.read() if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                return None
            raise


def _walk_local(base: str) -> Iterator[Found]:
    start = len(base.rstrip("/")) + 1
    pending = [base or "/"]
    while pending:
        with os.scandir(pending.pop()) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        pending += [entry.path for entry in reversed(found) if entry.is_dir(follow_symlinks=False)]
        for entry in found:
            if entry.is_file(follow_symlinks=False):
                yield Found(entry.path[start:])
            elif not entry.is_dir(follow_symlinks=False):
                yield Found(entry.path[start:], special=LINK if entry.is_symlink() else SPECIAL)


def _walk_remote(store: Store) -> Iterator[Found]:
    fs, base = _fs(store), _base(store)
    fs.invalidate_cache()
    try:
        listed: dict[str, Any] = fs.find(base, detail=True)
    except FileNotFoundError:
        return
    for name in sorted(listed):
        if name.startswith(base + "/"):
            key = name[len(base) + 1 :]
            yield Found(key, int(listed[name].get("size") or 0), AMBIGUOUS if _VERSION.search(key) else "")


def _chunks(found: Iterable[Found]) -> Iterator[list[Found]]:
    chunk: list[Found] = []
    size = 0
    for item in found:
        chunk.append(item)
        size += max(item.size, 0)
        if len(chunk) >= CHUNK_OBJECTS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _hash_chunk(store: Store, chunk: list[Found]) -> list[Hashed]:
    base = _base(store)
    with storage_faults("read", ""):
        if store.local:
            return [_hash_local(f"{base}/{item.key}", item) for item in chunk]
        return [_hash_remote(store, f"{base}/{item.key}", item) for item in chunk]


def _hash_local(path: str, item: Found) -> Hashed:
    if item.special:
        return Hashed(item.key, 0, b"", item.special)
    try:
        descriptor = _open(path)
    except OSError as error:
        return Hashed(item.key, 0, b"", _problem(error))
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            return Hashed(item.key, 0, b"", SPECIAL)
        size, digest = _hash_file(descriptor, about.st_size)
    except OSError as error:
        return Hashed(item.key, 0, b"", _problem(error))
    finally:
        os.close(descriptor)
    return Hashed(item.key, size, digest)


def _hash_file(descriptor: int, size: int) -> tuple[int, bytes]:
    if size <= WHOLE:
        data = os.read(descriptor, size + 1)
        if len(data) == size:
            return size, hashlib.sha256(data).digest()
        os.lseek(descriptor, 0, os.SEEK_SET)  # it is growing, or the file system reads in smaller pieces
    buffer = getattr(_buffers, "view", None)
    if buffer is None:
        buffer = _buffers.view = memoryview(bytearray(WHOLE))
    digest, total = hashlib.sha256(), 0
    while count := os.readv(descriptor, [buffer]):
        digest.update(buffer[:count])
        total += count
    return total, digest.digest()


def _hash_remote(store: Store, path: str, item: Found) -> Hashed:
    fs, digest, total = _fs(store), hashlib.sha256(), 0
    if item.special:
        return Hashed(item.key, item.size, b"", item.special)
    try:
        if item.size <= RANGE:
            data = bytes(fs.cat_file(path))
            return Hashed(item.key, len(data), hashlib.sha256(data).digest())
        while total < item.size:
            data = bytes(fs.cat_file(path, start=total, end=min(total + RANGE, item.size)))
            if not data:
                break
            digest.update(data)
            total += len(data)
    except (FileNotFoundError, PermissionError) as error:
        return Hashed(item.key, item.size, b"", _problem(error))
    return Hashed(item.key, total, digest.digest())


def _problem(error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return GONE
    if error.errno == errno.ELOOP:
        return LINK
    if isinstance(error, PermissionError) or error.errno in (errno.EIO, errno.ENXIO, errno.ESTALE):
        return f"{UNREADABLE} ({errno.errorcode.get(error.errno or 0, type(error).__name__)})"
    raise error


def _open(path: str) -> int:
    """No link is followed, and opening a pipe does not wait for its writer."""
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _fs(store: Store) -> Any:
    return store.root.fs


def _base(store: Store) -> str:
    return local_files.absolute(store.root.path).rstrip("/") if store.local else store.root.path.rstrip("/")
