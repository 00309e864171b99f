"""The chain, link by link. Read tolerantly: a damaged entry is named and does not hide the ones after it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_facefog.audit import chain
from airflow_facefog.audit.chain import Entry, Head, entry_key
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.sealed import LedgerError, Signature, read_sealed, sha256
from airflow_facefog.audit.verifying.findings import Code, Findings
from airflow_facefog.audit.verifying.trust import Trust, judge

_NAME = re.compile(r"chain/([0-9]{10})\.json")


@dataclass(frozen=True, slots=True)
class Link:
    """What lies under one number: ``entry`` None when it cannot be read, ``sha256`` None when it went meanwhile."""

    seq: int
    sha256: str | None
    entry: Entry | None = field(default=None, repr=False)
    signature: Signature | None = None


@dataclass(frozen=True, slots=True)
class Links:
    """The chain as found: number → link, in order; missing numbers are absent."""

    found: Mapping[int, Link] = field(repr=False)

    @property
    def entries(self) -> list[Entry]:
        """Those that can be read, in order."""
        return [link.entry for link in self.found.values() if link.entry is not None]

    @property
    def head(self) -> Head:
        """The newest number and the hash of its bytes."""
        newest = max(self.found, default=0)
        return Head(newest, self.found[newest].sha256) if newest else chain.START

    @property
    def signed(self) -> str:
        """``all``, ``some`` or ``none`` of the entries hold under a trusted key."""
        valid = sum(link.signature is Signature.VALID for link in self.found.values())
        return "none" if not valid else "all" if valid == len(self.found) else "some"

    @property
    def damaged(self) -> bool:
        """Whether an entry is missing or cannot be read: it may be the one that is looked for."""
        return len(self.found) < self.head.seq or any(link.entry is None for link in self.found.values())

    @property
    def any_signed(self) -> bool:
        """Whether any entry claims a signature, trusted or not."""
        return any(link.entry is not None and link.entry.document.get("signed") is True for link in self.found.values())


def read_links(audit: Objects, trust: Trust, pool: Executor, findings: Findings) -> Links:
    """Read every entry and check signatures. Names entries that are missing or damaged, and foreign files."""
    names = audit.list("chain")
    for name in names:
        if not _NAME.fullmatch(name) or int(_NAME.fullmatch(name)[1]) == 0:  # type: ignore[index]
            findings.add(Code.FOREIGN_FILE, name, "this is no chain entry; nothing of facefog writes here")
    numbers = {int(match[1]) for name in names if (match := _NAME.fullmatch(name))} - {0}
    newest = max(numbers, default=0)
    while audit.exists(entry_key(newest + 1)):  # written since the listing
        newest += 1
        numbers.add(newest)
    _name_gaps(sorted(numbers), findings)
    found = pool.map(lambda seq: _read(audit, seq, trust, findings), sorted(numbers))
    return Links({link.seq: link for link in found})


def _name_gaps(numbers: Sequence[int], findings: Findings) -> None:
    """One finding for each stretch of missing numbers: a single far number must not cost a look at all before it."""
    for before, after in zip([0, *numbers], numbers, strict=False):
        if after > before + 1:
            which = f"number {after - 1} is" if after == before + 2 else f"numbers {before + 1} to {after - 1} are"
            findings.add(Code.CHAIN_GAP, entry_key(before + 1), f"{which} missing below the newest: removed")


def check_links(links: Links, findings: Findings) -> None:
    """Hashes of the entries before, runs entered twice, unsigned after signed, clocks."""
    _check_previous(links, findings)
    _check_twice(links.entries, findings)
    _check_downgrade(links, findings)
    _check_clock(links.entries, findings)


def check_anchors(links: Links, anchors: Iterable[Head], findings: Findings) -> None:
    """What somebody wrote down elsewhere must be in the chain: only this shows that the newest entries were removed."""
    for anchor in anchors:
        link = links.found.get(anchor.seq)
        if anchor.seq > links.head.seq:
            findings.add(
                Code.CHAIN_TRUNCATED, entry_key(anchor.seq),
                f"the anchor names entry {anchor.seq}, and the chain ends at {links.head.seq}: the newest was removed",
            )  # fmt: skip
        elif anchor.seq and (link is None or link.sha256 != anchor.sha256):
            findings.add(
                Code.CHAIN_REWRITTEN, entry_key(anchor.seq),
                f"entry {anchor.seq} is not the one that the anchor names: the chain was written anew",
            )  # fmt: skip


def _read(audit: Objects, seq: int, trust: Trust, findings: Findings) -> Link:
    name = entry_key(seq)
    data = audit.get(name)
    if data is None:
        findings.add(Code.CHAIN_GAP, name, "this number is missing below the newest: an entry was removed")
        return Link(seq, None)
    try:
        document = read_sealed(data, chain.FORMAT)
        _check_shape(seq, document)
    except LedgerError as error:
        findings.add(Code.CHAIN_ENTRY_DAMAGED, name, str(error))
        return Link(seq, sha256(data))
    return Link(seq, sha256(data), Entry(seq, sha256(data), document), judge(name, document, trust, findings))


_FIELDS: Mapping[str, Mapping[str, type]] = {
    chain.RUN: {"manifest": dict, "counts": dict},
    chain.AMENDMENT: {"parts": dict, "request_id": str},
}


def _check_shape(seq: int, document: Mapping[str, Any]) -> None:
    """Everything that a reader of an entry relies on is there and of its type. Raises LedgerError."""
    kind = document.get("kind")
    wanted = {"seq": int, "run_key": str, "generation": int, "at": str, **_FIELDS.get(str(kind), {})}
    wrong = [name for name, type_ in wanted.items() if type(document.get(name)) is not type_]
    if kind not in _FIELDS or document.get("seq") != seq:
        wrong = ["kind" if kind not in _FIELDS else "seq"]
    if kind == chain.AMENDMENT and not wrong:
        wrong = [name for name, part in document["parts"].items() if not _is_part(part)]
    if not wrong and kind == chain.RUN and not _is_run_part(document):
        wrong = ["run_part"]
    if wrong:
        raise LedgerError(f"the entry does not say what an entry says ({wrong[0][:40]!r}); it was replaced")


def _is_run_part(document: Mapping[str, Any]) -> bool:
    """Entries of older releases, and those of ``facefog audit seal``, do not name the run's row."""
    if "run_part" not in document:
        return True
    part, key = document["run_part"], f"runs/{document['run_key']}/{document['generation']}/run.parquet"
    return isinstance(part, dict) and part.get("key") == key and type(part.get("sha256")) is str


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict) or not isinstance(part.get("replaces"), str):
        return False
    kinds = (type(None), type(None)) if part.get("key") is None else (str, str)
    return (type(part.get("key")), type(part.get("sha256"))) == kinds and type(part.get("rows")) is int


