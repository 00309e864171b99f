"""Verification on hand-made chains: findings, anchors, keys, and audits with nothing in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from upath import UPath

from airflow_facefog.audit import chain
from airflow_facefog.audit.chain import Head
from airflow_facefog.audit.sealed import SigningKey
from airflow_facefog.audit.verify import Options, verify
from airflow_facefog.audit.verifying.findings import NOTICES, SHOWN_PER_CODE, Code, Findings, Level
from airflow_facefog.publish.store import Store

KEY = SigningKey.generate()
DOCS = Path(__file__).parents[2] / "docs" / "verify.md"


@pytest.fixture(params=["file", "memory"])
def audit(request, tmp_path):
    """An empty audit, on disk and elsewhere."""
    return Store(UPath(tmp_path) if request.param == "file" else UPath(f"memory://{tmp_path.name}"))


def add(audit, n, signer=KEY):
    """Append an entry of run ``n``."""
    body = {
        "kind": chain.RUN, "run_key": f"{n:032x}", "generation": 0, "counts": {},
        "manifest": {"key": f"runs/{n:032x}/0/manifest.json", "sha256": "0" * 64},
    }  # fmt: skip
    return chain.append(audit, body, signer, same=lambda entry: entry.run[0] == f"{n:032x}")


def codes(audit, **options):
    """What is found, without the manifests that these chains do not have."""
    report = verify(audit, Options(keys=(KEY.public,), **options)).to_json()
    return {(f["code"], f["object"]) for f in report["findings"] if f["code"] != "manifest_missing"}


def test_an_empty_audit_verifies_with_nothing_in_it(audit):
    """No run and no chain: nothing is wrong, and the report says that nothing was verified."""
    report = verify(audit).to_json()
    assert (report["verified"], report["entries"], report["runs"], report["signed"], report["trust"]) == (
        True, 0, 0, "none", "none",
    )  # fmt: skip
    assert [found["code"] for found in report["findings"]] == ["not_checked"]


def test_an_anchor_of_an_emptied_audit(audit):
    """All was removed, and somebody wrote the head down."""
    assert ("chain_truncated", "chain/0000000003.json") in codes(audit, anchors=(Head(3, "0" * 64),))


def test_anchors_of_every_entry_hold(audit):
    """An old head holds as well as the newest."""
    heads = [Head(entry.seq, entry.sha256) for entry in (add(audit, 1), add(audit, 2), add(audit, 3))]
    assert codes(audit, anchors=heads) == set()
    assert codes(audit, anchors=[Head(2, heads[0].sha256)]) == {("chain_rewritten", "chain/0000000002.json")}


def test_a_signed_chain_that_starts_unsigned(audit):
    """Signing may begin late; it may not end."""
    add(audit, 1, None)
    add(audit, 2)
    assert codes(audit) == {("unsigned", "chain/0000000001.json")}
    assert codes(audit, require_signed=True) == {("signature_required", "chain/0000000001.json")}
    add(audit, 3, None)
    assert ("downgraded", "chain/0000000003.json") in codes(audit)


def test_an_entry_that_was_exchanged_for_another_of_its_chain(audit):
    """Swapped numbers: both say another one."""
    first, second = (audit.read(chain.entry_key(add(audit, n).seq)) for n in (1, 2))
    audit.replace(chain.entry_key(1), second)
    audit.replace(chain.entry_key(2), first)
    assert codes(audit) == {("chain_entry_damaged", chain.entry_key(n)) for n in (1, 2)}


def test_a_middle_entry_of_an_unsigned_chain_that_was_edited(audit):
    """Without signatures the next entry tells."""
    for n in (1, 2, 3):
        add(audit, n, None)
    data = audit.read(chain.entry_key(2))
    audit.replace(chain.entry_key(2), data.replace(b'"at":"20', b'"at":"19'))
    assert ("chain_link_broken", chain.entry_key(2)) in codes(audit)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"\xff", b'{"format":"facefog-chain/1"}', b"9" * 5000, b"[" * 100_000]
)
def test_whatever_lies_in_an_entry_is_named(audit, data):
    """Not one of these is an exception."""
    add(audit, 1)
    audit.replace(chain.entry_key(1), data)
    assert ("chain_entry_damaged", chain.entry_key(1)) in codes(audit)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"format":"facefog-manifest/2"}', b"[" * 100_000])
def test_whatever_lies_in_a_manifest_is_named(audit, data):
    """Not one of these is an exception either."""
    key = f"runs/{1:032x}/0/manifest.json"
    audit.create(key, data)
    assert ("manifest_damaged", key) in codes(audit)


def test_key_files_are_held_against_their_names(audit):
    """A public key under another's name could make a forger look right."""
    add(audit, 1)
    audit.create(f"keys/{KEY.key_id}.pem", KEY.public.pem)
    other = SigningKey.generate().public
    audit.create(f"keys/{'0' * 16}.pem", other.pem)
    audit.create("keys/private.pem", KEY.pem)
    assert codes(audit) == {("key_damaged", f"keys/{'0' * 16}.pem"), ("key_damaged", "keys/private.pem")}


def test_findings_are_counted_beyond_what_is_kept():
    """A lost bucket fills neither memory nor screen, and no other code is crowded out."""
    findings = Findings()
    for n in range(3 * SHOWN_PER_CODE):
        findings.add(Code.OBJECT_MISSING, f"{n}", "gone")
    findings.add(Code.CHAIN_GAP, "chain/1", "gone")
    findings.add(Code.UNSIGNED, "chain/1", "so")
    assert (findings.count(Level.ERROR), findings.count(Level.NOTICE)) == (3 * SHOWN_PER_CODE + 1, 1)
    assert len(findings.kept) == SHOWN_PER_CODE + 2
    assert findings.kept[-1].code is Code.UNSIGNED


def test_the_docs_explain_every_code_at_its_level():
    """``docs/verify.md`` has one row for each code, and no other."""
    rows = re.findall(r"^\| `([a-z_]+)` \| (error|notice) \|", DOCS.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted((code.value, "notice" if code in NOTICES else "error") for code in Code)
