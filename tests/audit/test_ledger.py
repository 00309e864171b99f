"""Sealed documents, the chain and the ledger that reads them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from airflow_facefog.audit import chain, sealed
from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.audit.sealed import LedgerError, Signature, SigningKey
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.publish.store import Store

KEY = SigningKey.generate()
TRUST = {KEY.key_id: KEY.public}
BODY = {"format": "x/1", "n": 1, "name": "Zoë"}


@pytest.fixture
def audit(tmp_path):
    """An empty audit."""
    return Store(UPath(tmp_path))


def entry(n):
    """What a run says in the chain."""
    return {"kind": chain.RUN, "run_key": f"{n:032x}", "generation": 0, "manifest": {"key": f"runs/{n}", "sha256": "0"}}


def add(audit, n, signer=None):
    """Append run ``n``."""
    same = lambda found: found.run == (f"{n:032x}", 0)  # noqa: E731
    return chain.append(audit, entry(n), signer, same=same)


def test_a_sealed_document_is_canonical_and_says_whether_it_is_signed():
    """Equal content gives equal bytes, and an unsigned document says so."""
    assert sealed.seal(BODY, None) == sealed.seal(dict(reversed(BODY.items())), None)
    document = sealed.read_sealed(sealed.seal(BODY, None), "x/1")
    assert document["signed"] is False
    assert sealed.check(document, TRUST) is Signature.UNSIGNED


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) - 2, 2**53 + 2) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["a", "aa", "b", "\x7f", "é"]), inner),
    max_leaves=12,
)


@settings(max_examples=50)
@given(JSON_VALUES)
def test_canonical_bytes_are_those_of_rfc_8785(value):
    """Whichever way is taken: the same bytes as the reference, or refused as there."""
    try:
        wanted = rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:
        with pytest.raises(LedgerError, match="canonical"):
            sealed.canonical(value)
    else:
        assert sealed.canonical(value) == wanted


@pytest.mark.parametrize(
    "value", ["".join(map(chr, range(0x250))), {"z": [], "A": {}}, 2**53 - 1, [True, 1, None], "\ud800"]
)
def test_canonical_bytes_of_odd_values(value):
    """Control characters, order of names, the largest integer, half a surrogate pair."""
    try:
        wanted = rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError):
        with pytest.raises(LedgerError, match="canonical"):
            sealed.canonical(value)
    else:
        assert sealed.canonical(value) == wanted


def test_a_signature_holds_for_its_document_and_key_only():
    """Any edit, another key and a stripped signature are told apart."""
    document = sealed.read_sealed(sealed.seal(BODY, KEY), "x/1")
    assert sealed.check(document, TRUST) is Signature.VALID
    assert sealed.check(document, {}) is Signature.UNKNOWN_KEY
    assert sealed.check({**document, "n": 2}, TRUST) is Signature.INVALID
    assert sealed.check({**document, "format": "y/1"}, TRUST) is Signature.INVALID
    assert sealed.check({**document, "signed": False}, TRUST) is Signature.INVALID
    assert sealed.check({**document, "signature": "%"}, TRUST) is Signature.INVALID


def test_an_edit_that_is_not_canonical_is_refused():
    """White space alone shows that somebody edited the bytes."""
    data = json.dumps(json.loads(sealed.seal(BODY, KEY)), indent=1).encode()
    with pytest.raises(LedgerError, match="edited"):
        sealed.read_sealed(data, "x/1")
    with pytest.raises(LedgerError, match="format"):
        sealed.read_sealed(sealed.seal(BODY, None), "y/1")
    with pytest.raises(LedgerError, match="damaged"):
        sealed.read_sealed(b"\xff{", "x/1")


def test_keys_come_back_from_pem_and_a_private_key_is_no_public_one():
    """A PEM file round-trips, prints its id only, and the two kinds are not mixed up."""
    assert SigningKey.from_pem(KEY.pem).key_id == KEY.key_id
    assert sealed.PublicKey.from_pem(KEY.public.pem).key_id == KEY.key_id
    assert "PRIVATE" not in repr(KEY)
    for wrong in (KEY.pem, b"", b"nonsense"):
        with pytest.raises(ConfigurationError, match="public key"):
            sealed.PublicKey.from_pem(wrong)


def test_the_chain_numbers_entries_without_a_gap_and_links_them(audit):
    """Each entry names the hash of the one before."""
    first, second = add(audit, 1), add(audit, 2, KEY)
    assert (first.seq, second.seq) == (1, 2)
    assert second.document["previous"] == first.sha256
    assert str(chain.read_head(audit)) == f"2:{second.sha256}"


def test_appending_again_returns_the_entry_that_is_there(audit):
    """A retry after a crash adds nothing, also when others have appended since."""
    first = add(audit, 1)
    add(audit, 2)
    assert add(audit, 1) == first
    assert len(list(chain.read_entries(audit))) == 2


def test_parallel_writers_share_one_chain(audit):
    """Eight writers of sixteen runs, each run twice: sixteen linked entries, none lost, none twice."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add(audit, n % 16), range(32)))
    entries = list(chain.read_entries(audit))
    assert sorted(e.run for e in entries) == [(f"{n:032x}", 0) for n in range(16)]
    assert [e.document["previous"] for e in entries] == [None, *(e.sha256 for e in entries[:-1])]


@pytest.mark.parametrize("entries", [0, 1, 2, 3, 7, 8, 70])
def test_an_object_store_is_read_ahead_and_in_order(tmp_path, entries):
    """Whatever the number of entries: each once, in order, up to the first gap, and many round trips at a time."""
    remote = Store(UPath(f"memory://chain-{tmp_path.name}-{entries}"))
    for n in range(entries):
        add(remote, n)
    assert [entry.seq for entry in chain.read_entries(remote)] == list(range(1, entries + 1))
    assert [entry.seq for entry in chain.read_entries(remote, 2)] == list(range(3, entries + 1))
    if entries == 70:
        remote.delete(chain.entry_key(40))
        remote.replace(chain.entry_key(45), b"damaged, beyond the gap")
        assert len(list(chain.read_entries(remote))) == 39
        remote.replace(chain.entry_key(40), b"damaged")
        with pytest.raises(LedgerError):
            list(chain.read_entries(remote))


def test_a_damaged_entry_is_named(audit):
    """Reading stops at the entry that is not what it says."""
    add(audit, 1)
    audit.replace(chain.entry_key(1), b"{}")
    with pytest.raises(LedgerError):
        chain.read_head(audit)
    audit.replace(chain.entry_key(1), sealed.seal({**entry(1), "format": chain.FORMAT, "seq": 7, "at": "x"}, None))
    with pytest.raises(LedgerError, match="entry 1"):
        chain.read_head(audit)


def test_an_empty_audit_has_an_empty_ledger(audit):
    """Nothing there is nothing recorded, not an error."""
    assert open_ledger(audit).runs == ()
    assert chain.read_head(audit) == chain.START