def _check_previous(links: Links, findings: Findings) -> None:
    for seq, link in links.found.items():
        earlier = links.found.get(seq - 1)
        before = earlier.sha256 if earlier else None
        if link.entry is None or (seq > 1 and before is None):
            continue
        if link.entry.document.get("previous") != before:
            blamed = seq if seq == 1 or link.signature is Signature.INVALID else seq - 1
            detail = f"entry {seq} names another hash for the entry before it; one of the two was changed"
            findings.add(Code.CHAIN_LINK_BROKEN, entry_key(blamed), detail)


def _check_twice(entries: Sequence[Entry], findings: Findings) -> None:
    """A run is entered once, and so is each change of its parts (one request may change a run several times)."""
    first: dict[tuple[Any, ...], int] = {}
    for entry in entries:
        parts = entry.document.get("parts", {})
        what = (entry.kind, *entry.run, *sorted((name, part["replaces"]) for name, part in parts.items()))
        if (seq := first.setdefault(what, entry.seq)) != entry.seq:
            findings.add(Code.RUN_ENTERED_TWICE, entry_key(entry.seq), f"entry {seq} enters the same already")


def _check_downgrade(links: Links, findings: Findings) -> None:
    signed_at = 0
    for seq, link in links.found.items():
        if link.entry is None:
            continue
        if link.entry.document.get("signed") is True:
            signed_at = signed_at or seq
        elif signed_at:
            findings.add(
                Code.DOWNGRADED, entry_key(seq), f"unsigned, though the chain is signed from entry {signed_at} on"
            )


def _check_clock(entries: Sequence[Entry], findings: Findings) -> None:
    latest, at_seq = None, 0
    for entry in entries:
        moment = _moment(entry.at)
        if moment is None:
            findings.add(Code.CHAIN_ENTRY_DAMAGED, entry_key(entry.seq), "its time is no time; it was replaced")
        elif latest is not None and moment < latest:
            findings.add(
                Code.CLOCK_WENT_BACK, entry_key(entry.seq),
                f"its time {entry.at} is before that of entry {at_seq}; numbers and hashes, not clocks, give the order",
            )  # fmt: skip
        else:
            latest, at_seq = moment, entry.seq


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
