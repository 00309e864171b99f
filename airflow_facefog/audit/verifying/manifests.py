"""One manifest: its bytes, its signature, and that it says the same as the chain and as itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_facefog.audit.chain import entry_key
from airflow_facefog.audit.ledger import MANIFESTS, LedgerPart
from airflow_facefog.audit.sealed import LedgerError, Signature, read_sealed, sha256
from airflow_facefog.audit.verifying.findings import Code, Findings
from airflow_facefog.audit.verifying.links import Links
from airflow_facefog.audit.verifying.survey import Home
from airflow_facefog.audit.verifying.trust import Trust, judge

OLD, NEW = MANIFESTS

PARTS = {OLD: {"image", "detection", "intent"}, NEW: {"image", "detection", "intent", "leaf"}}


@dataclass(frozen=True, slots=True)
class Manifest:
    """A readable manifest. ``sha256`` of its bytes; ``changed``: it is not the one that the chain names."""

    document: Mapping[str, Any] = field(repr=False)
    sha256: str
    parts: Mapping[str, LedgerPart] = field(repr=False)
    signature: Signature
    changed: bool = False

    @property
    def forged(self) -> bool:
        """Whether chain or signature say that somebody changed it."""
        return self.changed or self.signature is Signature.INVALID

    @property
    def old(self) -> bool:
        """Whether a release before the chain wrote it."""
        return bool(self.document["format"] == OLD)


def read_manifest(data: bytes, home: Home, links: Links, trust: Trust, findings: Findings) -> Manifest | None:
    """Check a manifest's bytes. None: it cannot be read, and was named."""
    name, digest = home.manifest_key, sha256(data)
    changed = home.entry is not None and home.entry.document["manifest"].get("sha256") != digest
    if changed and home.entry is not None:
        findings.add(Code.MANIFEST_CHANGED, name, f"chain entry {home.entry.seq} names other bytes; it was changed")
    try:
        document = _parse(data, named=home.entry is not None and not changed)
        parts = {part: LedgerPart.from_json(part, said) for part, said in document["parts"].items()}
    except LedgerError as error:
        findings.add(Code.MANIFEST_DAMAGED, name, str(error))
        return None
    manifest = Manifest(document, digest, parts, judge(name, document, trust, findings), changed)
    if home.entry is not None and home.entry.document.get("signed") is not True and document.get("signed") is True:
        detail = f"unsigned, though the manifest {name} that it enters is signed"
        findings.add(Code.DOWNGRADED, entry_key(home.entry.seq), detail)
    for detail in (*_against_home(manifest, home), *_against_itself(document), *_against_chain(manifest, home, links)):
        findings.add(Code.MANIFEST_WRONG, name, detail[:300])
    return manifest


def _parse(data: bytes, *, named: bool) -> dict[str, Any]:
    """Raises LedgerError for everything that a reader would stumble over. ``named``: the chain names these very bytes."""
    try:
        document = json.loads(data)
        old, known = document["format"] == OLD, document["format"] in MANIFESTS
    except (ValueError, KeyError, TypeError, RecursionError):
        raise LedgerError("it is not readable; it was damaged or replaced") from None
    if not old and not (named and known):
        document = read_sealed(data, NEW)
    wanted: dict[str, Any] = {
        "run_key": str,
        "generation": int,
        "counts": dict,
        "parts": dict,
        "run": dict,
        "policy_hash": str,
    }
    wanted |= {} if old else {"tree": dict, "previous": dict, "sealed_at": str}
    wrong = [name for name, kind in wanted.items() if type(document.get(name)) is not kind]
    if not wrong and set(document["parts"]) != PARTS[document["format"]]:
        wrong = ["parts"]
    if not wrong and any(
        type(p.get("key")) is not str or type(p.get("rows")) is not int for p in document["parts"].values()
    ):
        wrong = ["parts"]
    if wrong:
        raise LedgerError(f"it does not say what a manifest says ({wrong[0]!r}); it was damaged or replaced")
    return dict(document)


def _against_home(manifest: Manifest, home: Home) -> list[str]:
    document = manifest.document
    if (document["run_key"], document["generation"]) != home.run:
        return ["it is the manifest of another run; it was copied here"]
    said = [f"its part {name!r} lies elsewhere" for name, part in manifest.parts.items()
            if part.key != f"{home.folder}/{name}.parquet"]  # fmt: skip
    entry = home.entry
    if entry is not None and entry.document["manifest"].get("key") != home.manifest_key:
        said.append(f"chain entry {entry.seq} names another manifest for this run")
    if entry is not None and entry.document["counts"] != document["counts"]:
        said.append(f"its counts are not those of chain entry {entry.seq}")
    return said


def _against_itself(document: Mapping[str, Any]) -> list[str]:
    """Hashes and counts stand in it twice: for readers of the manifest and in the row of ``facefog_run``."""
    run, counts = document["run"], document["counts"]
    pairs = {
        name: (run.get(name), document.get(name)) for name in ("run_key", "generation", "policy_hash", "recipe_hash")
    }
    pairs |= {f"count {name}": (run.get(name), value) for name, value in counts.items()}
    said = [f"its {name} is not that of its run row" for name, (one, other) in pairs.items() if one != other]
    numbers = [counts.get(name) for name in ("published", "quarantined", "failed", "skipped")]
    if any(type(n) is not int for n in numbers) or sum(n for n in numbers if n is not None) != counts.get("listed"):
        said.append("its counts do not add up: listed is not the sum of all statuses")
    return said


def _against_chain(manifest: Manifest, home: Home, links: Links) -> list[str]:
    """``previous`` is the head when the run was sealed: an entry of this chain, before the run's own."""
    if manifest.old:
        return []
    before = manifest.document["previous"]
    seq, named = before.get("seq"), before.get("sha256")
    link = links.found.get(seq) if type(seq) is int else None
    if link is None and seq != 0:
        gap = type(seq) is int and 0 < seq < links.head.seq  # named as one
        return [] if gap else ["it was sealed after a chain entry that is not there"]
    if (link.sha256 if link else None) != named or (home.entry is not None and seq >= home.entry.seq):
        return [f"it was sealed after another entry {seq} than the one in this chain"]
    newest = [e.document["manifest"].get("sha256") for e in links.entries if e.kind == "run" and e.seq <= seq]
    if not links.damaged and manifest.document["run"].get("prev_manifest_sha256") != (newest[-1] if newest else None):
        return ["its prev_manifest_sha256 is not the manifest before it in the chain"]
    return []
