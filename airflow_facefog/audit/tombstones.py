"""What an erasure leaves so that no later run publishes the same picture again: ``erased/<2 hex>/<64 hex>``.

The name is a second hash of the image_id, under the same key: it equals no id in any table and, with a master key, tells
nobody without it which picture it stands for. Keyless it is a plain hash: whoever holds the photo can ask for it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_facefog.audit.objects import Objects
    from airflow_facefog.core.keys import KeyRing

FOLDER = "erased"


def tombstone(keys: KeyRing, image_id: str) -> str:
    """64 hex digits that stand for an erased picture."""
    data = b"facefog/erased/1\0" + image_id.encode()
    return hashlib.sha256(data).hexdigest() if keys.ids is None else hmac.digest(keys.ids, data, "sha256").hex()


def raise_tombstones(audit: Objects, keys: KeyRing, image_ids: Iterable[str], request_id: str) -> int:
    """Make them durable; return how many are new."""
    names = [tombstone(keys, image_id) for image_id in sorted(image_ids)]
    return sum(audit.create(f"{FOLDER}/{name[:2]}/{name}", request_id.encode()) for name in names)


def read_tombstones(audit: Objects) -> frozenset[str]:
    """All of an audit. One listing."""
    return frozenset(key.rpartition("/")[2] for key in audit.list(FOLDER))
