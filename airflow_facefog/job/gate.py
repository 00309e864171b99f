"""The gate: what was committed must add up before anything is sealed or published.

Reads commits and their parts from the audit store, checks every hash, and says in one sentence why a run is refused.
Works on columns: a run may hold millions of images.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import GateError
from airflow_facefog.core.records import Reason, Status
from airflow_facefog.job.erased import Erasures, without_erased
from airflow_facefog.job.model import Attempt, Plan
from airflow_facefog.job.reported import Reported, unmet, without_unmet
from airflow_facefog.job.tables import Row, Tables, count

if TYPE_CHECKING:
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.publish.store import Store

BY_PEOPLE = (Reason.ERASED.value, Reason.REGIONS_MISSING.value)
"""Why an image is not published although nothing went wrong: no sign of a bad run."""

LOOK_ROWS = 2_000
"""Objects that one thread looks up in one go."""


def collect(plan: Plan, audit: Store, destination: Store, attempt: Attempt, keys: KeyRing) -> Tables:
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
    tables = _without_erased(_read_tables(audit, found), Erasures(audit, keys))
    tables = _without_unmet(tables, Reported(audit, keys))
    problem = gate(plan, tables.images) or _check_objects(tables.images, destination)
    if problem:
        _refuse(plan, audit, attempt, {"problem": problem}, problem)
    return tables


def gate(plan: Plan, images: Any) -> str | None:
    """Say why this run must not be published, or None."""
    import pyarrow.compute as pc

    counts = count(images["status"])
    listed, found = plan.listed, images.num_rows
    if found != listed or pc.count_distinct(images["source_ref"]).as_py() != listed:
        return f"{listed} images were listed and {found} have a status; the run does not add up"
    unknown = set(counts) - {status.value for status in Status}
    if unknown:
        return f"{sum(counts[name] for name in unknown)} images have no known status; the run does not add up"
    reasons = count(images["reason"])
    people = sum(reasons.get(reason, 0) for reason in BY_PEOPLE)
    bad = counts.get(Status.QUARANTINED.value, 0) + counts.get(Status.FAILED.value, 0) - people
    if listed and bad == listed:
        return f"none of {listed} images could be published ({bad} quarantined or failed); look at their reasons in the audit"
    if bad > plan.policy.max_quarantined * listed:
        return (
            f"{bad} of {listed} images were quarantined or failed, above max_quarantined {plan.policy.max_quarantined}; "
            "look at their reasons in the audit, or allow more in the policy and clear the list task too"
        )
    return None


def _check_objects(images: Any, destination: Store) -> str | None:
    """Every row that says published has its object, of the recorded size (its bytes were hashed when it was put)."""
    from concurrent.futures import ThreadPoolExecutor

    import pyarrow.compute as pc

    rows = images.select(["output_uri", "output_bytes"]).filter(pc.equal(images["status"], Status.PUBLISHED.value))
    prefix = destination.uri("x").removesuffix("x")

    def gone_from(start: int) -> int:
        chunk = rows.slice(start, LOOK_ROWS)
        sizes = zip(chunk["output_uri"].to_pylist(), chunk["output_bytes"].to_pylist(), strict=True)
        return sum(not _there(destination, (uri or "").removeprefix(prefix), size) for uri, size in sizes)

    with ThreadPoolExecutor(8 if destination.local else 32) as pool:
        gone = sum(pool.map(gone_from, range(0, rows.num_rows, LOOK_ROWS)))
    return (
        f"{gone} of {rows.num_rows} published objects are missing or have another size; check the destination"
        if gone
        else None
    )


def _there(destination: Store, key: str, size: int | None) -> bool:
    try:
        return bool(key) and destination.size(key) == size
    except FileNotFoundError:
        return False


def _refuse(plan: Plan, audit: Store, attempt: Attempt, details: Mapping[str, Any], message: str) -> None:
    body = {
        "run_key": plan.run_key, "generation": plan.generation, "status": "failed", "attempt_id": attempt.attempt_id,
        "at": datetime.now(UTC).isoformat(timespec="seconds"), **details,
    }  # fmt: skip
    audit.replace(f"runs/{plan.home}/incomplete.json", json.dumps(body, indent=1).encode())
    raise GateError(message)


def _read_tables(audit: Store, commits: Sequence[Mapping[str, Any]]) -> Tables:
    image_parts = (commit["image"] for commit in commits)
    detection_parts = (commit["detection"] for commit in commits)
    intent_parts = (part for commit in commits for part in commit["intents"])
    return Tables(
        _sorted(_mark_duplicates(_joined(audit, "facefog_image", image_parts)), "image_id", "source_ref"),
        _sorted(_joined(audit, "facefog_detection", detection_parts), "image_id", "source_ref", "det_idx"),
        _sorted(_joined(audit, "facefog_intent", intent_parts), "image_id", "source_ref", "attempt_id", "output_key"),
    )


def _without_erased(tables: Tables, erasures: Erasures) -> Tables:
    """Rows of pictures that were erased since they were committed count as quarantined."""
    gone = erasures.among(tables.images)
    if not gone:
        return tables
    left = without_erased(tables, gone)
    return replace(left, images=_sorted(left.images, "image_id", "source_ref"))


def _without_unmet(tables: Tables, reported: Reported) -> Tables:
    """Rows of pictures without what was reported about them since they were made count as failed."""
    refs = unmet(tables.images, tables.detections, reported)
    if not refs:
        return tables
    left = without_unmet(tables, refs)
    return replace(left, images=_sorted(left.images, "image_id", "source_ref"))


def _joined(audit: Store, table: str, parts: Iterator[Mapping[str, Any]]) -> Any:
    from airflow_facefog.audit.parquet import empty_compact, join_compact

    return join_compact(chain([empty_compact(table)], (read_table(audit, table, part) for part in parts)))


def read_table(audit: Store, table: str, part: Mapping[str, Any]) -> Any:
    """One part in compact form. Raises GateError when its bytes do not hash to what its commit or manifest names."""
    from airflow_facefog.audit.parquet import read_compact

    data = audit.read(part["key"])
    if hashlib.sha256(data).hexdigest() != part["sha256"]:
        raise GateError(
            f"an audit part of this run ({table}) does not hold the bytes that its commit names; it was changed"
        )
    return read_compact(table, data)


def read_part(audit: Store, table: str, part: Mapping[str, Any]) -> list[Row]:
    """The rows of one part, checked as ``read_table`` does."""
    rows: list[Row] = read_table(audit, table, part).to_pylist()
    return rows


def _mark_duplicates(images: Any) -> Any:
    """Every later item with equal bytes points to the first; order is that of batches and items."""
    import numpy as np
    import pyarrow as pa

    coded = images["image_id"].combine_chunks().dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    rows = np.arange(len(codes))
    first = np.empty(len(coded.dictionary) + 1, np.int64)
    first[codes[::-1]] = rows[::-1]  # the last write is the first row; -1 (no bytes) writes past the real codes
    original = first[codes]
    marked = images["source_ref"].combine_chunks().take(pa.array(original, mask=(codes < 0) | (original == rows)))
    index = images.schema.get_field_index("duplicate_of")
    return images.set_column(index, images.schema.field(index), marked)


def _sorted(table: Any, *names: str) -> Any:
    """Rows in the order of these columns, text by code point, no value first; equal ones keep their order."""
    import numpy as np
    import pyarrow as pa

    order = pa.array(np.lexsort([_rank(table[name]) for name in reversed(names)]))
    schema, columns = table.schema, table.columns
    del table  # each column is freed when its sorted copy is there
    for index in range(len(columns)):
        columns[index] = columns[index].take(order)
    return pa.Table.from_arrays(columns, schema=schema)


def _rank(column: Any) -> Any:
    """Numbers in the order of a column's values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = column.combine_chunks()
    if pa.types.is_dictionary(values.type):
        return _rank(pa.chunked_array([values.dictionary]))[values.indices.to_numpy(zero_copy_only=False)]
    if pa.types.is_integer(values.type):
        return values.to_numpy(zero_copy_only=False)
    return pc.rank(values.fill_null(""), tiebreaker="dense").to_numpy()
