"""The gate: what was committed must add up before anything is sealed or published.

Reads commits and their parts from the audit store, checks every hash, and says in one sentence why a run is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import GateError
from airflow_facefog.core.records import Action, Status
from airflow_facefog.job.model import Attempt, Plan

if TYPE_CHECKING:
    from airflow_facefog.publish.store import Store

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tables:
    """The rows of one run generation, in a fixed order."""

    images: list[Row]
    detections: list[Row]
    intents: list[Row]

    def counts(self) -> dict[str, int]:
        """Counts of the run: listed = published + quarantined + failed + skipped."""
        statuses = Counter(row["status"] for row in self.images)
        return {
            "listed": len(self.images),
            **{status.value: statuses.get(status.value, 0) for status in Status},
            "detections": len(self.detections),
            "fogged": sum(row["action"] == Action.FOGGED for row in self.detections),
        }


def collect(plan: Plan, audit: Store, destination: Store, attempt: Attempt) -> Tables:
    """Gather committed rows and run the gate. Raises GateError and leaves ``incomplete.json``."""
    from airflow_facefog.publish.protocol import read_commit

    commits = {batch_id: read_commit(audit, plan.commit_key(batch_id)) for batch_id, _ in plan.batches}
    found = [commit for commit in commits.values() if commit is not None]
    missing = [batch_id for batch_id, commit in commits.items() if commit is None]
    if missing:
        _refuse(
            plan, audit, attempt, {"missing_batches": missing},
            f"{len(missing)} of {len(plan.batches)} batches have no commit; clear the failed batches, then this task",
        )  # fmt: skip
    tables = _read_tables(audit, found)
    problem = gate(plan, tables.images) or _check_objects(tables.images, destination)
    if problem:
        _refuse(plan, audit, attempt, {"problem": problem}, problem)
    return tables


def gate(plan: Plan, images: Sequence[Mapping[str, Any]]) -> str | None:
    """Say why this run must not be published, or None."""
    counts = Counter(row["status"] for row in images)
    listed = plan.listed
    if len(images) != listed or len({row["source_ref"] for row in images}) != listed:
        return f"{listed} images were listed and {len(images)} have a status; the run does not add up"
    bad = counts[Status.QUARANTINED] + counts[Status.FAILED]
    if listed and not counts[Status.PUBLISHED] + counts[Status.SKIPPED]:
        return f"none of {listed} images could be published ({bad} quarantined or failed); look at their reasons in the audit"
    if bad > plan.policy.max_quarantined * listed:
        return (
            f"{bad} of {listed} images were quarantined or failed, above max_quarantined {plan.policy.max_quarantined}; "
            "look at their reasons in the audit, or allow more in the policy"
        )
    return None


def _check_objects(images: Sequence[Mapping[str, Any]], destination: Store) -> str | None:
    """Every row that says published has its object, of the recorded size (its bytes were hashed when it was put)."""
    from concurrent.futures import ThreadPoolExecutor

    rows = [row for row in images if row["status"] == Status.PUBLISHED]
    prefix = destination.uri().rstrip("/") + "/"

    def there(row: Mapping[str, Any]) -> bool:
        try:
            return bool(destination.size(row["output_uri"].removeprefix(prefix)) == row["output_bytes"])
        except FileNotFoundError:
            return False

    with ThreadPoolExecutor(8) as pool:
        gone = sum(not present for present in pool.map(there, rows))
    return (
        f"{gone} of {len(rows)} published objects are missing or have another size; check the destination"
        if gone
        else None
    )


def _refuse(plan: Plan, audit: Store, attempt: Attempt, details: Mapping[str, Any], message: str) -> None:
    body = {
        "run_key": plan.run_key, "generation": plan.generation, "status": "failed", "attempt_id": attempt.attempt_id,
        "at": datetime.now(UTC).isoformat(timespec="seconds"), **details,
    }  # fmt: skip
    audit.replace(f"runs/{plan.home}/incomplete.json", json.dumps(body, indent=1).encode())
    raise GateError(message)


def _read_tables(audit: Store, commits: Sequence[Mapping[str, Any]]) -> Tables:
    images: list[Row] = []
    detections: list[Row] = []
    intents: list[Row] = []
    for commit in commits:
        images += read_part(audit, "facefog_image", commit["image"])
        detections += read_part(audit, "facefog_detection", commit["detection"])
        for part in commit["intents"]:
            intents += read_part(audit, "facefog_intent", part)
    _mark_duplicates(images)
    images.sort(key=lambda row: (row["image_id"] or "", row["source_ref"]))
    detections.sort(key=lambda row: (row["image_id"], row["source_ref"], row["det_idx"]))
    intents.sort(key=lambda row: (row["source_ref"], row["attempt_id"], row["output_key"]))
    return Tables(images, detections, intents)


def read_part(audit: Store, table: str, part: Mapping[str, Any]) -> list[Row]:
    """Rows of one part whose bytes hash to what its commit or manifest names. Raises GateError when they do not."""
    from airflow_facefog.audit.parquet import from_parquet

    data = audit.read(part["key"])
    if hashlib.sha256(data).hexdigest() != part["sha256"]:
        raise GateError(
            f"an audit part of this run ({table}) does not hold the bytes that its commit names; it was changed"
        )
    return from_parquet(table, data)


def _mark_duplicates(images: list[Row]) -> None:
    """Every later item with equal bytes points to the first; order is that of batches and items."""
    first: dict[str, str] = {}
    for row in images:
        if row["image_id"] is not None:
            original = first.setdefault(row["image_id"], row["source_ref"])
            row["duplicate_of"] = None if original == row["source_ref"] else original
