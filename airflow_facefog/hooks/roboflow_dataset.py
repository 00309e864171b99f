"""Download a dataset version: to a temporary folder, checked, and moved into place whole. Knows no Airflow.

A folder with our marker file is a whole dataset; everything else is not. A first try that failed leaves nothing under the
final name, so a retry can never take its rests for a dataset.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_facefog.core.errors import ConfigurationError, PermanentError, StoreError, TransientError
from airflow_facefog.detectors.roboflow.access import Access
from airflow_facefog.detectors.roboflow.guard import Gate
from airflow_facefog.hooks.roboflow_api import ProjectRef, RoboflowApi
from airflow_facefog.hooks.roboflow_zip import ArchiveLimits, unpack

MARKER = "facefog-dataset.json"
CHUNK = 1 << 20
LEFTOVER_S = 24 * 3600
"""A partial folder this old belongs to no task that still runs."""
LONGEST_DOWNLOAD_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class DatasetRequest:
    """Which version in which format goes to which folder, and how large it may be."""

    ref: ProjectRef
    version: int
    format: str
    folder: Path
    max_bytes: int = 20_000_000_000
    limits: ArchiveLimits = field(default_factory=ArchiveLimits)
    export_timeout_s: float = 3600.0
    poll_s: float = 5.0

    @property
    def identity(self) -> dict[str, Any]:
        """What the marker of this very dataset says."""
        return {"project": str(self.ref), "version": self.version, "format": self.format}


def download_dataset(
    api: RoboflowApi, request: DatasetRequest, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """Return the marker's content: project, version, format, sha256, bytes, files, images; and the folder.

    Raises ConfigurationError when the folder holds something else, PermanentError for an archive that must not be
    unpacked, TransientError for everything that another try may mend.
    """
    there = _existing(request)
    if there is not None:
        return there
    link = _exported(api, request, sleep)
    with _partial(request.folder) as partial:
        archive = partial / "archive.zip"
        sha256, size = fetch(api.access, link, archive, request.max_bytes)
        content = partial / "content"
        counts = unpack(archive, content, request.limits)
        marker = {**request.identity, "sha256": sha256, "bytes": size, **counts}
        _write(content / MARKER, json.dumps(marker, sort_keys=True).encode())
        return _move(content, request) or {**marker, "folder": str(request.folder)}


def _existing(request: DatasetRequest) -> dict[str, Any] | None:
    """The marker of a whole dataset that is there already, or None when there is nothing."""
    try:
        if not request.folder.exists():
            return None
        marker = json.loads((request.folder / MARKER).read_bytes())
    except (OSError, ValueError):
        marker = {}
    if all(marker.get(name) == value for name, value in request.identity.items()):
        return {**marker, "folder": str(request.folder)}
    raise ConfigurationError("the dataset's folder exists and holds something else; give another folder, or remove it")


def _exported(api: RoboflowApi, request: DatasetRequest, sleep: Callable[[float], None]) -> str:
    ends = time.monotonic() + request.export_timeout_s
    while True:
        link = api.export(request.ref, request.version, request.format)
        if link is not None:
            return link
        if time.monotonic() + request.poll_s > ends:
            raise TransientError("the Roboflow API still makes the dataset's archive; try again later")
        sleep(request.poll_s)


@contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """A temporary folder beside the final one: same volume, so that the move is atomic. Removed whatever happens."""
    prefix = f".{folder.name}.partial-"
    partial = folder.parent / f"{prefix}{uuid.uuid4().hex}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for old in folder.parent.glob(f"{prefix}*"):
            if time.time() - old.stat().st_mtime > LEFTOVER_S:
                shutil.rmtree(old, ignore_errors=True)
        partial.mkdir()
    except OSError as error:
        problem = StoreError(f"the dataset's folder cannot be made ({error.strerror})")
    else:
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return
    raise problem


def _move(content: Path, request: DatasetRequest) -> dict[str, Any] | None:
    """Give the whole dataset its name; when another task was faster, its dataset counts."""
    try:
        os.rename(content, request.folder)
    except OSError as error:
        found = _existing(request)
        if found is None:
            raise StoreError(f"the dataset cannot be moved into place ({error.strerror})") from None
        return found
    descriptor = os.open(request.folder.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return None


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def fetch(access: Access, link: str, path: Path, max_bytes: int) -> tuple[str, int]:
    """Stream a signed link into ``path``; the API key is not sent. Return sha256 and size.

    Raises TransientError when status, length or the store's own hash do not agree with what came, PermanentError above
    ``max_bytes``; neither quotes the link, which is a secret of its own.
    """
    from airflow_facefog.detectors.roboflow.transport import make_client, one_request

    gate = Gate.of(access, allow_remote=True, url=link)
    failure: Exception
    with one_request(LONGEST_DOWNLOAD_S):
        client = make_client(access, gate)
        try:
            with client.stream("GET", link) as response:
                if response.status_code != 200:
                    raise TransientError(
                        f"the dataset's link answered {response.status_code}; a new try gets a new link"
                    )
                return _save(response, path, max_bytes)
        except Exception as error:  # its context holds the link: judged outside
            failure = error
        finally:
            client.close()
    raise _told(failure)


def _save(response: Any, path: Path, max_bytes: int) -> tuple[str, int]:
    promised = _length(response.headers)
    if (promised or 0) > max_bytes:
        raise PermanentError(
            f"the dataset has {promised} bytes, more than max_bytes {max_bytes}; raise it if that is meant"
        )
    digest, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("xb") as file:
        for chunk in response.iter_raw(CHUNK):
            size += len(chunk)
            if size > max_bytes:
                raise PermanentError(f"the dataset is larger than max_bytes {max_bytes}; raise it if that is meant")
            digest.update(chunk)
            md5.update(chunk)
            file.write(chunk)
    if promised is not None and size != promised:
        raise TransientError(f"the dataset came with {size} of {promised} bytes; try again")
    if (stated := _stated_md5(response.headers)) and stated != md5.hexdigest():
        raise TransientError("the dataset's bytes do not agree with its store's hash; try again")
    return digest.hexdigest(), size


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _stated_md5(headers: Mapping[str, str]) -> str | None:
    """MD5 as Google's store says it (``x-goog-hash``) or an S3-like ETag that is one; None when neither does."""
    for part in headers.get("x-goog-hash", "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "md5":
            try:
                return base64.b64decode(value).hex()
            except ValueError:
                return None
    etag = headers.get("etag", "").strip('"')
    return etag if re.fullmatch(r"[0-9a-f]{32}", etag) else None


def _told(error: Exception) -> Exception:
    """The failure in our words. Ours come back as they are."""
    if isinstance(error, PermanentError | TransientError):
        return error
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        return StoreError(f"the dataset cannot be written ({error.strerror})")
    return TransientError(f"the dataset's download failed ({type(error).__name__}); try again")
