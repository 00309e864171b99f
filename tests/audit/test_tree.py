"""The Merkle tree: the RFC's shape, and proofs that hold for their leaf only."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_facefog.audit import tree
from airflow_facefog.audit.sealed import LedgerError

DATA = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
"""Published test vectors of Certificate Transparency: leaf data, and the root of the first 0 to 8 of them."""


def leaves(count: int) -> list[bytes]:
    """Distinct leaves."""
    return [hashlib.sha256(b"\0%d" % index).digest() for index in range(count)]


def defined(found: list[bytes]) -> bytes:
    """The root by the recursive definition of RFC 6962, section 2.1."""
    if len(found) < 2:
        return found[0] if found else hashlib.sha256(b"").digest()
    half = 1 << (len(found) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + defined(found[:half]) + defined(found[half:])).digest()


@pytest.mark.parametrize("size", range(9))
def test_known_roots(size: int) -> None:
    """Other implementations of RFC 6962 get the same roots."""
    found = [hashlib.sha256(b"\0" + bytes.fromhex(data)).digest() for data in DATA[:size]]
    assert tree.root(found).hex() == ROOTS[size]
    assert tree.root(b"".join(found)).hex() == ROOTS[size]


@pytest.mark.parametrize("size", [*range(18), 31, 33, 100, 127, 129])
def test_every_proof(size: int) -> None:
    """Every leaf of every size is proven, by a tree that is the RFC's definition."""
    found = leaves(size)
    root = tree.root(found)
    assert root == defined(found)
    for index, leaf in enumerate(found):
        assert tree.root_from_proof(leaf, index, size, tree.proof(found, index)) == root


@settings(max_examples=50)
@given(st.integers(2, 40), st.data())
def test_a_proof_is_for_its_leaf_only(size: int, data: st.DataObject) -> None:
    """Another leaf, index or step, or a step more or less, never leads to the root."""
    found = leaves(size)
    index, other = (data.draw(st.integers(0, size - 1)) for _ in range(2))
    steps = tree.proof(found, index)
    changed = data.draw(st.integers(0, len(steps) - 1))
    wrong = [
        (leaves(size + 1)[-1], index, steps),
        (found[index], index, [*steps[:changed], leaves(size + 1)[-1], *steps[changed + 1 :]]),
        (found[index], index, steps[:-1]),
        (found[index], index, [*steps, steps[0]]),
    ] + [(found[index], other, steps)] * (other != index)
    for leaf, position, proof in wrong:
        try:
            assert tree.root_from_proof(leaf, position, size, proof) != tree.root(found)
        except LedgerError:
            continue


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_no_such_leaf(index: int, size: int) -> None:
    """An index outside the tree is refused on both sides."""
    with pytest.raises(IndexError, match="there is no such leaf"):
        tree.proof(leaves(size), index)
    with pytest.raises(LedgerError, match="malformed"):
        tree.root_from_proof(leaves(1)[0], index, size, [])


@pytest.mark.parametrize("wrong", [b"x" * 33, [b"x" * 31, b"x" * 33]])
def test_leaves_have_32_bytes(wrong: bytes | list[bytes]) -> None:
    """Leaves of another size are refused, also when they add up."""
    with pytest.raises(ValueError, match="32"):
        tree.root(wrong)
