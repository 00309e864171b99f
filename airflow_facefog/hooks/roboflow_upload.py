"""Send pictures to a Roboflow project: the one way in which raw pixels may leave on purpose. Knows no Airflow.

Per picture: decode and encode anew in memory (only pixels are sent, no EXIF, no name of the source) → skip what this run
sent before → a ``facefog_egress`` row, durable in the audit → send → a note that it was confirmed. At the end the
project's own count must have grown by what was confirmed.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow_facefog.core.errors import ConfigurationError, ImageError, TransientError
from airflow_facefog.core.policy import Limits, OutputFormat
from airflow_facefog.core.raw import RawImage, sealed
from airflow_facefog.hooks.roboflow_api import ProjectRef, RoboflowApi

if TYPE_CHECKING:
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.publish.store import Store

log = logging.getLogger(__name__)

KINDS = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "bmp": "image/bmp"}
"""Formats that Roboflow takes as they are; everything else is sent as PNG."""
COUNT_TRIES = 5
COUNT_WAIT_S = 2.0

Privacy = Literal["private", "public"]


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotation file of one picture: ``suffix`` (.xml, .txt, .json) says its format; in pixels of the upright image."""

    suffix: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One picture to send; ``read`` gives its bytes when its turn comes."""

    source_ref: str
    read: Callable[[], RawImage] = field(repr=False)
    annotation: Annotation | None = None


@dataclass(frozen=True, slots=True)
class Egress:
    """Whose rows these are, and where they go."""

    audit: Store
    run_key: str
    generation: int
    attempt_id: str


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """Where pictures go: project, ``split`` (train, valid, test), batch name, tags."""

    ref: ProjectRef
    privacy: Privacy
    split: str
    batch: str
    tags: tuple[str, ...] = ()
    overwrite_annotations: bool = False
    limits: Limits = field(default_factory=Limits)


def check_project(api: RoboflowApi, request: UploadRequest) -> dict[str, Any]:
    """The project's payload. Raises ConfigurationError when it shows pictures to more people than was chosen."""
    project: dict[str, Any] = api.project(request.ref)["project"]
    if request.privacy == "private" and project.get("public") is not False:
        raise ConfigurationError(
            f"Roboflow project {request.ref} is public (licence {project.get('license', 'unknown')}): everybody could see "
            "and copy the pictures. Make it private, or write privacy='public' if the people in them agreed to that"
        )
    return project


@sealed
def upload_all(
    api: RoboflowApi, request: UploadRequest, candidates: Sequence[Candidate], egress: Egress, keys: KeyRing
) -> dict[str, Any]:
    """Send every candidate once; return counts: listed = uploaded + duplicates + known + refused.

    ``known``: confirmed by an earlier try; ``duplicates``: the project held these bytes; ``refused``: no picture.
    Raises TransientError when the project holds fewer pictures than were confirmed, and as the API and the audit do.
    """
    from airflow_facefog.job.worker import run_in_order

    before = _held(check_project(api, request))
    sender = _Sender(api, request, egress, keys)
    numbered = list(enumerate(candidates))
    ended = Counter(run_in_order(sender.send, numbered, api.access.concurrency))
    counts = {name: ended.get(name, 0) for name in ("uploaded", "duplicates", "known", "refused")}
    missing = _missing(api, request, before, counts["uploaded"], sender.annotated)
    if missing > 0:
        sender.forget()
        raise TransientError(
            f"Roboflow confirmed {counts['uploaded']} new pictures and project {request.ref} lacks {missing} of them; "
            "the next try sends them again"
        )
    return {"listed": len(numbered), **counts, "annotated": sum(sender.annotated), "bytes": sender.sent_bytes}


