"""What one erasure is about, found before anything is changed and kept until everything is done.

The journal ``erasing/<request_id>.json`` holds it while the erasure runs: a call that died half way has already removed
traces by which the rest would be found. It is deleted last; one that is there says that a request must be repeated.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.job.model import Place, RootOpener
from airflow_facefog.job.plan import open_store
from airflow_facefog.job.record.runs import RunPlace, run_places
from airflow_facefog.job.record.trace import Subject, Trace, Wanted, trace

if TYPE_CHECKING:
    from airflow_facefog.audit.ledger import Ledger
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.publish.cutting import Targets
    from airflow_facefog.publish.erased import Row
    from airflow_facefog.publish.store import Store

FORMAT = "facefog-erasing/1"
OBJECTS = "data/"
"""Where published objects lie; nothing else is ever deleted as one."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What an unfinished call of the same request knew. ``objects``: destination → keys."""

    image_ids: frozenset[str] = field(default=frozenset(), repr=False)
    sources: frozenset[str] = field(default=frozenset(), repr=False)
    seen: frozenset[str] = field(default=frozenset(), repr=False)
    rows: frozenset[Row] = field(default=frozenset(), repr=False)
    objects: Mapping[str, frozenset[str]] = field(default_factory=dict, repr=False)
    raw: frozenset[tuple[str, str | None]] = field(default=frozenset(), repr=False)

    def to_json(self) -> bytes:
        """Bytes of the journal."""
        plain = {name: sorted(value, key=str) for name, value in asdict(self).items() if name != "objects"}
        objects = {uri: sorted(keys) for uri, keys in sorted(self.objects.items())}
        return json.dumps({"format": FORMAT, **plain, "objects": objects}).encode()

    @classmethod
    def read(cls, audit: Store, request_id: str) -> Journal:
        """The journal of a request; an empty one when there is none. Raises ConfigurationError when it is damaged."""
        data = audit.get(journal_key(request_id))
        if data is None:
            return cls()
        try:
            body = json.loads(data)
            texts = {name: frozenset(body[name]) for name in ("image_ids", "sources", "seen")}
            rows: Any = frozenset(map(tuple, body["rows"]))
            objects = {uri: frozenset(keys) for uri, keys in body["objects"].items()}
            return cls(**texts, rows=rows, objects=objects, raw=frozenset((uri, conn) for uri, conn in body["raw"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigurationError("the journal of this erasure is damaged; delete erasing/ and repeat it") from None


@dataclass(frozen=True, slots=True)
class Case:
    """An erasure: its trace, the places of all runs, and what the journal remembers."""

    request_id: str
    keys: KeyRing
    trace: Trace
    places: Mapping[str, RunPlace]
    journal: Journal = field(repr=False)
    ledger: Ledger = field(repr=False)

    @property
    def subject(self) -> Subject:
        """Pictures and sources, those that are gone already among them."""
        return self.trace.subject

    @property
    def targets(self) -> Targets:
        """What to take out of every dataset."""
        from airflow_facefog.publish.cutting import Targets

        rows = {(self.keys.item_id(row.source_ref), row.run.run_key, row.run.generation) for row in self.trace.rows}
        gone = self.subject.items.union(map(self.keys.item_id, self.trace.forgotten))
        return Targets(frozenset(rows) | self.journal.rows, gone)

    def datasets(self) -> dict[tuple[Place, str], None]:
        """Every (destination, dataset) that a run of this audit published into."""
        return {(place.destination, place.dataset): None for place in self.places.values()}

    def destinations(self) -> list[Place]:
        """Every destination once."""
        return list({place.destination: None for place in self.places.values()})

    def objects(self, destination: Place, dest: Store) -> set[str]:
        """Keys of the subject's published objects, also of attempts that died; not what other pictures share."""
        from airflow_facefog.publish.cutting import datasets, keys_of

        found = {row.output_key for row in self.trace.rows if row.run.destination == destination and row.output_key}
        found |= self.journal.objects.get(destination.uri, frozenset())
        for dataset in datasets(dest):
            found |= keys_of(dest, dataset, self.targets)
        shared = {key for uri, key in self.trace.shared_objects if uri == destination.uri}
        return {key for key in found if key.startswith(OBJECTS)} - shared


def open_case(
    audit: Store, wanted: Wanted, keys: KeyRing, request_id: str | None, ledger: Ledger
) -> Case:  # fmt: skip
    """Trace what is wanted and what an unfinished call of the same request knew. Changes nothing."""
    request_id = request_id or make_request_id(wanted, keys)
    journal = Journal.read(audit, request_id)
    known = Subject(journal.image_ids, journal.sources, journal.seen)
    found = trace(audit, ledger, wanted, keys, known)
    return Case(request_id, keys, found, run_places(audit, ledger), journal, ledger)


def keep_journal(audit: Store, case: Case, open_root: RootOpener, raw: frozenset[tuple[str, str | None]]) -> Case:
    """Write down what the case knows, before anything is changed."""
    objects = {place.uri: frozenset(case.objects(place, open_store(place, open_root))) for place in case.destinations()}
    subject = case.subject
    journal = Journal(
        subject.image_ids, subject.sources, subject.seen, case.targets.rows, objects, raw | case.journal.raw
    )
    audit.replace(journal_key(case.request_id), journal.to_json())
    return Case(case.request_id, case.keys, case.trace, case.places, journal, case.ledger)


def drop_journals(audit: Store, case: Case) -> None:
    """Delete the journal of a finished erasure, and those that nobody has to finish any more: of other requests about these
    very pictures that wanted no raw file deleted. They hold ids.
    """
    for key in audit.list("erasing"):
        with suppress(ConfigurationError):  # a damaged one is for a person to look at
            journal = Journal.read(audit, key.rpartition("/")[2].removesuffix(".json"))
            same = bool(journal.image_ids) and journal.image_ids <= case.subject.image_ids
            if same and not journal.raw and journal.sources <= case.subject.sources:
                audit.delete(key)
    audit.delete(journal_key(case.request_id))


def journal_key(request_id: str) -> str:
    """Audit key of a journal."""
    return f"erasing/{request_id}.json"


def make_request_id(wanted: Wanted, keys: KeyRing) -> str:
    """32 hex digits: the same question gives the same request, and with a master key says nothing about it."""
    data = "\0".join(["facefog/erasure/1", *wanted.tokens]).encode("utf-8", "surrogateescape")
    digest = hashlib.sha256(data).hexdigest() if keys.ids is None else hmac.digest(keys.ids, data, "sha256").hex()
    return digest[:32]


def describe(case: Case) -> list[dict[str, Any]]:
    """The trace for people: one line per row, no file name."""
    return [
        {
            "run_key": row.run.run_key, "generation": row.run.generation, "started_at": row.run.started,
            "sealed": row.run.sealed, "status": row.status, "destination": row.run.destination.uri,
            "dataset": row.run.dataset, "output_key": row.output_key, "image_id": row.image_id,
            "source_ref": row.source_ref,
        }
        for row in sorted(case.trace.rows, key=lambda row: (row.run.started, row.run.home, row.source_ref, row.status))
    ]  # fmt: skip
