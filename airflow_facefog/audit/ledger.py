"""The ledger: every sealed run of an audit and the parts that hold its rows now, amendments applied. Reads, never judges.

``audit.verify`` judges. A run that was sealed but is not in the chain (an older release, or a crash in between) has no
``seq``; finalising it again or ``facefog audit seal`` appends it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from airflow_facefog.audit import chain
from airflow_facefog.audit.chain import Entry, Head
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.sealed import LedgerError, sha256

MANIFESTS = ("facefog-manifest/1", "facefog-manifest/2")


@dataclass(frozen=True, slots=True)
class LedgerPart:
    """One Parquet file of a sealed run. ``key`` relative to the audit; ``bytes``: its size, None in old manifests."""

    name: str
    key: str
    sha256: str
    rows: int
    bytes: int | None = None

    @classmethod
    def from_json(cls, name: str, data: Mapping[str, Any]) -> LedgerPart:
        """Read a manifest's or an amendment's entry. Raises LedgerError when a field is missing."""
        try:
            return cls(name, data["key"], data["sha256"], data["rows"], data.get("bytes"))
        except (KeyError, TypeError):
            raise LedgerError(f"a manifest does not say where part {name!r} is; it was damaged") from None


@dataclass(frozen=True, slots=True)
class SealedRun:
    """A sealed generation of a run.

    ``parts``: name (``image``, ``detection``, ``intent``, ``leaf``) → the file that holds its rows now; a part that was
    expired is absent. ``seq``: its place in the chain. ``amendments``: what changed it, in order.
    """

    run_key: str
    generation: int
    manifest_key: str
    manifest_sha256: str
    manifest: Mapping[str, Any] = field(repr=False)
    parts: Mapping[str, LedgerPart] = field(repr=False)
    seq: int | None = None
    amendments: tuple[Entry, ...] = field(default=(), repr=False)

    @property
    def home(self) -> str:
        """``<run_key>/<generation>``."""
        return f"{self.run_key}/{self.generation}"

    @property
    def row_key(self) -> str:
        """Audit key of ``run.parquet``, the row of ``facefog_run`` for readers of Parquet."""
        return f"runs/{self.home}/run.parquet"

    @property
    def sealed_after(self) -> Head:
        """The newest chain entry when it was sealed: what is about it comes later. ``START`` for older releases."""
        try:
            said = self.manifest.get("previous") or {"seq": 0, "sha256": None}
            return Head(int(said["seq"]), said["sha256"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LedgerError(f"{self.manifest_key} does not say what it was sealed after; it was damaged") from None

    @property
    def row(self) -> dict[str, Any]:
        """The row of ``facefog_run``, with the URI left to the reader (a copied audit lies elsewhere)."""
        return {**self.manifest["run"], "manifest_sha256": self.manifest_sha256}


@dataclass(frozen=True, slots=True)
class Ledger:
    """Chain entries and sealed runs: those of the chain in its order, then those outside of it by manifest key."""

    entries: tuple[Entry, ...] = field(repr=False)
    runs: tuple[SealedRun, ...] = field(repr=False)

    def find(self, run_key: str, generation: int) -> SealedRun | None:
        """The sealed run of this name."""
        return next((run for run in self.runs if (run.run_key, run.generation) == (run_key, generation)), None)


def open_ledger(audit: Objects) -> Ledger:
    """Read chain and manifests. An empty audit has an empty ledger. Raises LedgerError when one cannot be read.

    Nothing is verified, but a run whose manifest the chain names with another hash is refused.
    """
    entries = tuple(chain.read_entries(audit))
    seqs = {entry.document["manifest"]["key"]: entry for entry in entries if entry.kind == chain.RUN}
    found = _read_runs(audit, _manifest_keys(audit))
    runs = [_chained(run, seqs.get(run.manifest_key)) for run in found]
    runs.sort(key=lambda run: (run.seq is None, run.seq or 0, run.manifest_key))
    about: dict[tuple[str, int], list[Entry]] = {}
    for entry in entries:
        about.setdefault(entry.run, []).append(entry)
    return Ledger(entries, tuple(amend(run, about.get((run.run_key, run.generation), ())) for run in runs))


def manifest_key(run_key: str, generation: int) -> str:
    """Audit key of a run's manifest."""
    return f"runs/{run_key}/{generation}/manifest.json"


