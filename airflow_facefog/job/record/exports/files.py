"""Files of an export: copied with their hash checked, written once, the same bytes when written again.

An export can be stopped and repeated: what is there with the same bytes stays. Anything else in the way is an error; nothing
is ever overwritten. The index of an export (the file that loaders start from) is written last: without it, it is not whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import PermanentError

if TYPE_CHECKING:
    from airflow_facefog.job.record.exports.samples import Sample
    from airflow_facefog.publish.store import Store


@dataclass(slots=True)
class Counts:
    """Files written now, and files that were there already."""

    exported: int = 0
    unchanged: int = 0

    def add(self, written: bool) -> None:
        """Count one file."""
        self.exported += written
        self.unchanged += not written


@dataclass(frozen=True, slots=True)
class Target:
    """Where published objects come from and where the export goes."""

    clean: Store = field(repr=False)
    plain: Store = field(repr=False)

    def bytes_of(self, sample: Sample) -> bytes:
        """The object's bytes. Raises PermanentError when they are not the recorded ones."""
        data = self.clean.get(sample.key)
        if data is None or hashlib.sha256(data).hexdigest() != sample.sha256:
            raise PermanentError(
                "a published object is gone or does not hold the recorded bytes; restore the destination"
            )
        return data

    def copy(self, samples: Sequence[Sample], folder: str) -> Counts:
        """Copy each object to ``<folder><name>``."""
        counts = Counts()
        for sample in samples:
            counts.add(self.put(folder + sample.name, self.bytes_of(sample)))
        return counts

    def put(self, name: str, data: bytes) -> bool:
        """Write one file. False: it is there already. Raises PermanentError when other content is."""
        if self.plain.create(name, data):
            return True
        if self.plain.read(name) != data:
            raise PermanentError("a file of that name with other content is in the way; export to an empty folder")
        return False

    def check_index(self, name: str, data: bytes) -> None:
        """Raise PermanentError, before anything is copied, when the folder holds the export of another snapshot."""
        there = self.plain.get(name)
        if there is not None and there != data:
            raise PermanentError(
                f"{name} there is of another snapshot or made with other options; export to an empty folder"
            )


def as_json(body: Any) -> bytes:
    """The same bytes for the same values."""
    return json.dumps(body, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def xywh(box: Sequence[float]) -> list[float]:
    """COCO's form of a box."""
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]
