"""Which pictures an upload takes: a listed source, or chosen images of a run. Knows no Airflow; reads nothing yet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from airflow_facefog.core.errors import ConfigurationError, ImageError
from airflow_facefog.core.policy import Limits
from airflow_facefog.core.raw import RawImage
from airflow_facefog.core.records import Action, Reason, Status
from airflow_facefog.hooks.roboflow_upload import Annotation, Candidate
from airflow_facefog.job.listing import list_source
from airflow_facefog.job.model import Place, Plan, RootOpener
from airflow_facefog.job.opening import make_item, open_plan
from airflow_facefog.job.source import Item, Source

if TYPE_CHECKING:
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.publish.store import Store

ANNOTATIONS = (".xml", ".txt", ".json")
ANNOTATION_BYTES = 1_000_000
Selection = Literal["quarantined", "low_confidence"]
SELECTIONS = ("quarantined", "low_confidence")


@dataclass(frozen=True, slots=True)
class RunSelection:
    """Images of a run: ``quarantined``, or ``low_confidence`` (a detection below its threshold, or fogged below ``below``).

    At most ``limit``, in the order of the listing.
    """

    plan: str
    choice: Selection
    below: float = 0.5
    limit: int = 500

    def __post_init__(self) -> None:
        if self.choice not in SELECTIONS:
            raise ConfigurationError(f"selection {self.choice!r} is unknown; valid: {', '.join(SELECTIONS)}")
        if not (0.0 < self.below <= 1.0 and self.limit >= 1):
            raise ConfigurationError("a selection needs below in 0..1 and a limit of at least 1")


def from_source(
    source: Place, annotations: Place | None, keys: KeyRing, open_root: RootOpener, limits: Limits
) -> list[Candidate]:
    """All images of a folder, file or glob, each with the annotation file of the same relative path and another suffix.

    Annotation files that lie beside the images are no pictures and are left out.
    """
    listing = list_source(source, None, open_root)
    reader = _reader(listing.root, open_root, limits)
    texts = _Annotations(annotations, open_root) if annotations else None
    candidates = []
    for listed in listing.items:
        if PurePosixPath(listed.key).suffix.casefold() in ANNOTATIONS:
            continue
        item = make_item(listing.root, listed.key, listed.size, listed.etag, keys=keys)
        found = texts.of(listed.key) if texts else None
        candidates.append(Candidate(item.source_ref, _later(reader, item, keys), found))
    return candidates


def from_run(
    selection: RunSelection, keys: KeyRing, open_root: RootOpener, audit_conn_id: str | None
) -> tuple[Plan, Store, list[Candidate]]:
    """The chosen images of a run's committed batches; each is read again and must be the one that was looked at.

    Raises ConfigurationError when the plan was made with another key: nothing could be found again.
    """
    plan, audit = open_plan(selection.plan, open_root, audit_conn_id)
    if plan.key_id != keys.key_id:
        raise ConfigurationError(
            f"the run was made with key {plan.key_id!r}, not {keys.key_id!r}; give its key_conn_id"
        )
    reader = _reader(plan.source, open_root, plan.policy.limits)
    candidates: list[Candidate] = []
    for batch_id, _ in plan.batches:
        chosen = dict(_chosen(plan, audit, batch_id, selection))
        body = audit.get(plan.batch_key(batch_id)) if chosen else None
        for entry in json.loads(body)["items"] if body else ():
            item = make_item(plan.source, *entry, keys=keys)
            if item.source_ref in chosen and len(candidates) < selection.limit:
                candidates.append(Candidate(item.source_ref, _same(reader, item, keys, chosen[item.source_ref])))
    return plan, audit, candidates


def _chosen(plan: Plan, audit: Store, batch_id: str, selection: RunSelection) -> Iterator[tuple[str, str]]:
    """(source_ref, image_id) of the batch's committed images that the selection means."""
    from airflow_facefog.job.gate import read_table
    from airflow_facefog.publish.protocol import read_commit

    commit = read_commit(audit, plan.commit_key(batch_id))
    if commit is None:
        return
    wanted = None
    if selection.choice == "low_confidence":
        rows = read_table(audit, "facefog_detection", commit["detection"]).to_pylist()
        wanted = {row["source_ref"] for row in rows if _is_low(row, selection.below)}
    for row in read_table(audit, "facefog_image", commit["image"]).to_pylist():
        named = row["source_ref"] in wanted if wanted is not None else row["status"] == Status.QUARANTINED.value
        if named and row["image_id"]:
            yield row["source_ref"], row["image_id"]


def _is_low(row: Mapping[str, Any], below: float) -> bool:
    fogged = row["action"] == Action.FOGGED.value
    return bool(row["action"] == Action.BELOW_THRESHOLD.value or (fogged and row["confidence"] < below))


def _reader(root: Place, open_root: RootOpener, limits: Limits) -> Source:
    local = root.local_path if root.is_local else None
    return Source(open_root(root.uri, root.conn_id), local_root=local, max_bytes=limits.max_bytes)


def _later(reader: Source, item: Item, keys: KeyRing) -> Any:
    return lambda: reader.read(item, keys)


def _same(reader: Source, item: Item, keys: KeyRing, image_id: str) -> Any:
    def read() -> RawImage:
        raw = reader.read(item, keys)
        if raw.image_id != image_id:
            raise ImageError(Reason.SOURCE_CHANGED, "the image is no longer the one that the run looked at")
        return raw

    return read


class _Annotations:
    """Annotation files of a folder, by the relative path without suffix."""

    def __init__(self, place: Place, open_root: RootOpener) -> None:
        listing = list_source(place, None, open_root)
        self._root = open_root(listing.root.uri, listing.root.conn_id)
        self._sizes = {
            item.key: item.size for item in listing.items if PurePosixPath(item.key).suffix.casefold() in ANNOTATIONS
        }
        self._keys = {str(PurePosixPath(key).with_suffix("")): key for key in sorted(self._sizes, reverse=True)}

    def of(self, image_key: str) -> Annotation | None:
        """The annotation of an image, or None. Raises ConfigurationError for a file that is no such text."""
        key = self._keys.get(str(PurePosixPath(image_key).with_suffix("")))
        if key is None:
            return None
        path: Any = self._root / key
        if self._sizes[key] <= ANNOTATION_BYTES:
            try:
                return Annotation(PurePosixPath(key).suffix, path.fs.cat_file(path.path).decode("utf-8"))
            except (OSError, UnicodeDecodeError):
                pass
        raise ConfigurationError(
            f"an annotation file is not readable text of at most {ANNOTATION_BYTES} bytes; mend it"
        )
