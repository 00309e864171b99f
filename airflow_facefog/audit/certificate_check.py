"""Check a certificate offline: without the audit, without the raw image, without any other row.

Every check is one finding: it holds, it fails, or it is open (nothing was given to compare with). Only signatures under a
key that the checker has from elsewhere prove who says all this; without them a certificate is consistent, no more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from airflow_facefog.audit import chain, leaves, tree
from airflow_facefog.audit.certificate import FORMAT, LEAF_FORMAT
from airflow_facefog.audit.schema import DETECTION, IMAGE
from airflow_facefog.audit.sealed import LedgerError, PublicKey, Signature, canonical, check, read_sealed, sha256
from airflow_facefog.core.policy import hash_decisions
from airflow_facefog.core.records import Status

Document = Mapping[str, Any]

MANIFEST_FORMAT = "facefog-manifest/2"

NOT_PROVEN = (
    "that the detector saw every face and plate: only what it reported is recorded",
    "that the signer was honest: a signature shows that nothing was changed since",
    "that times are right: they are those of the machines that wrote them",
    "that the record still stands: later runs and erasures are in the audit, not here",
)
"""What no certificate shows."""


IN_SHORT = (
    "status", "reason", "image_id", "output_sha256", "n_detections", "n_fogged", "verify_coverage", "irreversible",
    "policy_name", "policy_hash", "detector", "model_id", "model_version", "run_key",
)  # fmt: skip
"""Columns of image and run that ``summary`` shows."""


NUMBERS = frozenset(
    column.name
    for table in (IMAGE, DETECTION)
    for column in table.columns
    if column.type in ("integer", "flag", "float")
)


class Verdict(StrEnum):
    """How a check ended."""

    HOLDS = "holds"
    FAILS = "fails"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its name, how it ended, and in one sentence what was seen."""

    check: str
    verdict: Verdict
    detail: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", _printable(self.detail))


@dataclass(frozen=True, slots=True)
class Checked:
    """All findings. ``document``: what was checked, or None when it is no certificate."""

    findings: tuple[Finding, ...]
    document: Document | None = None

    @property
    def holds(self) -> bool:
        """Whether no check failed."""
        return all(finding.verdict is not Verdict.FAILS for finding in self.findings)

    @property
    def authentic(self) -> bool:
        """Whether it holds and manifest and chain entry are signed by a trusted key."""
        signed = [f.verdict for f in self.findings if f.check.endswith("signature")]
        return self.holds and len(signed) == 2 and set(signed) == {Verdict.HOLDS}


def check_certificate(data: bytes, trusted: Mapping[str, PublicKey], image_sha256: str | None = None) -> Checked:
    """Check the bytes of a certificate. ``trusted``: key_id → key; ``image_sha256``: of the file it is said to be of.

    Never raises for what the bytes hold: whatever is wrong is a finding.
    """
    try:
        document = read_sealed(data.strip(), FORMAT)
    except LedgerError as error:
        return Checked((Finding("format", Verdict.FAILS, str(error)),))
    except (ValueError, RecursionError):  # lone surrogates; nested deeper than any certificate
        return Checked((Finding("format", Verdict.FAILS, "this is no JSON that a certificate could be"),))
    checks: dict[str, Callable[[Document], Finding]] = {
        "leaf": _leaf, "proof": _proof, "run": _run, "counts": _counts, "chain": _chain, "policy": _policy,
        "manifest signature": lambda found: _signature("manifest signature", found["manifest"], trusted),
        "chain signature": lambda found: _signature("chain signature", found["chain"], trusted),
        "image": lambda found: _image(found, image_sha256),
    }  # fmt: skip
    findings = [Finding("format", Verdict.HOLDS, f"a {FORMAT} in canonical form")]
    findings += [_guarded(name, one, document) for name, one in checks.items()]
    return Checked(tuple(findings), document)


def summary(document: Document) -> dict[str, Any]:
    """What a certificate that holds says of its image, in short."""
    image, run = document["image"], document["manifest"]["run"]
    about = {name: image[name] for name in IN_SHORT if name in image}
    ran = {name: run[name] for name in IN_SHORT if name in run and name not in about}
    said = {**about, **ran, "sealed_at": document["manifest"].get("sealed_at")}
    return {name: _printable(value) if isinstance(value, str) else value for name, value in said.items()}


