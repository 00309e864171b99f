"""What people reported as missed: regions that stand for a picture, in every run from then on.

``regions/<key_id>/<64 hex>/<16 hex>.json``. The folder's name is a second hash of the image_id, as of a tombstone: it equals
no id in any table and, with a master key, tells nobody without it which picture it stands for. Each report is a file of its
own, named by its content: reports at the same time add up, and the same one again changes nothing. A report holds boxes and
classes and a MAC over them and their picture; one that does not read makes its picture fail, never pass without it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from airflow_facefog.core.errors import SourceError
from airflow_facefog.core.records import Detection, Reason

if TYPE_CHECKING:
    from airflow_facefog.audit.objects import Objects
    from airflow_facefog.core.keys import KeyRing

FOLDER = "regions"
FORMAT = "facefog-regions/1"
DETECTOR = "human"
"""Detector of a reported region in the audit."""


def region(xyxy: tuple[float, float, float, float], class_name: str) -> Detection:
    """A reported region as a detection: upright px, confidence 1.0. Raises ValueError for an impossible box."""
    return Detection(xyxy, 1.0, class_name, 0, None, DETECTOR, human=True).on_grid()


def folder(keys: KeyRing, image_id: str) -> str:
    """Where the reports about a picture lie."""
    return f"{FOLDER}/{keys.key_id}/{tag(keys, image_id)}"


def tag(keys: KeyRing, image_id: str) -> str:
    """64 hex digits that stand for a picture with reported regions."""
    data = b"facefog/regions/1\0" + image_id.encode()
    return hashlib.sha256(data).hexdigest() if keys.ids is None else hmac.digest(keys.ids, data, "sha256").hex()


def stand(audit: Objects, keys: KeyRing, image_id: str, regions: Iterable[Detection]) -> bool:
    """Make a report durable. False: the same one stands already. Never overwrites another."""
    data = _seal(keys, image_id, regions)
    name = hashlib.sha256(data).hexdigest()[:16]
    return audit.create(f"{folder(keys, image_id)}/{name}.json", data)


def list_reports(audit: Objects) -> dict[str, list[str]]:
    """Keys of all reports of an audit by their folder. One listing."""
    found: dict[str, list[str]] = {}
    for key in audit.list(FOLDER):
        found.setdefault(key.rpartition("/")[0], []).append(key)
    return found


def read_regions(audit: Objects, keys: KeyRing, image_id: str, reports: Sequence[str]) -> tuple[Detection, ...]:
    """What stands for a picture: all its reports, each region once, sorted.

    Raises SourceError(REGIONS_UNREADABLE) when one is gone, damaged, or about another picture.
    """
    found: set[Detection] = set()
    for key in reports:
        found.update(_open(audit.get(key), keys, image_id))
    return tuple(sorted(found, key=lambda one: (one.class_name, one.xyxy)))


def _seal(keys: KeyRing, image_id: str, regions: Iterable[Detection]) -> bytes:
    rows = sorted({(one.class_name, *one.xyxy) for one in regions})
    body = {"format": FORMAT, "regions": [list(row) for row in rows]}
    about = json.dumps([tag(keys, image_id), body], sort_keys=True).encode()
    return json.dumps({**body, "mac": keys.mac(about)}, sort_keys=True).encode()


def _open(data: bytes | None, keys: KeyRing, image_id: str) -> list[Detection]:
    """Sealing what was read must give the same bytes again: that checks picture, MAC and form at once."""
    try:
        rows = json.loads(data or b"")["regions"]
        found = [region((x1, y1, x2, y2), name) for name, x1, y1, x2, y2 in rows]
        whole = hmac.compare_digest(_seal(keys, image_id, found), data or b"")
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, AttributeError):
        whole = False
    if not whole or not found:
        raise SourceError(
            Reason.REGIONS_UNREADABLE,
            "what people reported about this image cannot be read; restore regions/ in the audit",
        )
    return found
