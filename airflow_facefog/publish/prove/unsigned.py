"""Objects that only an intent outside of every sealed run knows: a run under way, a crash, or somebody's invention.

Nobody signs such an intent, so whoever can write the audit can write one for any file. It must not make a raw file fine.
"""

from __future__ import annotations

from dataclasses import replace

from airflow_facefog.publish.prove.book import Proven
from airflow_facefog.publish.prove.known import Known
from airflow_facefog.publish.prove.model import Class, Finding, Hashed
from airflow_facefog.publish.prove.raw_ids import RawIds

UNSIGNED = (
    "only an intent that nobody signed knows it: a run that is under way or died, or an invention of somebody who can "
    "write the audit; prove again after the run, or remove it"
)


def objections(proven: Proven, known: Known, ids: RawIds, *, require_signed: bool) -> list[Finding | None]:
    """What speaks against each of these objects, or None. ``require_signed``: unsigned intents prove nothing."""
    return [
        _objection(item, known, row, ids, require_signed=require_signed)
        for item, row in zip(proven.items, proven.rows.tolist(), strict=True)
    ]


def _objection(item: Hashed, known: Known, row: int, ids: RawIds, *, require_signed: bool) -> Finding | None:
    run, raw = known.run_of(row), ids.of_bytes(item.digest)
    unsigned = Finding(
        item.key, Class.ORPHAN, UNSIGNED, item.size, item.digest, run_key=run.run_key, generation=run.generation
    )
    if raw is not None:
        detail = f"{raw.detail}; an intent that nobody signed calls it an output"
        return replace(unsigned, cls=Class.RAW_MATCH, detail=detail, raw=True, matched_source_ref=raw.source_ref)
    return unsigned if require_signed else None


def note(count: int) -> str:
    """What a report says of those against which nothing speaks."""
    return (
        f"{count} objects are known by intents alone, which nobody signs: runs that are under way or died, or inventions of "
        "somebody who can write the audit; with --require-signed they are orphans"
    )
