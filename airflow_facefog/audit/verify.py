"""Verification of an audit: chain, signatures, manifests, parts, counts, rows, policies; nothing stops at the first fault.

What it shows: the record is as it was when it was sealed. Without a pinned public key it shows consistency only; without
an anchor (a head that was written down elsewhere) not that the newest runs were not removed. ``docs/verify.md`` says more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from airflow_facefog.audit.chain import Head, entry_key
from airflow_facefog.audit.ledger import Ledger, SealedRun
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.sealed import PublicKey, Signature
from airflow_facefog.audit.verifying.findings import Code, Findings, Level
from airflow_facefog.audit.verifying.links import Links, check_anchors, check_links, read_links
from airflow_facefog.audit.verifying.runs import Checked, Scope, check_home
from airflow_facefog.audit.verifying.seals import Trace, judge_seals, unsealed_work
from airflow_facefog.audit.verifying.survey import Name, survey
from airflow_facefog.audit.verifying.trust import Trust, find_trust

Deep = Callable[[SealedRun, Executor, Findings], None]
"""What else to check of each run whose parts are intact."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the audit itself says, for comparison with what lies outside of it.

    ``ledger``: entries and runs that can be read; ``sealed``: every run that has a manifest or a chain entry, also a
    damaged one; ``intact``: runs whose parts were read and are right; ``unsealed``: runs that were planned only.
    """

    ledger: Ledger = field(repr=False)
    sealed: frozenset[Name] = field(repr=False)
    intact: frozenset[Name] = field(repr=False)
    unsealed: frozenset[Name] = field(repr=False)

    @property
    def intact_ledger(self) -> Ledger:
        """The ledger without runs that are damaged or were not read."""
        runs = tuple(run for run in self.ledger.runs if (run.run_key, run.generation) in self.intact)
        return Ledger(self.ledger.entries, runs)


Witness = Callable[[Known, Findings], Iterable[Trace]]
"""Compares what lies elsewhere (SQL, destinations) and returns its traces of sealed runs."""


@dataclass(frozen=True, slots=True)
class Options:
    """How strict to be.

    ``keys``: public keys that the verifier trusts; none: those of the audit. ``anchors``: heads that were written down
    elsewhere. ``since``: ISO date or time (UTC); parts of runs entered before it are not read. ``threads``: at most.
    """

    keys: Collection[PublicKey] = ()
    anchors: Collection[Head] = ()
    require_signed: bool = False
    since: str | None = None
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. ``ledger``: entries and runs that can be read, for further comparison."""

    findings: Findings = field(repr=False)
    links: Links = field(repr=False)
    trust: Trust
    ledger: Ledger = field(repr=False)
    parts: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """{"verified", "signed", "trust", "head", "entries", "runs", "parts", "bytes", "errors", "notices", "findings"}.

        ``head``: "seq:sha256" to write down elsewhere; ``findings``: at most ``SHOWN_PER_CODE`` of each code.
        """
        errors = self.findings.count(Level.ERROR)
        return {
            "verified": not errors, "signed": self.links.signed, "trust": self.trust.source, "head": str(self.links.head),
            "entries": len(self.links.found), "runs": len(self.ledger.runs), "parts": self.parts, "bytes": self.bytes,
            "errors": errors, "notices": self.findings.count(Level.NOTICE),
            "findings": [found.to_json() for found in self.findings.kept],
        }  # fmt: skip


def verify(
    audit: Objects, options: Options = Options(), witness: Witness | None = None, deep: Deep | None = None
) -> Report:
    """Verify an audit. ``witness``: what lies outside of it and names sealed runs; ``deep``: more checks of each run.

    Raises StoreError and ConfigurationError when a store cannot be read; faults of the record are findings.
    """
    findings = Findings()
    with ThreadPoolExecutor(options.threads) as pool:
        trust = find_trust(audit, options.keys, findings)
        links = read_links(audit, trust, pool, findings)
        check_links(links, findings)
        check_anchors(links, options.anchors, findings)
        homes = survey(audit, links.entries, findings)
        scope = Scope(audit, links, trust, findings, options.since)
        checked = list(pool.map(lambda home: check_home(scope, home), homes))
        work = unsealed_work(audit, checked)
        known = _known(links, checked, work)
        _say_unchecked(links, checked, options.since, findings)
        traces = witness(known, findings) if witness else ()
        judge_seals(audit, checked, work, traces, links, findings)
        pinned = trust.source == "pinned"
        _judge_unsigned(links, checked, findings, require=options.require_signed, pinned=pinned)
        for run in known.intact_ledger.runs if deep else ():
            if deep:
                deep(run, pool, findings)
    parts = [part for found in checked for part in found.intact.values()]
    return Report(findings, links, trust, known.ledger, len(parts), sum(part.bytes for part in parts))


def _known(links: Links, checked: Iterable[Checked], work: Iterable[Name]) -> Known:
    """Runs whose manifest can be read and was not changed: what a forged one names is not followed."""
    readable = [found for found in checked if found.run and found.manifest and not found.manifest.forged]
    runs = sorted((found.run for found in readable if found.run), key=lambda run: (run.seq is None, run.seq or 0))
    sealed = (found.home.run for found in checked if found.home.entry or found.home.manifest_key in found.home.files)
    intact = (found.home.run for found in readable if found.run and set(found.intact) == set(found.run.parts))
    return Known(Ledger(tuple(links.entries), tuple(runs)), frozenset(sealed), frozenset(intact), frozenset(work))


def _say_unchecked(links: Links, checked: Sequence[Checked], since: str | None, findings: Findings) -> None:
    if not checked and not links.found:
        findings.add(Code.NOT_CHECKED, "runs", "there is no sealed run and no chain: nothing was verified")
    if skipped := sum(found.skipped for found in checked):
        findings.add(Code.NOT_CHECKED, "runs", f"the parts of {skipped} runs before {since} were not read")


def _judge_unsigned(
    links: Links, checked: Sequence[Checked], findings: Findings, *, require: bool, pinned: bool
) -> None:
    """One notice for all that is unsigned, or an error for each when signatures are required.

    A signed entry vouches for every entry before it. So a pinned key needs one signed entry (``downgraded`` sees to what
    follows it): otherwise all signatures could be stripped from an audit and it would still verify.
    """
    names = [entry_key(e.seq) for e in links.entries if e.document.get("signed") is not True]
    outside = [found for found in checked if found.home.entry is None and found.manifest is not None]
    names += [o.home.manifest_key for o in outside if o.manifest and o.manifest.signature is Signature.UNSIGNED]
    for name in names if require else ():
        findings.add(Code.SIGNATURE_REQUIRED, name, "unsigned, and signatures are required")
    if require or not names:
        return
    if pinned and not links.any_signed:
        detail = "a public key was given, and no entry of the chain is signed: nothing here is by its holder"
        findings.add(Code.SIGNATURE_REQUIRED, entry_key(links.head.seq) if links.found else names[0], detail)
    detail = f"{len(names)} documents are unsigned, from here on: whoever can write to the audit can rewrite them"
    findings.add(Code.UNSIGNED, names[0], detail)
