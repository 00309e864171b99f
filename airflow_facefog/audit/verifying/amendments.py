"""What erasure and expiry changed in a run: each amendment must continue from the parts as they were before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_facefog.audit.chain import Entry, entry_key
from airflow_facefog.audit.ledger import LedgerPart
from airflow_facefog.audit.verifying.findings import Code, Findings


@dataclass(frozen=True, slots=True)
class Current:
    """The parts that hold the rows now, and the keys of those that were replaced (they must be gone)."""

    parts: Mapping[str, LedgerPart]
    replaced: Mapping[str, int] = field(default_factory=dict)


def apply(sealed: Mapping[str, LedgerPart], amendments: Iterable[Entry], findings: Findings) -> Current:
    """Parts after all amendments. ``replaced``: key → number of the entry that replaced it."""
    parts, replaced = dict(sealed), {}
    for entry in amendments:
        for name, said in entry.document["parts"].items():
            before = parts.get(name)
            _check(entry, name, before, said, findings)
            if before is not None:
                replaced[before.key] = entry.seq
            parts.pop(name, None)
            if said["key"] is not None:
                parts[name] = LedgerPart.from_json(name, said)
    now = {part.key for part in parts.values()}
    return Current(parts, {key: seq for key, seq in replaced.items() if key not in now})


def _check(entry: Entry, name: str, before: LedgerPart | None, said: Mapping[str, Any], findings: Findings) -> None:
    where = entry_key(entry.seq)
    if before is None or said["replaces"] != before.sha256:
        findings.add(Code.AMENDMENT_WRONG, where, f"it replaces a part {name[:20]!r} that the run did not have then")
        return
    if said["key"] is not None and not said["key"].startswith(
        f"{before.key.rpartition('/')[0].split('/amended/')[0]}/amended/"
    ):
        findings.add(Code.AMENDMENT_WRONG, where, f"its part {name!r} lies elsewhere than in the run's folder")
    removed = entry.document.get("rows_removed")
    gone = removed.get(name, 0) if isinstance(removed, Mapping) else None
    if gone is None or (said["key"] is not None and before.rows - gone != said["rows"]):
        detail = f"part {name!r} had {before.rows} rows and has {said['rows']}; it says {gone} were removed"
        findings.add(Code.AMENDMENT_WRONG, where, detail[:200])
