"""One folder or bucket prefix in which nothing is ever overwritten by accident.

``create`` is exclusive on every backend: a local temporary file + fsync + hard link, ``If-None-Match: *`` on S3 and the
like of it elsewhere. Readers see an object whole or not at all. Only fsspec calls that carry no lineage are used
(``cat_file``, ``pipe_file``): ``ObjectStoragePath.open`` and ``.copy`` would report every raw URI.

Errors: StoreError (a retry may help) for faults, full disks and time-outs; ConfigurationError for what a person must
change (no permission, missing bucket, unusable key); FileNotFoundError from ``read`` and ``size`` only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.publish import local_files
from airflow_facefog.publish.faults import check_key, describe, storage_faults

if TYPE_CHECKING:
    from upath import UPath

THREADS = 8
"""Writers of ``create_many``: local fsyncs and object-store round trips overlap, CPU is not needed."""

CONFLICT_TRIES = 5
"""How often a 409 of S3 (two conditional writes at the same moment) is tried again; the next answer is 200 or 412."""

PROBE, PROBED = ".facefog-probe", b"1"
"""Object by which a store was found to refuse a second write of a key, and its bytes."""

_memory_lock = threading.Lock()


class Store:
    """Objects under ``root``, named by relative keys with ``/``. Thread-safe; holds no open file."""

    def __init__(self, root: UPath) -> None:
        self.root = root
        self._fs: Any = root.fs
        self._kind = _kind(self._fs)
        self._base = local_files.absolute(root.path) if self.local else root.path.rstrip("/")
        self._lock = threading.Lock()
        self._exclusive: bool | None = True if self._kind in ("file", "memory") else None

    def __repr__(self) -> str:
        return f"Store({self._kind})"

    @property
    def local(self) -> bool:
        """Whether objects are files of this machine (or of a mounted volume)."""
        return self._kind == "file"

    @property
    def exclusive(self) -> bool:
        """Whether ``create`` is atomic here. Probed once per store, with ``PROBE``.

        False means: ``create`` looks first and then writes, so two writers at the same moment may both see True.
        """
        with self._lock:
            if self._exclusive is None:
                self._exclusive = self._probe()
            return self._exclusive

    def create(self, key: str, data: bytes) -> bool:
        """Write a new object, durable and whole. True: created; False: the key existed and is untouched.

        After a lost answer S3 may say False for our own write: who must know reads the object and compares.
        """
        path = self._path(key)
        if not self.local:
            return self._create_remote(key, data)
        with storage_faults("write", key, writing=True):
            created = local_files.create(path, data)
            local_files.sync_folder(path)
        return created

    def create_many(self, items: Sequence[tuple[str, bytes]]) -> list[bool]:
        """``create`` for each (key, data), in parallel; each local folder is synced once. Durable when it returns.

        Raises the first error; other objects of the same call may have been written by then.
        """
        from concurrent.futures import ThreadPoolExecutor

        paths = [self._path(key) for key, _ in items]
        if not self.local:
            _ = self.exclusive
        with ThreadPoolExecutor(max_workers=max(1, min(THREADS, len(items)))) as pool:
            results = list(pool.map(self._create_unsynced, items))
        if self.local:
            for path in {local_files.folder(path): path for path in paths}.values():
                with storage_faults("sync", "", writing=True):
                    local_files.sync_folder(path)
        return results

    def replace(self, key: str, data: bytes) -> None:
        """Write or overwrite, atomically. For caches such as ``latest.json``; never for evidence or published data."""
        path = self._path(key)
        with storage_faults("write", key, writing=True):
            if self.local:
                local_files.replace(path, data)
                local_files.sync_folder(path)
            else:
                self._fs.pipe_file(path, data)

    def read(self, key: str) -> bytes:
        """The whole object. Raises FileNotFoundError when there is none."""
        data = self.get(key)
        if data is None:
            raise FileNotFoundError(f"no object {describe(key)} in this store")
        return data

    def get(self, key: str) -> bytes | None:
        """The whole object, or None when there is none."""
        path = self._path(key)
        with storage_faults("read", key):
            try:
                return local_files.read(path) if self.local else read_whole(self._fs, path)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def exists(self, key: str) -> bool:
        """Whether the object is there now; never answered from a cache."""
        return self._info(key) is not None

    def is_there(self) -> bool:
        """Whether the root is: a folder, a bucket, or a prefix below which anything lies. Never answered from a cache."""
        if self.local:
            return os.path.isdir(self._base)
        with storage_faults("look up", ""):
            self._fs.invalidate_cache()
            try:
                return bool(self._fs.info(self._base)["type"] == "directory")
            except FileNotFoundError:
                return False

    def size(self, key: str) -> int:
        """Bytes of the object. Raises FileNotFoundError when there is none."""
        info = self._info(key)
        if info is None:
            raise FileNotFoundError(f"no object {describe(key)} in this store")
        return int(info["size"])

    def list(self, prefix: str = "") -> list[str]:
        """All keys in the folder ``prefix`` (whole segments) but the probe, sorted; never answered from a cache."""
        path = self._path(prefix.rstrip("/")) if prefix.strip("/") else self._base.rstrip("/")
        with storage_faults("list", prefix):
            found = local_files.walk(path or "/") if self.local else self._find(path)
        start = len(self._base.rstrip("/")) + 1
        keys = (name[start:] for name in found if name.startswith(path + "/"))
        return sorted(key for key in keys if key != PROBE)

    def delete(self, key: str) -> bool:
        """Remove an object (caches, erasure). True: removed; False: there was none."""
        path = self._path(key)
        with storage_faults("delete", key, writing=True):
            if self._info(key) is None:
                return False
            if self.local:
                return local_files.remove(path)
            self._fs.rm_file(path)
        return True

    def uri(self, key: str = "") -> str:
        """``scheme://…`` of a key as fsspec reads it: path characters verbatim, without userinfo, query or options."""
        path = self._path(key) if key else self._base
        if self._kind in ("file", "memory"):
            return f"{self._kind}://{'' if path.startswith('/') else '/'}{path}"
        bucket, slash, rest = path.partition("/")
        return f"{self._kind}://{bucket.rpartition('@')[2]}{slash}{rest}"

    def _path(self, key: str) -> str:
        check_key(key)
        return f"{self._base.rstrip('/')}/{key}"

    def _info(self, key: str) -> dict[str, Any] | None:
        path = self._path(key)
        with storage_faults("look up", key):
            try:
                info = local_files.info(path) if self.local else self._remote_info(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return info if info["type"] == "file" else None

    def _remote_info(self, path: str) -> dict[str, Any]:
        self._fs.invalidate_cache(path.rpartition("/")[0])
        info: dict[str, Any] = self._fs.info(path)
        return info

    def _find(self, path: str) -> Sequence[str]:
        self._fs.invalidate_cache()
        try:
            found: Sequence[str] = self._fs.find(path)
        except FileNotFoundError:
            return []
        return found

    def _create_unsynced(self, item: tuple[str, bytes]) -> bool:
        key, data = item
        if not self.local:
            return self._create_remote(key, data)
        with storage_faults("write", key, writing=True):
            return local_files.create(self._path(key), data)

    def _create_remote(self, key: str, data: bytes) -> bool:
        if not self.exclusive:
            if self.exists(key):
                return False
            with storage_faults("write", key, writing=True):
                self._fs.pipe_file(self._path(key), data)
            return True
        return self._put_if_absent(key, data)

    def _put_if_absent(self, key: str, data: bytes) -> bool:
        import time

        for attempt in range(CONFLICT_TRIES):
            try:
                self._pipe_new(self._path(key), data)
                return True
            except Exception as error:
                if _refused(error):
                    return False
                if not _conflict(error) or attempt == CONFLICT_TRIES - 1:
                    with storage_faults("write", key, writing=True):
                        raise
            time.sleep(0.05 * 2**attempt)
        raise AssertionError("the last try returns or raises")

    def _pipe_new(self, path: str, data: bytes) -> None:
        if self._kind != "memory":
            self._fs.pipe_file(path, data, mode="create")
            return
        with _memory_lock:
            if self._fs.exists(path):
                raise FileExistsError(path)
            self._fs.pipe_file(path, data)

    def _probe(self) -> bool:
        """The second write is the test; from then on the first one is. The object stays: many buckets forbid deletes, and
        with a name of its own for each probe a versioned bucket would keep two more versions of it each time.
        """
        try:
            return not self._put_if_absent(PROBE, PROBED) or not self._put_if_absent(PROBE, PROBED)
        except (TypeError, NotImplementedError, ValueError):
            return False


def read_whole(fs: Any, path: str) -> bytes:
    """A remote object by one request. s3fs asks for its size first, for pieces side by side; pictures and parts are small,
    many are read at once, and pieces of two versions of an object never meet.
    """
    from inspect import signature

    reader = getattr(fs, "_cat_file", None)
    single = reader is not None and "max_concurrency" in signature(reader).parameters
    return bytes(fs.cat_file(path, **({"max_concurrency": 1} if single else {})))


def _kind(fs: Any) -> str:
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    kind = "file" if protocol in ("file", "local") else str(protocol)
    if "cache" in kind or kind in ("http", "https", "zip", "tar", "dir", "reference"):
        raise ConfigurationError(
            f"a {kind!r} location cannot hold audit or published data (caches leave copies on disk); "
            "use a folder, s3://, gs://, abfs:// or memory://"
        )
    return {"s3a": "s3", "gcs": "gs"}.get(kind, kind)


def _refused(error: BaseException) -> bool:
    return isinstance(error, FileExistsError) or _code(error) in ("PreconditionFailed", "412")


def _conflict(error: BaseException) -> bool:
    return _code(error) in ("ConditionalRequestConflict", "OperationAborted", "409")


def _code(error: BaseException) -> str:
    for item in (error, error.__cause__):
        response = getattr(item, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""
