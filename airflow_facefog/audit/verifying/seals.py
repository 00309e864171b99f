"""Was a run removed? By traces that only a sealed run leaves: its row, notes of refused images, snapshots, SQL.

Finalise writes all of these after the chain entry. So a crash between seal and chain leaves none of them, and a run that
has one was in the chain.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from airflow_facefog.audit.ledger import manifest_key
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.sealed import Signature
from airflow_facefog.audit.verifying.findings import Code, Findings
from airflow_facefog.audit.verifying.links import Links
from airflow_facefog.audit.verifying.runs import BEFORE_SEAL, Checked
from airflow_facefog.audit.verifying.survey import Name

_REFUSAL = re.compile(r"refusals/[^/]+/([^/]+)-(0|[1-9][0-9]*)")
_WORK = re.compile(r"(plans|commits)/([^/]+)/(0|[1-9][0-9]*)/.+")


@dataclass(frozen=True, slots=True)
class Trace:
    """Something that is written only after a run was sealed and chained. ``where``: audit key or URI."""

    run: Name
    where: str


def unsealed_work(audit: Objects, checked: Iterable[Checked]) -> dict[Name, str]:
    """Runs that were planned and have no manifest: name → the folder that says so (commits before plans)."""
    sealed = {found.home.run for found in checked if found.home.entry or found.home.manifest_key in found.home.files}
    work: dict[Name, str] = {}
    for folder in ("plans", "commits"):
        for match in filter(None, map(_WORK.fullmatch, audit.list(folder))):
            name = (match[2], int(match[3]))
            if name not in sealed:
                work[name] = f"{folder}/{match[2]}/{match[3]}"
    return work


def judge_seals(
    audit: Objects, checked: Sequence[Checked], work: dict[Name, str], traces: Iterable[Trace], links: Links,
    findings: Findings,
) -> None:  # fmt: skip
    """Name runs that were removed, that are outside of the chain, and that were never finished."""
    seen: dict[Name, list[str]] = defaultdict(list)
    for found in checked:
        seen[found.home.run] += [found.row_key] if found.row_key else []
    for trace in (*_refusals(audit), *traces):
        seen[trace.run].append(trace.where)
    homes = {found.home.run: found for found in checked}
    for name, where in seen.items():
        known = homes.get(name)
        if where and (known is None or not (known.home.entry or known.home.manifest_key in known.home.files)):
            if audit.exists(manifest_key(*name)):
                continue  # sealed since its folder was listed
            detail = f"manifest and chain entry of this run are gone, yet it was sealed: see {where[0]}"
            findings.add(Code.RUN_REMOVED, manifest_key(*name), detail)
    for found in checked:
        if found.home.entry is None and found.manifest is not None:
            _judge_unchained(found, seen[found.home.run], links, findings)
        elif found.manifest is None and found.home.run not in work and not seen[found.home.run]:
            _name_strays(found, findings)
    for name in work.keys() - {name for name, where in seen.items() if where}:
        _name_unfinished(work[name], findings)


def _judge_unchained(found: Checked, later: Sequence[str], links: Links, findings: Findings) -> None:
    """Runs of releases before the chain leave the same traces, so these tell nothing about them.

    An unsigned manifest beside a signed chain may be such a run, or stand in for one that was removed: an error until
    somebody with the signing key entered it.
    """
    manifest, name = found.manifest, found.home.manifest_key
    assert manifest is not None
    if later and not manifest.old and not links.damaged:
        detail = (
            f"this sealed run is not in the chain and did not stop before it (see {later[0]}): its entry was removed"
        )
        findings.add(Code.REMOVED_FROM_CHAIN, name, detail)
    elif links.any_signed and manifest.signature is Signature.UNSIGNED:
        detail = "the chain is signed, and this unsigned run is outside of it: of an older release (then run "
        detail += "`facefog audit seal`), or put in the place of a removed one"
        findings.add(Code.OUTSIDE_SIGNED_CHAIN, name, detail)
    else:
        detail = (
            "this sealed run is not in the chain: of an older release, or finalise stopped; run `facefog audit seal`"
        )
        findings.add(Code.NOT_IN_CHAIN, name, detail)


def _name_strays(found: Checked, findings: Findings) -> None:
    """Files that a run leaves before it is sealed, of a run that neither chain nor plan knows."""
    if found.home.entry is None and found.home.manifest_key not in found.home.files:
        expected = {f"{found.home.folder}/{name}" for name in BEFORE_SEAL}  # all others were named before
        for key in sorted(found.home.files & expected):
            findings.add(Code.FOREIGN_FILE, key, "no chain entry, manifest or plan knows this run")


def _name_unfinished(where: str, findings: Findings) -> None:
    what = "has committed batches" if where.startswith("commits") else "was planned"
    detail = f"this run {what} and was never sealed: it is running, was refused, or its seal was removed"
    findings.add(Code.UNFINISHED, where, detail)


def _refusals(audit: Objects) -> list[Trace]:
    matches = ((key, _REFUSAL.fullmatch(key)) for key in audit.list("refusals"))
    return [Trace((match[1], int(match[2])), key) for key, match in matches if match is not None]
