"""The chain: one sealed entry per sealed run or amendment, in put-if-absent files numbered without a gap.

``chain/<seq, 10 digits>.json`` from 1 on; each names the sha256 of the entry before it. Lock-free: a number is taken by
exclusive create, a loser reads the winner and takes the next number, so parallel runs and backfills need no lock. An entry
is appended only after every earlier one was read, so that nothing is entered twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.sealed import LedgerError, SigningKey, read_sealed, seal, sha256

FORMAT = "facefog-chain/1"
RUN = "run"
AMENDMENT = "amendment"

AT_ONCE = 32
"""Entries of an object store that are read at the same time."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One link. ``sha256`` is the hash of its bytes, which the next entry names; ``document`` is all it says."""

    seq: int
    sha256: str
    document: Mapping[str, Any] = field(repr=False)

    @property
    def kind(self) -> str:
        """``run`` or ``amendment``."""
        return str(self.document["kind"])

    @property
    def run(self) -> tuple[str, int]:
        """(run_key, generation) that it is about."""
        return str(self.document["run_key"]), int(self.document["generation"])

    @property
    def at(self) -> str:
        """When it was appended: UTC, ISO-8601, by the clock of the machine that did it."""
        return str(self.document["at"])

    @property
    def run_part(self) -> str | None:
        """The sha256 of the run's ``run.parquet``, when the entry names it (those of older releases do not)."""
        part = self.document.get("run_part")
        return part.get("sha256") if isinstance(part, Mapping) else None


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry, or ``seq`` 0 and no hash of an empty chain: what an anchor elsewhere remembers."""

    seq: int
    sha256: str | None

    def __str__(self) -> str:
        return f"{self.seq}:{self.sha256 or ''}"


START = Head(0, None)


def entry_key(seq: int) -> str:
    """Audit key of an entry."""
    return f"chain/{seq:010d}.json"


def read_entry(audit: Objects, seq: int) -> Entry | None:
    """One entry, or None when there is none. Raises LedgerError when it is damaged or says another number."""
    data = audit.get(entry_key(seq))
    if data is None:
        return None
    document = read_sealed(data, FORMAT)
    try:
        entry = Entry(seq, sha256(data), document)
        if document["seq"] != seq or entry.kind not in (RUN, AMENDMENT) or not all((entry.run, entry.at)):
            raise KeyError
    except (KeyError, TypeError, ValueError):
        raise LedgerError(f"chain entry {seq} does not say what an entry says; it was replaced") from None
    return entry


def read_entries(audit: Objects, after: int = 0) -> Iterator[Entry]:
    """Entries in order, from ``after`` + 1 until the first that is missing. Raises as ``read_entry``.

    In an object store more and more round trips overlap: a long chain is read ``AT_ONCE``, its end one by one.
    """
    if not audit.local:
        yield from _read_ahead(audit, after + 1)
        return
    seq = after + 1
    while (entry := read_entry(audit, seq)) is not None:
        yield entry
        seq += 1


def _read_ahead(audit: Objects, seq: int) -> Iterator[Entry]:
    ahead = 1
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="facefog-chain") as pool:
        while True:
            for future in [pool.submit(read_entry, audit, number) for number in range(seq, seq + ahead)]:
                entry = future.result()
                if entry is None:
                    return
                yield entry
            seq, ahead = seq + ahead, min(2 * ahead, AT_ONCE)


def read_head(audit: Objects) -> Head:
    """The newest entry. One listing, then probes of the following numbers. Raises as ``read_entry``."""
    names = [key.rpartition("/")[2].removesuffix(".json") for key in audit.list("chain")]
    newest = max((int(name) for name in names if name.isdigit()), default=0)
    found = read_entry(audit, newest) if newest else None
    for entry in read_entries(audit, newest):
        found = entry
    return Head(found.seq, found.sha256) if found else START


def check_holds(audit: Objects, head: Head) -> None:
    """Raise LedgerError unless the chain has this entry, with these bytes. ``START`` is always held."""
    entry = read_entry(audit, head.seq) if head.seq else None
    if head.seq and (entry is None or entry.sha256 != head.sha256):
        raise LedgerError(
            f"chain entry {head.seq} is missing or another one than a manifest names; restore the audit's chain/ folder"
        )


def append(
    audit: Objects, body: Mapping[str, Any], signer: SigningKey | None, *, after: Head = START,
    same: Callable[[Entry], bool],
) -> Entry:  # fmt: skip
    """Add an entry and return it, or return the entry that says the same already.

    ``body``: ``kind``, ``run_key``, ``generation`` and what the kind needs; ``same`` tells whether an entry is that one;
    it cannot be older than ``after``, from where every entry is read. Raises as ``read_entry``, and LedgerError when the
    chain does not hold ``after`` any more: a new entry would hide that the newest ones are gone.
    """
    check_holds(audit, after)
    head = after
    while True:
        for entry in read_entries(audit, head.seq):
            if same(entry):
                return entry
            head = Head(entry.seq, entry.sha256)
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        document = {**body, "format": FORMAT, "seq": head.seq + 1, "previous": head.sha256, "at": at}
        data = seal(document, signer)
        if audit.create(entry_key(head.seq + 1), data) or audit.get(entry_key(head.seq + 1)) == data:
            return Entry(head.seq + 1, sha256(data), read_sealed(data, FORMAT))
