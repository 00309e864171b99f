"""One run generation, whole: manifest, amendments, parts, counts, row, policy, and files that nothing names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_facefog.audit.ledger import SealedRun
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.sealed import Signature
from airflow_facefog.audit.verifying import amendments
from airflow_facefog.audit.verifying.findings import Code, Findings
from airflow_facefog.audit.verifying.links import Links
from airflow_facefog.audit.verifying.manifests import Manifest, read_manifest
from airflow_facefog.audit.verifying.parts import PartFacts, check_amended_counts, check_counts, check_part
from airflow_facefog.audit.verifying.run_rows import check_policy, check_run_row, read_run_row
from airflow_facefog.audit.verifying.survey import Home
from airflow_facefog.audit.verifying.trust import Trust

SALTS = "salt.bin"
BEFORE_SEAL = {
    "image.parquet", "detection.parquet", "intent.parquet", "leaf.parquet", "run.parquet", SALTS, "incomplete.json",
}  # fmt: skip
"""What a run that was not sealed (yet) may have left."""

_AMENDED = re.compile(r"amended/[^/]+/(?:[0-9a-f]{16}/)?(?:image|detection|intent|leaf)\.parquet")


@dataclass(frozen=True, slots=True)
class Checked:
    """What was read of a run.

    ``manifest`` None: there is none that can be read, and so no ``run``. ``intact``: parts without a fault. ``row_key``:
    its ``run.parquet`` when that says that the run was sealed. ``skipped``: too old, its parts were not read.
    """

    home: Home
    manifest: Manifest | None = None
    run: SealedRun | None = None
    intact: Mapping[str, PartFacts] = field(default_factory=dict)
    row_key: str | None = None
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """What every check needs. ``since``: parts of runs that were sealed before this UTC time are not read."""

    audit: Objects
    links: Links
    trust: Trust
    findings: Findings
    since: str | None = None


def check_home(scope: Scope, home: Home) -> Checked:
    """Check one run generation; every fault goes to the findings, none stops."""
    data = scope.audit.get(home.manifest_key)
    if data is None:
        return _check_unsealed(scope, home)
    manifest = read_manifest(data, home, scope.links, scope.trust, scope.findings)
    if manifest is None:
        _name_foreign(scope, home, {home.manifest_key, *(f"{home.folder}/{name}" for name in BEFORE_SEAL)}, {})
        return Checked(home)
    check_policy(home.manifest_key, manifest, scope.findings)
    current = amendments.apply(manifest.parts, home.amendments, scope.findings)
    row_key = f"{home.folder}/run.parquet"
    _name_foreign(scope, home, {home.manifest_key, row_key, *(p.key for p in current.parts.values())}, current.replaced)
    intact: dict[str, PartFacts] = {}
    has_row = row_key in home.files
    skipped = _before(scope, home, manifest)
    if not skipped:
        link = scope.links.found.get(home.entry.seq) if home.entry else None
        signed = link is not None and link.signature is Signature.VALID
        has_row = check_run_row(scope.audit, home, manifest, scope.findings, signed=signed)
        intact = _check_parts(scope, home, manifest, current)
    run = SealedRun(
        *home.run, home.manifest_key, manifest.sha256, manifest.document, current.parts,
        home.entry.seq if home.entry else None, home.amendments,
    )  # fmt: skip
    return Checked(home, manifest, run, intact, row_key if has_row else None, skipped)


def _check_unsealed(scope: Scope, home: Home) -> Checked:
    """No manifest: fine for a run that goes on or was refused; ``seals`` judges whether it was removed."""
    if home.entry is not None:
        detail = f"chain entry {home.entry.seq} names it; it was removed"
        scope.findings.add(Code.MANIFEST_MISSING, home.manifest_key, detail)
    _name_foreign(scope, home, {f"{home.folder}/{name}" for name in BEFORE_SEAL}, {})
    row_key = f"{home.folder}/run.parquet"
    row = read_run_row(scope.audit.get(row_key) or b"")
    return Checked(home, row_key=row_key if row is not None and row.get("status") != "failed" else None)


def _before(scope: Scope, home: Home, manifest: Manifest) -> bool:
    at = home.entry.at if home.entry is not None else str(manifest.document["run"].get("finished_at"))
    return scope.since is not None and at < scope.since


def _check_parts(scope: Scope, home: Home, manifest: Manifest, current: amendments.Current) -> dict[str, PartFacts]:
    facts = {name: check_part(scope.audit, part, scope.findings) for name, part in current.parts.items()}
    intact = {name: found for name, found in facts.items() if found is not None}
    compare = check_amended_counts if home.amendments else check_counts
    compare(home.manifest_key, intact, manifest.document["counts"], scope.findings)
    return intact


def _name_foreign(scope: Scope, home: Home, named: set[str], replaced: Mapping[str, int]) -> None:
    """Files of a run's folder that the record does not name."""
    for key in sorted(home.files - named):
        inner = key.removeprefix(f"{home.folder}/")
        if key in replaced:
            detail = f"chain entry {replaced[key]} replaced it, and its rows are still there; delete it"
            scope.findings.add(Code.ERASED_PART_STILL_THERE, key, detail)
        elif inner == SALTS and home.amendments:
            detail = "salts of erased rows are still there: their leaves could be tried against guesses; delete it"
            scope.findings.add(Code.ERASED_PART_STILL_THERE, key, detail)
        elif inner in ("incomplete.json", SALTS) or _AMENDED.fullmatch(inner):
            detail = (
                "left by a step that stopped; running that step again (finalise, erase, expire) removes or names it"
            )
            scope.findings.add(Code.LEFTOVER, key, detail)
        else:
            scope.findings.add(Code.FOREIGN_FILE, key, "the record names no such file; nothing of facefog wrote it")
