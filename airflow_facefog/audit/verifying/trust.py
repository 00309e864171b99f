"""Whose signatures count: keys that the verifier brought, or else those that lie in the audit (which proves less)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.sealed import Document, PublicKey, Signature, check
from airflow_facefog.audit.verifying.findings import Code, Findings
from airflow_facefog.core.errors import ConfigurationError

FOLDER = "keys"


@dataclass(frozen=True, slots=True)
class Trust:
    """Public keys by key_id. ``source``: ``pinned`` (given), ``audit`` (found in the audit) or ``none``."""

    source: str
    keys: Mapping[str, PublicKey] = field(repr=False)


def find_trust(audit: Objects, pinned: Collection[PublicKey], findings: Findings) -> Trust:
    """Pinned keys alone when there are any; else those of ``keys/``. Damaged key files are named either way."""
    found = _read_keys(audit, findings)
    if pinned:
        return Trust("pinned", {key.key_id: key for key in pinned})
    if found:
        findings.add(
            Code.KEYS_FROM_AUDIT, FOLDER,
            "the keys come from the audit itself: this shows consistency, not who signed; pin one with --public-key",
        )  # fmt: skip
    return Trust("audit" if found else "none", found)


def judge(name: str, document: Document, trust: Trust, findings: Findings) -> Signature:
    """Check a document's signature; name it when it is there and does not hold."""
    said = check(document, trust.keys)
    if said is Signature.INVALID:
        findings.add(Code.SIGNATURE_INVALID, name, "its signature does not hold: it was changed after it was signed")
    elif said is Signature.UNKNOWN_KEY:
        given = "the public keys given" if trust.source == "pinned" else "the keys of this audit"
        findings.add(
            Code.SIGNER_UNKNOWN, name,
            f"signed by key {_signer(document)}, which is not among {given}: a lost key, or somebody else signed",
        )  # fmt: skip
    return said


def _signer(document: Document) -> str:
    return "".join(c for c in str(document["signer"]["key_id"])[:16] if c.isalnum())


def _read_keys(audit: Objects, findings: Findings) -> dict[str, PublicKey]:
    keys = {}
    for name in audit.list(FOLDER):
        data = audit.get(name)
        try:
            key = PublicKey.from_pem(data or b"")
        except ConfigurationError:
            findings.add(Code.KEY_DAMAGED, name, "this is no public key in PEM form; restore it")
            continue
        if key.pem != data or name != f"{FOLDER}/{key.key_id}.pem":
            findings.add(Code.KEY_DAMAGED, name, "this is not the key that its name says, or it was edited; restore it")
        else:
            keys[key.key_id] = key
    return keys
