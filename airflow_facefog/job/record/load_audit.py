"""Load the Parquet audit into SQL: what the database does not have yet, as it is now. Loading again changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_facefog.audit.amendments import erasure_rows
from airflow_facefog.audit.ledger import Ledger, SealedRun, open_ledger
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.sealed_rows import egress_batches, failed_rows, part_batches, run_row
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.raw import sealed
from airflow_facefog.job.model import Place, RootOpener, open_root_plain
from airflow_facefog.job.places import open_existing

if TYPE_CHECKING:
    from airflow_facefog.audit.sql import SqlSink


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load did: runs written, runs that were there, rows written of sealed runs' images and detections."""

    loaded: int
    present: int
    images: int
    detections: int


@sealed
def load_audit(
    audit: Place, sink: SqlSink, *, open_root: RootOpener = open_root_plain, runs: Collection[str] | None = None,
    since: str | None = None, replace: bool = False,
) -> Loaded:  # fmt: skip
    """``load`` for an audit that is named by its place. Raises ConfigurationError also when nothing is there."""
    store = open_existing(audit, open_root)
    return load(store, open_ledger(store), sink, runs, since, replace=replace)


@sealed
def load(
    audit: Objects, ledger: Ledger, sink: SqlSink, runs: Collection[str] | None = None, since: str | None = None, *,
    replace: bool = False,
) -> Loaded:  # fmt: skip
    """Write every sealed run that SQL does not have, or has in a form from before an erasure or expiry.

    One transaction per run, in the chain's order; a crash leaves whole runs. ``runs``: only these run keys; ``since``:
    only runs listed at or after this moment (ISO-8601); ``replace``: write them anew also when they are there, which repairs
    rows that somebody changed. Without ``runs`` and ``since``, runs that failed and what left the house are brought up to
    date too. Sources are loaded until they expire. Raises ConfigurationError for a run key or moment that
    is none, LedgerError when a part is not what the audit names, StoreError and ConfigurationError as ``SqlSink``.
    """
    from airflow_facefog.audit.sql_forget import forget_sources

    now = datetime.now(UTC).isoformat()
    chosen = _chosen(ledger, runs, since)
    written = [run for run in chosen if _load_run(audit, run, sink, now, replace)]
    if runs is None and since is None:
        for row in failed_rows(audit):
            sink.write_run(row, (), ())
        sink.replace_egress(egress_batches(audit))
    forget_sources(sink, now)
    images, detections = (_rows(written, name) for name in ("image", "detection"))
    return Loaded(len(written), len(chosen) - len(written), images, detections)


def _chosen(ledger: Ledger, runs: Collection[str] | None, since: str | None) -> list[SealedRun]:
    if runs is not None:
        missing = sorted(set(runs) - {run.run_key for run in ledger.runs})
        if missing:
            raise ConfigurationError(f"no sealed run {missing[0][:64]!r} in this audit; look up its run_key")
    moment = None if since is None else _moment(since)
    return [
        run
        for run in ledger.runs
        if (runs is None or run.run_key in runs) and (moment is None or _moment(run.row["listed_at"]) >= moment)
    ]


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        raise ConfigurationError(
            f"{str(text)[:40]!r} is no moment; give a date or time such as 2026-05-01 or 2026-05-01T12:00:00+00:00"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _load_run(audit: Objects, run: SealedRun, sink: SqlSink, now: str, replace: bool) -> bool:
    row, erasures = run_row(audit, run), erasure_rows(run.amendments)
    if not replace and sink.has_run(row, erasures):
        return False
    image, detection, intent = (part_batches(audit, run, name) for name in ("image", "detection", "intent"))
    sources = _sources(audit, run, now)
    return sink.write_run(row, image, detection, intents=intent, sources=sources, erasures=erasures, replace=replace)


def _sources(audit: Objects, run: SealedRun, now: str) -> Iterator[Any]:
    """Rows of the restricted source table that may still be kept."""
    import pyarrow.compute as pc

    from airflow_facefog.audit.parquet import read_arrow

    data = audit.get(f"sources/{run.home}.parquet")
    if data is not None:
        found = read_arrow("facefog_source", data)
        yield found.filter(pc.greater_equal(found["expires_at"], now))


def _rows(runs: Collection[SealedRun], name: str) -> int:
    return sum(run.parts[name].rows for run in runs if name in run.parts)
