"""Is this file, or are these pixels, a raw image that the audit knows? By ids under the key at hand, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from airflow_facefog.audit.tombstones import tombstone
from airflow_facefog.core.codec.picture import Picture
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.pipeline import pixel_id
from airflow_facefog.publish.prove.index import from_bytes
from airflow_facefog.publish.prove.known import Ids, Known

BYTES = "its bytes are those of a raw image that a run read"
ERASED = "its bytes are those of a raw image that was erased"
PIXELS = "its pixels are those of a raw image, in another file"


@dataclass(frozen=True, slots=True)
class RawMatch:
    """A recognised raw image. ``run``: number of the run in ``Known.runs``, None when all about it was erased."""

    detail: str
    run: int | None = None
    source_ref: str | None = field(repr=False, default=None)


class RawIds:
    """Ids of every raw image that the audit knows, also of erased ones. ``keys``: the ring at hand, or the keyless one."""

    def __init__(self, known: Known, keys: KeyRing, tombstones: frozenset[str]) -> None:
        self._known = known
        self._keys = keys
        self._tombstones = tombstones

    def of_bytes(self, digest: bytes) -> RawMatch | None:
        """By the sha256 of a file."""
        ids = {digest.hex(), self._keys.image_id_of(digest)}
        found = _find(self._known.images, [bytes.fromhex(image_id) for image_id in sorted(ids)], BYTES)
        if found is None and self._tombstones & {tombstone(self._keys, image_id) for image_id in ids}:
            return RawMatch(ERASED)
        return found

    def of_pixels(self, picture: Picture) -> RawMatch | None:
        """By decoded pixels: only where a policy recorded their ids, and with the key."""
        if not self._keys.keyed or not len(self._known.pixels.index):
            return None
        return _find(self._known.pixels, [bytes.fromhex(pixel_id(picture, self._keys))], PIXELS)


def _find(ids: Ids, wanted: Sequence[bytes], detail: str) -> RawMatch | None:
    rows = ids.index.find(from_bytes(b"".join(wanted)))
    hits = rows[rows >= 0].tolist()
    return RawMatch(detail, int(ids.run[hits[0]]), ids.refs[hits[0]].tobytes().hex()) if hits else None
