"""The report as one JSON object: what was there, what is proven, and the state of the record that it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_facefog.audit.chain import AMENDMENT
from airflow_facefog.publish.prove.model import FINE, WORST_FIRST, Class, Finding, State
from airflow_facefog.publish.prove.proof import Proof
from airflow_facefog.publish.prove.tally import printable

FORMAT = "facefog-proof/1"

WITHHELD = "Object keys of the named layout hold source names: this report is as restricted as the audit."

EXPIRED = {
    "image": "what they published is an orphan here",
    "detection": "nothing is compared with what they published",
}
"""What the proof loses when a part of a run has expired."""


@dataclass(frozen=True, slots=True)
class About:
    """What the report says of its own making. ``audit``: what ``facefog audit verify`` said just before.

    ``raw_check``: how raw images could be recognised by their bytes; ``at``: UTC, ISO-8601.
    """

    store: str
    audit_uri: str
    audit: Mapping[str, Any] = field(repr=False)
    version: str
    at: str
    raw_check: str
    ignore: Sequence[str]
    seconds: float


def document(proof: Proof, about: About) -> dict[str, Any]:
    """Plain JSON values. ``clean``: every object is fine, nothing is missing, and the record verifies."""
    tally, record = proof.tally, _record(about.audit)
    present = sum(count for cls, count in tally.objects.items() if cls is not Class.MISSING)
    looked_at = present - tally.objects[Class.IGNORED]
    clean = not any(tally.objects[cls] for cls in WORST_FIRST) and looked_at > 0 and record["verified"]
    clean = bool(clean and not any(item.problem for item in proof.datasets))
    return {
        "format": FORMAT, "clean": clean, "at": about.at, "version": about.version, "seconds": about.seconds,
        "store": about.store, "audit": about.audit_uri, "record": record, "objects": present,
        "bytes": sum(tally.bytes.values()),
        "classes": {cls.value: {"objects": tally.objects[cls], "bytes": tally.bytes[cls]} for cls in Class},
        "states": {state.value: tally.states[state] for state in State}, "raw": tally.raw, "renamed": tally.renamed,
        "raw_check": about.raw_check, "missing_checked": proof.own, "ignore": list(about.ignore),
        "datasets": [{"dataset": item.dataset, "snapshot_seq": item.seq} for item in proof.datasets],
        "amendments": _amendments(proof), "notes": _notes(proof, present), "restricted": WITHHELD,
        "findings": [finding_json(finding) for finding in tally.findings], "findings_left_off": tally.left_off,
    }  # fmt: skip


def finding_json(finding: Finding) -> dict[str, Any]:
    """One finding as plain values; absent ones are left out."""
    values = {
        "key": printable(finding.key), "class": finding.cls.value, "detail": printable(finding.detail),
        "kind": finding.kind, "raw": finding.raw, "size": finding.size, "sha256": finding.digest.hex(),
        "run_key": finding.run_key, "generation": finding.generation, "matched_sha256": finding.matched_sha256,
        "matched_key": printable(finding.matched_key), "matched_source_ref": finding.matched_source_ref,
    }  # fmt: skip
    return {name: value for name, value in values.items() if value not in (None, "")}


def summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """The counts alone, for a terminal, XCom and logs: no key, no name."""
    classes = {name: entry["objects"] for name, entry in report["classes"].items()}
    states = {name: count for name, count in report["states"].items() if count}
    return {
        "clean": report["clean"], "objects": report["objects"], "bytes": report["bytes"], **classes, **states,
        "raw": report["raw"], "record_verified": report["record"]["verified"], "signed": report["record"]["signed"],
        "trust": report["record"]["trust"], "audit_head": report["record"]["head"], "seconds": report["seconds"],
    }  # fmt: skip


def _record(audit: Mapping[str, Any]) -> dict[str, Any]:
    names = ("verified", "signed", "trust", "head", "entries", "runs", "errors", "notices")
    errors = [found for found in audit["findings"] if found["level"] == "error"]
    return {**{name: audit[name] for name in names}, "findings": errors[:50]}


def _amendments(proof: Proof) -> dict[str, int]:
    """Requests by reason: erased outputs left no hash, so a copy of one is an orphan."""
    requests = {
        (str(e.document["request_id"]), str(e.document["reason"])) for e in proof.ledger.entries if e.kind == AMENDMENT
    }
    return dict(Counter(reason for _, reason in sorted(requests)))


def _notes(proof: Proof, present: int) -> list[str]:
    notes = list(proof.notes)
    if not present:
        notes.append("there is no object at all: check the path; an empty store proves nothing")
    elif present == proof.tally.objects[Class.IGNORED]:
        notes.append("every object was left out on request: nothing is proven")
    if not proof.own:
        notes.append("this store has no snapshots and is no recorded destination: nothing can be missing from it")
    if _amendments(proof).get("erasure"):
        notes.append("outputs were erased from this audit: they left no hash, so a copy of one here would be an orphan")
    for part, lost in EXPIRED.items():
        runs = sum(part not in run.parts for run in proof.ledger.runs)
        if runs:
            notes.append(f"the {part} rows of {runs} runs have expired: {lost}")
    if any(cls not in FINE and count for cls, count in proof.tally.objects.items()) and proof.tally.left_off:
        notes.append(f"{proof.tally.left_off} findings are in the Parquet report only")
    return notes