class _Sender:
    """Sends one candidate at a time, from several threads."""

    def __init__(self, api: RoboflowApi, request: UploadRequest, egress: Egress, keys: KeyRing) -> None:
        import threading

        self._api = api
        self._request = request
        self._egress = egress
        self._keys = keys
        self._lock = threading.Lock()
        self._taken: set[str] = set()
        self._notes: list[str] = []
        self.annotated = [0, 0]
        self.sent_bytes = 0

    def __repr__(self) -> str:
        return f"_Sender({self._request.ref})"

    def send(self, numbered: tuple[int, Candidate]) -> str:
        """How it ended: the name of a count."""
        number, candidate = numbered
        try:
            raw = candidate.read()
            data, kind, suffix = only_pixels(raw, self._request.limits)
        except ImageError as error:
            log.warning("a picture was not sent: %s", error.reason.value)
            return "refused"
        name = self._keys.image_id(data)
        if not self._take(name):
            return "duplicates"
        note = f"uploads/{self._egress.run_key}/{self._request.ref}/{name}.json"
        if self._egress.audit.exists(note):
            return "known"
        self._record(number, candidate, raw.image_id, len(data))
        duplicate = self._transfer(f"{name[:24]}.{suffix}", data, kind, candidate.annotation)
        self._egress.audit.create(note, b"{}")
        with self._lock:
            self._notes.append(note)
        return "duplicates" if duplicate else "uploaded"

    def forget(self) -> None:
        """Take the notes of this attempt back: the next one sends its pictures again."""
        for note in self._notes:
            self._egress.audit.delete(note)

    def _take(self, name: str) -> bool:
        with self._lock:
            fresh = name not in self._taken
            self._taken.add(name)
            return fresh

    def _record(self, number: int, candidate: Candidate, image_id: str, size: int) -> None:
        """The egress row, durable before a byte leaves. Raises StoreError when it is not there afterwards."""
        from airflow_facefog.publish.protocol import write_part

        egress = self._egress
        row = {
            "run_key": egress.run_key, "generation": egress.generation, "source_ref": candidate.source_ref,
            "attempt_id": egress.attempt_id, "egress_idx": number, "image_id": image_id, "kind": "upload",
            "host": self._api.host, "project": str(self._request.ref), "bytes": size,
            "sent_at": datetime.now(UTC).isoformat(timespec="microseconds"),
        }  # fmt: skip
        write_part(
            egress.audit, f"egress/{egress.run_key}/{egress.attempt_id}/{number}.parquet", "facefog_egress", [row]
        )

    def _transfer(self, name: str, data: bytes, kind: str, annotation: Annotation | None) -> bool:
        request = self._request
        sent = self._api.upload(
            request.ref, name, data, kind, split=request.split, batch=request.batch, tags=request.tags
        )
        done = annotation is not None and self._api.annotate(
            request.ref, sent.image_id, name.rpartition(".")[0] + annotation.suffix, annotation.text,
            overwrite=request.overwrite_annotations,
        )  # fmt: skip
        with self._lock:
            self.annotated[sent.duplicate] += done
            self.sent_bytes += len(data)
        return sent.duplicate


def only_pixels(raw: RawImage, limits: Limits) -> tuple[bytes, str, str]:
    """Fresh bytes of the upright picture with nothing but pixels in them, their content type and file suffix.

    Raises ImageError for what cannot be decoded.
    """
    from airflow_facefog.core.codec import check_container, decode, encode

    picture = decode(raw, limits)
    chosen: Any = "source" if picture.header.format in KINDS else "png"
    encoded = encode(picture, picture.pixels, OutputFormat(format=chosen))
    check_container(encoded.data, encoded.format)
    return encoded.data, KINDS[encoded.format], encoded.extension


def _held(project: Mapping[str, Any]) -> tuple[int, int]:
    """What the project says it holds: ``images`` and ``unannotated``."""
    return int(project.get("images") or 0), int(project.get("unannotated") or 0)


def grown(before: tuple[int, int], now: tuple[int, int], annotated: Sequence[int]) -> int:
    """By how many new pictures a project grew. ``annotated``: of new ones, of those that were there before.

    ``unannotated`` may be part of ``images`` or stand beside it (Roboflow does not say): both ways of counting agree with
    the truth. People who label meanwhile make it less: then a retry, which finds all pictures there, sets it right.
    """
    images, waiting = now[0] - before[0], now[1] - before[1] + annotated[1]
    return min(images, annotated[0]) + waiting


def _missing(
    api: RoboflowApi, request: UploadRequest, before: tuple[int, int], uploaded: int, annotated: Sequence[int]
) -> int:
    """How many confirmed pictures the project lacks; asked a few times, its counts may lag behind."""
    for attempt in range(COUNT_TRIES):
        missing = uploaded - grown(before, _held(api.project(request.ref)["project"]), annotated)
        if missing <= 0 or attempt == COUNT_TRIES - 1:
            break
        time.sleep(COUNT_WAIT_S)
    return missing