def find_run(audit: Objects, run_key: str, generation: int) -> SealedRun | None:
    """One sealed run with its amendments and its place in the chain, or None. Reads the chain from its sealing on.

    Raises as ``open_ledger``.
    """
    key = manifest_key(run_key, generation)
    if not audit.exists(key):
        return None
    run = read_run(audit, key)
    entries = tuple(chain.read_entries(audit, run.sealed_after.seq))
    own = [e for e in entries if e.kind == chain.RUN and e.document["manifest"]["key"] == key]
    return amend(_chained(run, own[0] if own else None), entries)


def read_part(audit: Objects, part: LedgerPart) -> bytes:
    """The bytes of a part. Raises LedgerError when they are gone or do not hash to what the record names."""
    data = audit.get(part.key)
    if data is None or sha256(data) != part.sha256:
        raise LedgerError(f"{part.key} is missing or does not hold the bytes that the audit names; restore the audit")
    return data


class CurrentParts:
    """Parts of some sealed runs, for tasks that must not read the whole ledger: the chain is read only for changed runs.

    An amendment leaves its parts below ``runs/<home>/amended/`` or removes a part: only then it must be looked up.
    """

    def __init__(self, audit: Objects) -> None:
        self._audit = audit
        self._entries: tuple[int, tuple[Entry, ...]] | None = None

    def read(self, run_key: str, generation: int, name: str) -> bytes | None:
        """The rows of one part as they are now; None: they have expired. Raises LedgerError as ``read_part``."""
        run = read_run(self._audit, manifest_key(run_key, generation))
        part = run.parts.get(name)
        if part is None or self._audit.list(f"runs/{run.home}/amended") or not self._audit.exists(part.key):
            part = amend(run, self._since(run.sealed_after.seq)).parts.get(name)
        return None if part is None else read_part(self._audit, part)

    def _since(self, seq: int) -> tuple[Entry, ...]:
        if self._entries is None or self._entries[0] > seq:
            self._entries = seq, tuple(chain.read_entries(self._audit, seq))
        return self._entries[1]


def read_run(audit: Objects, manifest_key: str) -> SealedRun:
    """One run as its manifest says it. Raises LedgerError when that is missing or unreadable."""
    data = audit.get(manifest_key)
    try:
        manifest = json.loads(data or b"")
        if manifest["format"] not in MANIFESTS:
            raise KeyError(manifest["format"])
        parts = {name: LedgerPart.from_json(name, part) for name, part in manifest["parts"].items()}
        run_key, generation = manifest["run_key"], manifest["generation"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LedgerError(f"{manifest_key} is missing or not a manifest of this release; restore the audit") from None
    return SealedRun(run_key, generation, manifest_key, sha256(data or b""), manifest, parts)


def _read_runs(audit: Objects, keys: Sequence[str]) -> list[SealedRun]:
    """Manifests in order; in an object store the round trips overlap."""
    if audit.local:
        return [read_run(audit, key) for key in keys]
    with ThreadPoolExecutor(chain.AT_ONCE, thread_name_prefix="facefog-ledger") as pool:
        return list(pool.map(partial(read_run, audit), keys))


def amend(run: SealedRun, entries: Sequence[Entry]) -> SealedRun:
    """The run after every amendment about it."""
    about = tuple(e for e in entries if e.kind == chain.AMENDMENT and e.run == (run.run_key, run.generation))
    parts = dict(run.parts)
    for entry in about:
        for name, part in entry.document["parts"].items():
            if part["key"] is None:
                parts.pop(name, None)
            else:
                parts[name] = LedgerPart.from_json(name, part)
    return replace(run, parts=parts, amendments=about)


def _chained(run: SealedRun, entry: Entry | None) -> SealedRun:
    if entry is None:
        return run
    if entry.document["manifest"]["sha256"] != run.manifest_sha256:
        raise LedgerError(f"{run.manifest_key} is not the manifest that chain entry {entry.seq} names; it was changed")
    return replace(run, seq=entry.seq)


def _manifest_keys(audit: Objects) -> list[str]:
    return [key for key in audit.list("runs") if key.endswith("/manifest.json") and key.count("/") == 3]
