"""Merkle tree over the leaves of a run: the shape and prefixes of RFC 6962, section 2.1, with SHA-256.

A node is sha256(0x01 || left || right); a level of odd length hands its last node up unchanged, which gives the RFC's
left-complete shape. Leaves come hashed (``audit.leaves``), 32 bytes each, as one buffer or a sequence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from airflow_facefog.audit.sealed import LedgerError

Leaves = bytes | Sequence[bytes]

HASH = 32
"""Bytes of a leaf, a node and the root."""

ALGORITHM = "rfc6962-sha256"
"""What manifests call this tree."""


def root(leaves: Leaves) -> bytes:
    """The root, 32 bytes. No leaves: sha256 of nothing; one leaf: itself. Raises ValueError for leaves of other sizes."""
    level = _buffer(leaves)
    if not level:
        return hashlib.sha256(b"").digest()
    while len(level) > HASH:
        level = _up(level)
    return level


def proof(leaves: Leaves, index: int) -> list[bytes]:
    """The siblings of leaf ``index`` (from 0) on its way up, lowest first; at most 64 for any tree.

    Raises IndexError when there is no such leaf, ValueError for leaves of other sizes.
    """
    level = _buffer(leaves)
    if not 0 <= index < len(level) // HASH:
        raise IndexError(f"leaf {index} of {len(level) // HASH}: there is no such leaf")
    steps = []
    while len(level) > HASH:
        sibling = (index ^ 1) * HASH
        if sibling < len(level):
            steps.append(level[sibling : sibling + HASH])
        level, index = _up(level), index // 2
    return steps


def root_from_proof(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root of the tree of ``size`` leaves that holds ``leaf`` at ``index``, if ``proof`` is right.

    Compare it with the root that is known. Raises LedgerError when index or proof do not fit a tree of this size.
    """
    if not 0 <= index < size or len(leaf) != HASH or any(len(step) != HASH for step in proof):
        raise LedgerError(f"no inclusion proof of leaf {index} of {size}: index or hashes are malformed")
    steps, node = iter(proof), leaf
    while size > 1:
        if index ^ 1 < size:
            sibling = next(steps, None)
            if sibling is None:
                raise LedgerError("an inclusion proof has too few steps for its tree")
            pair = sibling + node if index & 1 else node + sibling
            node = hashlib.sha256(b"\x01" + pair).digest()
        index, size = index // 2, (size + 1) // 2
    if next(steps, None) is not None:
        raise LedgerError("an inclusion proof has too many steps for its tree")
    return node


def _up(level: bytes) -> bytes:
    """The next level: pairs hashed, an odd last node as it is."""
    sha256 = hashlib.sha256
    pairs = len(level) // (2 * HASH) * 2 * HASH
    nodes = [sha256(b"\x01" + level[start : start + 2 * HASH]).digest() for start in range(0, pairs, 2 * HASH)]
    return b"".join(nodes) + level[pairs:]


def _buffer(leaves: Leaves) -> bytes:
    if not isinstance(leaves, bytes):
        if any(len(leaf) != HASH for leaf in leaves):
            raise ValueError(f"a leaf has not {HASH} bytes")
        leaves = b"".join(leaves)
    if len(leaves) % HASH:
        raise ValueError(f"{len(leaves)} bytes of leaves are no multiple of {HASH}")
    return leaves