def _printable(text: str) -> str:
    """What a forged certificate says must not move the cursor of a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)[:400]


def _guarded(name: str, one: Callable[[Document], Finding], document: Document) -> Finding:
    try:
        return one(document)
    except LedgerError as error:
        return Finding(name, Verdict.FAILS, str(error))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError):
        return Finding(
            name, Verdict.FAILS, "a field that it needs is missing or malformed; the certificate was changed"
        )


def _leaf(document: Document) -> Finding:
    leaf, rows = document["leaf"], document["detections"]
    if leaf["algorithm"] != LEAF_FORMAT:
        raise LedgerError(f"leaves of {str(leaf['algorithm'])[:40]!r} need another release to be checked")
    if set(document) != {"format", "image", "detections", "leaf", "manifest", "chain"}:
        raise LedgerError("there are fields that no certificate has: nothing vouches for them")
    if leaves.LEFT_OUT[0] in document["image"]:
        raise LedgerError("the image row says its place, which the proof alone can say")
    if set(leaf) != {"algorithm", "hash", "salt", "index", "proof"}:
        raise LedgerError("there are fields that no leaf has: nothing vouches for them")
    for row in (document["image"], *rows):
        _check_written(row)
    _check_hex(leaf["salt"])
    made = leaves.leaf_of(document["image"], rows, bytes.fromhex(leaf["salt"]))
    return _judge(
        "leaf", made.hex() == leaf["hash"], f"the image row and its {len(rows)} detections are those of the leaf",
        "the image row, its detections or the salt are not those of the leaf",
    )  # fmt: skip


def _check_written(row: Mapping[str, Any]) -> None:
    """A leaf is made of values, not of how they are written: so there must be one way only (``leaves.to_json``)."""
    for name, value in row.items():
        with suppress(ValueError):  # no number at all: the leaf says so
            small = name in NUMBERS and isinstance(value, str) and abs(float(value)) < leaves.EXACT
            if small or value is None or isinstance(value, bool):
                raise LedgerError(f"{name[:40]!r} is written in another way than certificates are")


def _check_hex(text: str) -> None:
    if text != bytes.fromhex(text).hex():
        raise LedgerError("a hash or salt is written in another way than certificates are")


def _proof(document: Document) -> Finding:
    leaf, said = document["leaf"], document["manifest"]["tree"]
    if said["algorithm"] != tree.ALGORITHM:
        raise LedgerError(f"a tree of {str(said['algorithm'])[:40]!r} needs another release to be checked")
    if type(leaf["index"]) is not int:
        raise LedgerError("the index of the leaf is no number")
    for step in leaf["proof"]:
        _check_hex(step)
    steps = [bytes.fromhex(step) for step in leaf["proof"]]
    root = tree.root_from_proof(bytes.fromhex(leaf["hash"]), leaf["index"], said["size"], steps)
    return _judge(
        "proof", root.hex() == said["root"], f"the leaf is number {leaf['index']} of {said['size']} in the manifest's tree",
        "leaf, index and proof do not lead to the root that the manifest names",
    )  # fmt: skip


def _run(document: Document) -> Finding:
    manifest, row = document["manifest"], document["manifest"]["run"]
    if manifest["format"] != MANIFEST_FORMAT:
        raise LedgerError(f"a manifest of {str(manifest['format'])[:40]!r} needs another release to be checked")
    names = [(said["run_key"], said["generation"]) for said in (manifest, row, document["image"], document["chain"])]
    recipes = {row["recipe_hash"], manifest["recipe_hash"]}
    return _judge(
        "run", all(name == names[0] for name in names) and len(recipes) == 1,
        f"rows, manifest and chain entry are of run {names[0][0]}, generation {names[0][1]}",
        "rows, manifest and chain entry are not of the same run",
    )  # fmt: skip


def _counts(document: Document) -> Finding:
    manifest, image = document["manifest"], document["image"]
    counts = manifest["counts"]
    right = (
        counts["listed"] == sum(counts[status.value] for status in Status) == manifest["tree"]["size"]
        and all(manifest["run"][name] == count for name, count in counts.items())
        and document["chain"]["counts"] == counts
        and image["n_detections"] == len(document["detections"])
        and all(manifest["parts"][name]["rows"] == counts["listed"] for name in ("image", "leaf"))
    )
    return _judge(
        "counts", right, f"the run's {counts['listed']} images add up", "the counts of run or image do not add up"
    )


def _chain(document: Document) -> Finding:
    entry, manifest = document["chain"], document["manifest"]
    if (entry["format"], entry["kind"]) != (chain.FORMAT, chain.RUN):
        raise LedgerError("the chain entry is not that of a sealed run")
    return _judge(
        "chain", entry["manifest"]["sha256"] == sha256(canonical(manifest)) and entry["seq"] > manifest["previous"]["seq"],
        f"chain entry {entry['seq']} names this manifest", "the chain entry names another manifest",
    )  # fmt: skip


def _policy(document: Document) -> Finding:
    row = document["manifest"]["run"]
    found = hash_decisions(json.loads(row["policy_json"]))
    return _judge(
        "policy", found == row["policy_hash"] == document["manifest"]["policy_hash"],
        f"the policy in the run row has the policy hash {found[:16]}…", "the policy is not the one that was hashed",
    )  # fmt: skip


def _signature(name: str, document: Document, trusted: Mapping[str, PublicKey]) -> Finding:
    state = check(document, trusted)
    if state is Signature.VALID:
        return Finding(name, Verdict.HOLDS, f"signed by key {document['signer']['key_id']}, which you trust")
    if state is Signature.UNSIGNED:
        text = "not signed: whoever could write the audit could have made this up"
        return Finding(name, Verdict.FAILS if trusted else Verdict.OPEN, text)
    if state is Signature.UNKNOWN_KEY:
        signer = str(document["signer"]["key_id"])[:40]
        if trusted:
            return Finding(name, Verdict.FAILS, f"signed by key {signer}, which is none of the keys that you gave")
        return Finding(name, Verdict.OPEN, f"signed by key {signer}, unchecked; give --public-key")
    return Finding(name, Verdict.FAILS, "the signature is wrong: what it signs was changed")


def _image(document: Document, image_sha256: str | None) -> Finding:
    row = document["image"]
    if row["status"] != Status.PUBLISHED or not row.get("output_sha256"):
        text = f"nothing was published by this run: the image is {row['status']} ({row.get('reason', 'no reason')})"
        return Finding("image", Verdict.FAILS if image_sha256 else Verdict.HOLDS, text)
    if image_sha256 is None:
        return Finding(
            "image", Verdict.OPEN, f"no file was compared; the published one has sha256 {row['output_sha256']}"
        )
    return _judge(
        "image", image_sha256 == row["output_sha256"], "the file is the published one, byte for byte",
        "the file is not the published one: its sha256 is another",
    )  # fmt: skip


def _judge(name: str, right: bool, holds: str, fails: str) -> Finding:
    return Finding(name, Verdict.HOLDS, holds) if right else Finding(name, Verdict.FAILS, fails)
