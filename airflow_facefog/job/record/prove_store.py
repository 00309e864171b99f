"""Prove what a store holds: open places and keys, verify the record first, then hold every object against it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.keys import NO_KEY
from airflow_facefog.core.policy import Limits
from airflow_facefog.core.raw import sealed
from airflow_facefog.job.model import Place, RootOpener, open_root_plain
from airflow_facefog.job.plan import open_store

if TYPE_CHECKING:
    from airflow_facefog.audit.ledger import Ledger
    from airflow_facefog.core.keys import KeyRing


@dataclass(frozen=True, slots=True)
class ProveRequest:
    """What to prove against which audit.

    ``ignore``: globs of keys that are left out and counted; ``*`` also matches ``/``. ``public_keys`` (PEM texts),
    ``heads`` ("seq:sha256") and ``require_signed`` as for ``verify_audit``. ``workers``: threads, None for the CPUs that
    may be used.
    """

    store: Place
    audit: Place
    ignore: Sequence[str] = ()
    public_keys: Sequence[str] = ()
    heads: Sequence[str] = ()
    require_signed: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        """A text is a sequence of its characters: one ``*`` among them would leave out everything."""
        for name in ("ignore", "public_keys", "heads"):
            if isinstance(getattr(self, name), str):
                raise ConfigurationError(f"{name} is one text; give a list of them")


@dataclass(frozen=True, slots=True)
class ProofReport:
    """``document``: the JSON report; ``parquet``: one row per object; both hold keys, so neither is printed."""

    document: dict[str, Any] = field(repr=False)
    parquet: bytes = field(repr=False)

    @property
    def clean(self) -> bool:
        """Whether every object is proven or ours, nothing is missing, and the record verifies."""
        return bool(self.document["clean"])

    @property
    def summary(self) -> dict[str, Any]:
        """Counts only."""
        from airflow_facefog.publish.prove.report import summary

        return summary(self.document)

    def html(self) -> str:
        """The report as one self-contained page."""
        from airflow_facefog.publish.prove.page import render

        return render(self.document)


@sealed
def prove_store(request: ProveRequest, *, keys: KeyRing | None, open_root: RootOpener = open_root_plain) -> ProofReport:
    """Prove; nothing is written. ``keys``: the master key's ring; None leaves raw images unrecognised by their bytes.

    Raises ConfigurationError (a place that is not there, a key that is not the runs'), LedgerError (the audit is damaged
    beyond reading), StoreError (a store is down).
    """
    from datetime import UTC, datetime

    from airflow_facefog import __version__
    from airflow_facefog.audit.ledger import open_ledger
    from airflow_facefog.job.machine import calm_process, usable_cpus
    from airflow_facefog.publish.prove.proof import Settings, prove
    from airflow_facefog.publish.prove.report import About, document

    started, at = perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    _check_there(request.store)
    calm_process()  # raw pictures may be decoded: no core dump
    verified = _verify(request, open_root)
    audit = open_store(request.audit, open_root)
    ledger = open_ledger(audit)
    raw_check = _check_key(ledger, keys)
    workers = request.workers or usable_cpus()
    settings = Settings(
        request.store.uri.rstrip("/"), keys, tuple(request.ignore), _limits(ledger), workers, request.require_signed
    )  # fmt: skip
    proof = prove(
        open_store(request.store, open_root), audit, lambda: open_ledger(audit), settings,
        lambda uri: open_store(_home(uri, request.store), open_root),
    )  # fmt: skip
    head = _head(proof.ledger)
    if (head, len(proof.ledger.runs)) != (
        verified["head"],
        verified["runs"],
    ):  # what was recorded meanwhile proves, too
        verified = _verify(request, open_root, head)
    parquet = proof.tally.parquet()
    about = About(
        request.store.uri, request.audit.uri, verified, __version__, at, raw_check, request.ignore,
        round(perf_counter() - started, 3),
    )  # fmt: skip
    return ProofReport(document(proof, about), parquet)


def _verify(request: ProveRequest, open_root: RootOpener, *used: str) -> dict[str, Any]:
    """``used``: the head of the record that the proof rests on, which must be in what is verified."""
    from airflow_facefog.job.record.verify_audit import VerifyRequest, verify_audit

    heads = (*request.heads, *(head for head in used if not head.startswith("0:")))
    asked = VerifyRequest(
        request.audit, request.public_keys, heads, request.require_signed, threads=request.workers
    )  # fmt: skip
    return verify_audit(asked, open_root=open_root)


def _head(ledger: Ledger) -> str:
    from airflow_facefog.audit.chain import START, Head

    newest = ledger.entries[-1] if ledger.entries else None
    return str(Head(newest.seq, newest.sha256) if newest else START)


def _check_there(store: Place) -> None:
    if store.is_local and not Path(store.local_path).is_dir():
        raise ConfigurationError("there is no such folder to prove; a wrong path must not look proven")


def _home(uri: str, store: Place) -> Place:
    """A recorded destination, opened with the rights that open the store: a copy usually lies beside it."""
    return Place(uri, None if uri.startswith("file://") else store.conn_id)


def _limits(ledger: Ledger) -> Limits:
    """The largest pictures that any run was allowed to read, at least the default: a raw copy is as large as its source."""
    found = [json.loads(run.row["policy_json"])["limits"] for run in ledger.runs] + [Limits().model_dump()]
    return Limits(**{name: max(limits[name] for limits in found) for name in Limits.model_fields})


def _check_key(ledger: Ledger, keys: KeyRing | None) -> str:
    """Say how raw images can be recognised by their bytes. Raises ConfigurationError for a key of no run."""
    used = sorted({str(run.row["key_id"]) for run in ledger.runs} - {NO_KEY})
    if not used:
        return "by plain sha256: the runs had no master key"
    if keys is None or not keys.keyed:
        return f"not possible: the runs were made with master key {', '.join(used)}, and none was given"
    if keys.key_id not in used:
        raise ConfigurationError(
            f"the master key given is {keys.key_id}, the runs of this audit were made with {', '.join(used)}; give that "
            "key (FACEFOG_KEY_FILE), or none (--no-key): then raw images are not recognised by their bytes"
        )
    others = [key_id for key_id in used if key_id != keys.key_id]
    return f"by HMAC under master key {keys.key_id}" + (f"; not for runs under {', '.join(others)}" if others else "")
