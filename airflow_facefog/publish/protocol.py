"""intent → put → commit. The only code that writes into a destination's ``data/`` and into an audit's commits.

Intents are append-only per attempt and durable before the object exists; an object's key holds the hash of its bytes and
is never overwritten; the first commit of a batch wins. Any attempt may die at any point, or go on as a zombie: no object
is ever visible without its audit row, and no row claims an object that is not there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError, StoreError
from airflow_facefog.core.records import IntentRecord

if TYPE_CHECKING:
    from airflow_facefog.core.codec import Encoded
    from airflow_facefog.publish.store import Store


@dataclass(frozen=True, slots=True)
class Pending:
    """A verified output that waits for its intent. ``full_key`` is taken when ``key`` holds other bytes."""

    source_ref: str
    image_id: str
    key: str = field(repr=False)
    full_key: str = field(repr=False)
    sha256: str
    encoded: Encoded = field(repr=False)


@dataclass(frozen=True, slots=True)
class Scope:
    """Who publishes: the run, the batch and the attempt, and where its append-only parts lie in the audit."""

    run_key: str
    generation: int
    batch_id: str
    attempt_id: str
    prefix: str


class Publisher:
    """Publishes micro-batches of one attempt: intents durable first, then the objects."""

    def __init__(self, audit: Store, destination: Store, scope: Scope) -> None:
        self._audit = audit
        self._destination = destination
        self._scope = scope
        self.parts: list[dict[str, Any]] = []

    def __repr__(self) -> str:
        return f"Publisher({self._scope.batch_id})"

    def publish(self, pending: Sequence[Pending]) -> dict[str, str]:
        """Write intents, then objects; return ``source_ref`` → key. Raises StoreError, ConfigurationError."""
        keys = {item.source_ref: item.key for item in pending}
        self._intend(pending, keys)
        taken = self._put(pending, keys)
        if taken:
            keys.update({item.source_ref: item.full_key for item in taken})
            self._intend(taken, keys)
            if self._put(taken, keys):
                raise ConfigurationError(
                    "an object in the destination does not hold the bytes that its key names; check the store"
                )
        return keys

    def _intend(self, pending: Sequence[Pending], keys: Mapping[str, str]) -> None:
        if not pending:
            return
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        scope = self._scope
        rows = [
            IntentRecord(
                scope.run_key, scope.generation, item.source_ref, item.image_id, scope.attempt_id, scope.batch_id,
                keys[item.source_ref], item.sha256, now,
            )
            for item in pending
        ]  # fmt: skip
        part = write_part(self._audit, f"{scope.prefix}intent-{len(self.parts):04d}.parquet", "facefog_intent", rows)
        self.parts.append(part)

    def _put(self, pending: Sequence[Pending], keys: Mapping[str, str]) -> list[Pending]:
        """Create the objects; return those whose key is taken by other bytes."""
        created = self._destination.create_many([(keys[item.source_ref], item.encoded.data) for item in pending])
        return [
            item
            for item, new in zip(pending, created, strict=True)
            if not new and not self._holds(keys[item.source_ref], item)
        ]

    def _holds(self, key: str, item: Pending) -> bool:
        return hashlib.sha256(self._destination.read(key)).hexdigest() == item.sha256


def write_part(audit: Store, key: str, table: str, rows: Sequence[Any]) -> dict[str, Any]:
    """Write one append-only Parquet part and return its entry for the commit: key, sha256, rows.

    A part that is there with other bytes raises StoreError: two tasks claim one attempt.
    """
    from airflow_facefog.audit.parquet import to_parquet

    data = to_parquet(table, rows)
    if not audit.create(key, data) and audit.read(key) != data:
        raise StoreError("an audit part of this attempt exists with other content; a new attempt gets its own")
    return {"key": key, "sha256": hashlib.sha256(data).hexdigest(), "rows": len(rows)}


def write_commit(audit: Store, key: str, attempt_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Commit a batch; return the winner's body, which may be another attempt's.

    On a store without exclusive create the key is attempt-unique and the lowest attempt id wins when the run is finalised.
    """
    data = json.dumps(body, sort_keys=True).encode()
    if not audit.exclusive:
        audit.create(_attempt_key(key, attempt_id), data)
    elif audit.create(key, data):
        return dict(body)
    return read_commit(audit, key) or dict(body)


def read_commit(audit: Store, key: str) -> dict[str, Any] | None:
    """The commit that won, or None."""
    data = audit.get(key)
    if data is None and not audit.exclusive:
        folder = key.removesuffix(".json")
        candidates = audit.list(folder)
        data = audit.get(candidates[0]) if candidates else None
    return None if data is None else dict(json.loads(data))


def _attempt_key(key: str, attempt_id: str) -> str:
    return f"{key.removesuffix('.json')}/{attempt_id}.json"
