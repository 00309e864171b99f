"""The proof itself: what was recorded, what is there, and what that makes of every object."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from airflow_facefog.audit.chain import AMENDMENT
from airflow_facefog.audit.ledger import Ledger
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.tombstones import read_tombstones
from airflow_facefog.core.errors import FogError
from airflow_facefog.core.keys import NO_KEY, KeyRing
from airflow_facefog.core.policy import Limits
from airflow_facefog.publish.prove.absent import absent, strange_snapshots
from airflow_facefog.publish.prove.book import OTHER_KEY, Book, Proven
from airflow_facefog.publish.prove.index import Digests
from airflow_facefog.publish.prove.known import read_known
from airflow_facefog.publish.prove.model import Class, Finding, Found, Hashed
from airflow_facefog.publish.prove.raw_ids import RawIds
from airflow_facefog.publish.prove.records import Records, is_record
from airflow_facefog.publish.prove.regions import with_regions
from airflow_facefog.publish.prove.shown import FOLDER, Shown, read_shown
from airflow_facefog.publish.prove.strangers import MOST_COMPARED, Strangers, Suspect
from airflow_facefog.publish.prove.tally import Tally
from airflow_facefog.publish.prove.unsigned import note, objections
from airflow_facefog.publish.prove.walk import GONE, hash_all, read, walk
from airflow_facefog.publish.store import Store

OpenHome = Callable[[str], Store]
"""URI of a recorded destination → its store. A FogError means that it is not at hand."""


@dataclass(frozen=True, slots=True)
class Settings:
    """``keys``: None leaves raw images unrecognised by their bytes. ``ignore``: globs of keys, ``*`` also matches ``/``.

    ``limits``: larger objects are hashed, never decoded. ``workers``: threads. ``uri``: of the store, to know its own runs.
    ``require_signed``: intents outside of sealed runs prove nothing, since nobody signs them.
    """

    uri: str
    keys: KeyRing | None = None
    ignore: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    workers: int = 1
    require_signed: bool = False


@dataclass(frozen=True, slots=True)
class Proof:
    """What came out. ``own``: the store is a destination, so missing objects were looked for too.

    ``ledger``: the record that it was held against; ``notes``: what could not be looked at.
    """

    tally: Tally = field(repr=False)
    datasets: tuple[Shown, ...]
    ledger: Ledger = field(repr=False)
    notes: tuple[str, ...]
    own: bool


def prove(
    store: Store, audit: Objects, open_ledger: Callable[[], Ledger], settings: Settings, open_home: OpenHome
) -> Proof:
    """Put every object of ``store`` into one class. Nothing is written.

    Raises LedgerError when the audit is damaged, StoreError or ConfigurationError when the store cannot be read.
    """
    return _Proving(store, audit, open_ledger, settings, open_home).run()


class _Proving:
    def __init__(
        self, store: Store, audit: Objects, open_ledger: Callable[[], Ledger], settings: Settings, open_home: OpenHome
    ) -> None:
        self._store = store
        self._audit = audit
        self._open_ledger = open_ledger
        self._settings = settings
        self._open_home = open_home
        self._tally = Tally()
        self._notes: list[str] = []
        self._records: list[Hashed] = []
        self._unknown: list[Hashed] = []
        self._loose: list[Hashed] = []
        self._gone: list[str] = []
        self._homes: dict[str, Store | None] = {}
        self._shown = read_shown(store)  # before the record, and both before the walk: what is shown was recorded first
        self._ledger = open_ledger()
        self._own = bool(self._shown) or settings.uri in self._places()
        self._book = self._read_book(stray_intents=False)
        self._met, self._seen = (np.zeros(len(self._book.known), np.bool_) for _ in range(2))  # bytes; under their key
        self._elsewhere: dict[bytes, str] = {}

    def run(self) -> Proof:
        """Walk, hash, look up; then look again, with what was recorded meanwhile, at what is left."""
        for chunk in hash_all(self._store, self._wanted(), self._settings.workers):
            self._unknown += [item for item in chunk if not item.digest and item.problem != GONE]
            proven, rest = self._book.look_up([item for item in chunk if item.digest])
            self._met[proven.rows] = True
            self._seen[proven.rows[[detail != OTHER_KEY for detail in proven.details]]] = True
            self._prove(proven)
            for item in rest:
                (self._records if is_record(item.key) else self._unknown).append(item)
        there = {item.key for item in self._unknown}
        missing = list(absent(self._book, self._seen, there, self._elsewhere)) if self._own else []
        at_hand = self._book.known.outputs.digests[self._met]
        if self._unknown or self._records or self._loose:
            self._look_again()
        self._judge(self._judge_records(), at_hand)
        for finding in [*missing, *self._gaps()]:
            self._tally.add(finding)
        return Proof(self._tally, tuple(self._shown), self._ledger, tuple(self._notes), self._own)

    def _read_book(self, *, stray_intents: bool) -> Book:
        keys = self._settings.keys
        key_id = NO_KEY if keys is None else keys.key_id
        known = read_known(self._audit, self._ledger, key_id=key_id, stray_intents=stray_intents)
        elsewhere = [] if self._own else [item for uri in self._places() for item in self._shown_at(uri)]
        return Book(known, self._shown or elsewhere)

    def _places(self) -> list[str]:
        return sorted({str(run.row["destination"]).rstrip("/") for run in self._ledger.runs})

    def _shown_at(self, uri: str) -> list[Shown]:
        """Snapshots of a recorded destination, for a copy that has none."""
        try:
            place = self._home(uri)
            return [] if place is None else read_shown(place)
        except FogError:
            return []

    def _home(self, uri: str) -> Store | None:
        if uri not in self._homes:
            try:
                self._homes[uri] = self._open_home(uri)
            except FogError:
                self._homes[uri] = None
        return self._homes[uri]

    def _wanted(self) -> Iterator[Found]:
        for found in walk(self._store):
            if any(fnmatch.fnmatchcase(found.key, glob) for glob in self._settings.ignore):
                self._tally.add(Finding(found.key, Class.IGNORED, "left out on request", max(found.size, 0)))
            else:
                yield found

    def _prove(self, proven: Proven) -> None:
        for item, detail in zip(proven.items, proven.details, strict=True):
            if detail == OTHER_KEY:
                self._elsewhere.setdefault(item.digest, item.key)
        loose = self._book.known.loose[proven.rows]
        self._loose += proven.only(loose).items
        self._count(proven.only(~loose) if loose.any() else proven)

    def _count(self, proven: Proven) -> None:
        states, runs = self._book.states(proven.rows), self._book.runs(proven.rows)
        self._tally.proven(proven.items, states, runs, proven.details)

    def _look_again(self) -> None:
        """At what was recorded since, and at the intents of attempts that lost: few objects need it."""
        self._ledger = self._open_ledger()
        self._book = self._read_book(stray_intents=bool(self._unknown))
        proven, self._unknown = self._split(self._unknown)
        self._prove(proven)
        self._judge_loose()

    def _judge_loose(self) -> None:
        """What was known by a loose intent alone: sealed meanwhile, raw, or still without a signature."""
        proven, gone = self._split(self._loose)
        self._unknown += gone
        loose = self._book.known.loose[proven.rows]
        self._count(proven.only(~loose))
        left = proven.only(loose)
        found = objections(left, self._book.known, self._identity(), require_signed=self._settings.require_signed)
        for finding in filter(None, found):
            self._tally.add(finding)
        good = np.array([finding is None for finding in found], np.bool_)
        self._count(left.only(good))
        if good.any():
            self._notes.append(note(int(good.sum())))

    def _split(self, items: Sequence[Hashed]) -> tuple[Proven, list[Hashed]]:
        proven, rest = self._book.look_up([item for item in items if item.digest])
        return proven, rest + [item for item in items if not item.digest]

    def _judge_records(self) -> list[Suspect]:
        """Bookkeeping that is as it should be is counted; the rest is looked at like any object that is not."""
        runs = [(run.run_key, run.generation) for run in self._book.known.runs]
        runs += [(str(entry.document["request_id"]), 0) for entry in self._ledger.entries if entry.kind == AMENDMENT]
        wrong, self._gone = Records(self._read, runs, self._book.known).judge(self._records)
        wrong |= strange_snapshots(self._book.expected) if self._own else {}
        self._notes += [f"dataset {item.dataset}: {item.problem}" for item in self._shown if item.problem]
        for item in self._records:
            if item.key not in wrong:
                self._tally.add(Finding(item.key, Class.RECORD, "bookkeeping of facefog", item.size, item.digest))
        return [Suspect(item, wrong[item.key]) for item in self._records if item.key in wrong]

    def _judge(self, suspects: list[Suspect], at_hand: Digests) -> None:
        """Everything that is left: decoded, compared and put into its class."""
        for item in self._unknown:
            claim, other = self._book.claim(item)
            if other is None:
                suspects.append(Suspect(item, claim))
            else:
                self._tally.add(self._swapped(item, claim, other))
        if not suspects:
            return
        known = self._book.known
        rows = np.nonzero((known.width > 0) & (self._book.among(at_hand) | (not self._own)))[0].astype(np.int64)
        strangers = Strangers(
            known, self._identity(), self._read, self._fetch, lambda rows: with_regions(self._audit, known, rows),
            self._settings.limits, self._settings.workers,
        )  # fmt: skip
        for finding in strangers.judge(suspects, rows):
            self._tally.add(finding)
        if strangers.not_compared:
            self._notes.append(f"{strangers.not_compared} unknown pictures beyond {MOST_COMPARED} were not compared")

    def _identity(self) -> RawIds:
        keys = self._settings.keys or KeyRing.from_master(None)
        return RawIds(self._book.known, keys, read_tombstones(self._audit))

    def _swapped(self, item: Hashed, claim: str, row: int) -> Finding:
        run = self._book.known.run_of(row)
        return Finding(
            item.key, Class.TAMPERED, claim, item.size, item.digest, run_key=run.run_key, generation=run.generation,
            matched_sha256=item.digest.hex(), matched_key=self._book.known.key_of(row),
        )  # fmt: skip

    def _read(self, key: str) -> bytes | None:
        return read(self._store, key)

    def _fetch(self, row: int) -> bytes | None:
        """The bytes of a recorded object, from wherever they lie; never other ones."""
        known = self._book.known
        digest = known.outputs.digests[row].tobytes()
        data = self._read(self._elsewhere.get(digest, known.key_of(row)))
        sealed = known.run_of(row).sealed
        if (data is None or hashlib.sha256(data).digest() != digest) and sealed is not None and not self._own:
            place = self._home(str(sealed.row["destination"]).rstrip("/"))
            data = None if place is None else read(place, known.key_of(row))
        return data if data is not None and hashlib.sha256(data).digest() == digest else None

    def _gaps(self) -> Iterator[Finding]:
        """Snapshots that must have been there."""
        if self._own and not self._shown:
            yield Finding(f"{FOLDER}dataset.json", Class.MISSING, "runs published here, and no dataset is described")
        for key in self._gone:
            yield Finding(key, Class.MISSING, "bookkeeping: other bookkeeping here names it")
