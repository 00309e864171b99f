"""Storage faults in our words: what failed and what to do, never a file name, a URL or somebody's key."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_facefog.core.errors import ConfigurationError, FogError, StoreError

MAX_KEY_BYTES = 1000
"""S3 allows 1024 bytes including the root's own prefix."""

_BAD_CHARACTER = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_LINKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_BROKEN_PLACE = {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOENT}


def check_key(key: str) -> None:
    """Refuse a key that could leave the store's root or that some backend would read differently.

    Raises ConfigurationError without quoting the key.
    """
    segments = key.split("/")
    if _BAD_CHARACTER.search(key) or any(s in ("", ".", "..") for s in segments):
        raise ConfigurationError(
            "a storage key is relative, with '/' between non-empty segments, without '.', '..', backslash or control "
            "characters; build keys with publish.layout"
        )
    if len(key.encode()) > MAX_KEY_BYTES or any(len(s.encode()) > 255 for s in segments):
        raise ConfigurationError(
            f"a storage key is at most {MAX_KEY_BYTES} bytes, each segment at most 255; use the content layout"
        )


def describe(key: str) -> str:
    """Name an object in a message: our own keys as they are, keys made from source names as a digest only."""
    if not key.startswith("data/"):
        return repr(key)
    return f"'data/…' (key digest {hashlib.sha256(key.encode()).hexdigest()[:8]})"


@contextmanager
def storage_faults(verb: str, key: str, *, writing: bool = False) -> Iterator[None]:
    """Turn whatever a backend raises into our errors. Foreign messages are dropped: they quote paths, URLs and keys."""
    try:
        yield
    except FogError:
        raise
    except OSError as error:
        raise _from_os(error, verb, key, writing) from None
    except Exception as error:
        raise _from_client(error, verb, key) from None


def _from_os(error: OSError, verb: str, key: str, writing: bool) -> FogError:
    what = f"cannot {verb} {describe(key)}" if key else f"cannot {verb} the store"
    code = error.errno
    if code in _NO_SPACE:
        return StoreError(f"{what}: no space left; free space, then retry")
    if code in _NO_PERMISSION or isinstance(error, PermissionError):
        if verb == "delete":
            return ConfigurationError(f"{what}: this user may not delete there; give it that right, then repeat")
        problem = "not writable" if writing else "not readable"
        return ConfigurationError(f"{what}: the place is {problem} for this user; change its permissions")
    if code in _NO_LINKS:
        return ConfigurationError(
            f"{what}: this file system has no hard links, so objects cannot appear whole; "
            "use another volume or the object store's own URL (s3://, gs://)"
        )
    if code in _BROKEN_PLACE or isinstance(error, FileNotFoundError):
        return ConfigurationError(f"{what}: folder or bucket is missing or is a file; create it or correct the place")
    name = errno.errorcode.get(code or 0, type(error).__name__)
    return StoreError(f"{what}: storage fault {name}; retry")


def _from_client(error: Exception, verb: str, key: str) -> FogError:
    name = type(error).__name__
    if "Credential" in name or "Token" in name or name in ("ProfileNotFound", "NoRegionError", "ParamValidationError"):
        return ConfigurationError(f"cannot {verb} {describe(key)}: {name}; check the connection of this store")
    return StoreError(f"cannot {verb} {describe(key)}: storage fault {name}; retry")
