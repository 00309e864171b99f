"""Look-ups among millions of recorded hashes and keys, in about 50 bytes each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Digests = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]

NONE = -1


class DigestIndex:
    """Finds the row of a 32-byte hash. ``digests``: (n, 32) uint8; equal hashes may have several rows."""

    def __init__(self, digests: Digests) -> None:
        self.digests = digests
        prefix = _prefix(digests)
        self._order = np.argsort(prefix, kind="stable").astype(np.int64)
        self._sorted = prefix[self._order]

    def __len__(self) -> int:
        return len(self.digests)

    def find(self, wanted: Digests) -> Rows:
        """The first row of each of (m, 32) hashes, or -1."""
        if not len(self.digests):
            return np.full(len(wanted), NONE, np.int64)
        prefix = _prefix(wanted)
        at = np.minimum(np.searchsorted(self._sorted, prefix), len(self._order) - 1)
        equal = (self.digests[self._order[at]] == wanted).all(axis=1)
        rows = np.where(equal, self._order[at], NONE)
        for row in np.nonzero(~equal & (self._sorted[at] == prefix))[0]:  # another hash with the same first 8 bytes
            rows[row] = next(iter(self.find_all(wanted[row])), NONE)
        return np.asarray(rows, np.int64)

    def find_all(self, wanted: Digests) -> list[int]:
        """Every row of one hash (32,), first rows first."""
        prefix = _prefix(wanted.reshape(1, 32))
        start, end = np.searchsorted(self._sorted, prefix, "left")[0], np.searchsorted(self._sorted, prefix, "right")[0]
        return [int(row) for row in self._order[start:end] if (self.digests[row] == wanted).all()]


class KeyIndex:
    """Finds the rows of a key. ``keys``: a ``pyarrow`` array of text."""

    def __init__(self, keys: Any) -> None:
        self._keys = keys
        hashes = np.fromiter((hash(key.as_py()) for key in keys), np.int64, len(keys))
        self._order = np.argsort(hashes, kind="stable").astype(np.int64)
        self._sorted = hashes[self._order]

    def find_all(self, key: str) -> list[int]:
        """Every row of this key."""
        start, end = (int(np.searchsorted(self._sorted, hash(key), side)) for side in ("left", "right"))
        return [int(row) for row in self._order[start:end] if self._keys[row].as_py() == key]


def from_hex(column: Any) -> Digests:
    """A ``pyarrow`` column of 64 hex digits, without gaps, as (n, 32) bytes. Raises ValueError for anything else."""
    return from_bytes(bytes.fromhex("".join(column.to_pylist())))


def from_bytes(joined: bytes) -> Digests:
    """Joined 32-byte hashes as (n, 32) uint8."""
    return np.frombuffer(joined, np.uint8).reshape(-1, 32)


def _prefix(digests: Digests) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(digests[:, :8]).view(">u8")[:, 0].astype(np.uint64)
