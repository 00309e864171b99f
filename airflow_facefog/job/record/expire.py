"""Retention: what is old leaves the audit, level by level; manifests, run rows and the chain stay.

Levels, from what names people to what counts: sources (URIs), work (what sealed runs left behind: names, rows of attempts,
predictions), refusals and cached predictions, detections, images. Sealed parts go by a chained amendment, entry first, then
the files; everything else is deleted as it is. Doing it again does what is left.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.raw import sealed
from airflow_facefog.job.model import Place, RootOpener, open_root_plain
from airflow_facefog.job.places import open_existing
from airflow_facefog.job.plan import SOURCE_RETENTION_DAYS
from airflow_facefog.job.record.ages import Ages, measure
from airflow_facefog.job.record.amending import amend_run, check_signer, unfinished
from airflow_facefog.job.record.erase_files import Edit, apply
from airflow_facefog.job.record.runs import RunPlace, run_places
from airflow_facefog.job.record.shown import shown_homes
from airflow_facefog.job.trace_rows import is_in

if TYPE_CHECKING:
    from airflow_facefog.audit.amendments import Amended, Cursor
    from airflow_facefog.audit.ledger import Ledger, SealedRun
    from airflow_facefog.audit.sealed import SigningKey
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.publish.store import Store

IMAGES = ("image", "detection", "intent", "leaf")
DETECTIONS = ("detection", "leaf")
"""Parts of a level. Salts go with the rows: they are there to prove rows, and could be used to guess them."""

TEMPORARY_S = 86_400
"""A temporary file of a writer that died; no write takes a day."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Days to keep each level, counted from the end of the run; None keeps it for good.

    ``sources`` None means what each row says (``expires_at``). ``unfinished`` takes the work of runs that are not sealed
    too: they can not be finished then. ``published`` takes image rows of pictures that a dataset still shows, too: what is
    published has no record then, and ``prove`` says so.
    """

    sources: float | None = None
    work: float | None = None
    detections: float | None = None
    images: float | None = None
    refusals: float | None = None
    predictions: float | None = None
    unfinished: bool = False
    published: bool = False

    @property
    def of_work(self) -> float | None:
        """Days to keep work: no longer than the rows that it holds copies of."""
        return min((days for days in (self.work, self.detections, self.images) if days is not None), default=None)

    def __post_init__(self) -> None:
        if any(isinstance(value, int | float) and value < 0 for value in asdict(self).values()):
            raise ConfigurationError("days to keep must be 0 or more")


@sealed
def expire_audit(
    audit: Place, retention: Retention, *, open_root: RootOpener = open_root_plain, signer: SigningKey | None = None,
    sql: SqlSink | None = None, actor: str | None = None, dry_run: bool = False, now: datetime | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Apply a retention to an audit. Returns counts: {"sources", "work", "refusals", "predictions", "temporary", "parts",
    "rows", "runs", "kept_published", "sql_rows", "from_the_future", "unfinished_erasures", "dry_run"}.

    Raises ConfigurationError (no audit there, a signed audit without a signing key), LedgerError (the chain is damaged),
    StoreError.
    """
    from airflow_facefog.audit.amendments import Cursor
    from airflow_facefog.audit.ledger import open_ledger

    store = open_existing(audit, open_root)
    ledger = open_ledger(store)
    places = run_places(store, ledger)
    ages = measure(ledger, places, now or datetime.now(UTC))
    expiry = _Expiry(store, ledger, places, ages, retention, _kept(ledger, places, ages, retention, open_root))
    total: Counter[str] = Counter(dict.fromkeys(("sources", "work", "refusals", "predictions", "parts", "rows"), 0))
    due = list(expiry.parts())
    if due and not dry_run:
        check_signer(ledger, signer)
    for level, count, edit in list(expiry.edits()):
        total[level] += count
        if not dry_run:
            apply(store, edit)
    cursor = Cursor.after(ledger)
    for run, names in due:
        total["parts"] += sum(name in run.parts for name in names)
        total["rows"] += sum(run.parts[name].rows for name in names if name in run.parts and name != "leaf")
        if not dry_run:
            _amend(store, cursor, run, names, actor, signer)
    result = {**total, "temporary": _temporary(store, ages.now, dry_run=dry_run), "runs": len(due)}
    result["kept_published"] = len(expiry.shown)
    if not dry_run:
        result["sql_rows"] = _finish(store, expiry, sql)
    late = sum(since > ages.now for since in ages.since.values())
    return {**result, "from_the_future": late, "unfinished_erasures": unfinished(store), "dry_run": dry_run}


def _kept(
    ledger: Ledger, places: dict[str, RunPlace], ages: Ages, keep: Retention, open_root: RootOpener
) -> frozenset[str]:  # fmt: skip
    """Runs whose image rows are old enough to go, and stay because a dataset shows what they published."""
    old = {run.home for run in ledger.runs if "image" in run.parts and ages.older(run.home, keep.images)}
    if not old or keep.published:
        return frozenset()
    datasets = {(places[home].destination.uri, places[home].dataset) for home in old}
    asked = [place for place in places.values() if (place.destination.uri, place.dataset) in datasets]
    return shown_homes(asked, open_root) & old


@dataclass(frozen=True, slots=True)
class _Expiry:
    """What is due now. ``shown``: runs whose image rows stay although they are old."""

    store: Store
    ledger: Ledger
    places: dict[str, RunPlace]
    ages: Ages
    keep: Retention
    shown: frozenset[str]

    def parts(self) -> Iterator[tuple[SealedRun, tuple[str, ...]]]:
        """Sealed runs and those of their parts that go."""
        for run in self.ledger.runs:
            images = self.ages.older(run.home, self.keep.images) and run.home not in self.shown
            names = IMAGES if images else DETECTIONS if self.ages.older(run.home, self.keep.detections) else ()
            found = tuple(name for name in names if name in run.parts)
            if found:
                yield run, found

    def edits(self) -> Iterator[tuple[str, int, Edit]]:
        """Level, what it counts, change."""
        for place in self.places.values():
            yield from self._sources(place)
            if (place.sealed or self.keep.unfinished) and self.ages.older(place.home, self.keep.of_work):
                folders = (f"plans/{place.home}/batches", *(f"{name}/{place.home}" for name in ("intents", "commits")))
                for folder in (*folders, f"predictions/{place.home}"):
                    yield from (("work", 1, Edit(key, None)) for key in self.store.list(folder))
        yield from self._refusals()
        yield from self._predictions()

    def _sources(self, place: RunPlace) -> Iterator[tuple[str, int, Edit]]:
        import pyarrow.compute as pc

        from airflow_facefog.audit.parquet import read_arrow, to_parquet

        key = f"sources/{place.home}.parquet"
        data = self.store.get(key)
        if data is None:
            return
        rows = read_arrow("facefog_source", data)
        due = [at for at in rows["expires_at"].unique().to_pylist() if self._source_is_due(place, at)]
        left = rows.filter(pc.invert(is_in(rows["expires_at"], due)))
        whole = place.sealed and not left.num_rows  # an open run would write the table anew
        if whole or due:
            edit = Edit(key, None if whole else to_parquet("facefog_source", left))
            yield "sources", rows.num_rows - left.num_rows, edit

    def _source_is_due(self, place: RunPlace, expires_at: str) -> bool:
        if self.keep.sources is not None:
            return self.ages.older(place.home, self.keep.sources)
        return self.ages.expired(place.home, expires_at)

    def _refusals(self) -> Iterator[tuple[str, int, Edit]]:
        for key in self.store.list("refusals"):
            home = "/".join(key.rpartition("/")[2].rsplit("-", 1))
            if home in self.ages.since and self.ages.older(home, self.keep.refusals):
                yield "refusals", 1, Edit(key, None)

    def _predictions(self) -> Iterator[tuple[str, int, Edit]]:
        """Cached predictions of pictures that no younger run met."""
        if self.keep.predictions is None:
            return
        used = self._met()
        for key in self.store.list("predictions/cache"):
            if key.rpartition("/")[2] not in used:
                yield "predictions", 1, Edit(key, None)

    def _met(self) -> set[str]:
        from airflow_facefog.audit.parquet import read_arrow

        young = [home for home in self.places if not self.ages.older(home, self.keep.predictions)]
        parts = [run.parts["image"].key for run in self.ledger.runs if run.home in young and "image" in run.parts]
        for home in young:
            if not self.places[home].sealed:
                parts += [key for key in self.store.list(f"intents/{home}") if key.endswith("/image.parquet")]
        found = (read_arrow("facefog_image", self.store.read(key), ("image_id",))["image_id"] for key in parts)
        return {image_id for column in found for image_id in column.unique().to_pylist() if image_id}


def _amend(
    store: Store, cursor: Cursor, run: SealedRun, names: tuple[str, ...], actor: str | None, signer: SigningKey | None
) -> None:
    """Chain the removal; ``sweep`` deletes."""
    from airflow_facefog.audit.amendments import Request, remove_parts

    text = "\0".join(("facefog/expiry/1", run.home, *names))
    request = Request(hashlib.sha256(text.encode()).hexdigest()[:32], "expiry", actor)

    def remove(at: Cursor, found: SealedRun) -> Amended | None:
        return remove_parts(store, at, found, request, names, signer)

    amend_run(store, cursor, run.run_key, run.generation, signer, remove, run)


def _finish(store: Store, expiry: _Expiry, sql: SqlSink | None) -> int:
    """Delete what amendments replaced, now or before; let SQL follow."""
    from airflow_facefog.audit import sql_forget
    from airflow_facefog.audit.amendments import ROWS, erasure_rows, sweep
    from airflow_facefog.audit.ledger import open_ledger

    ledger = open_ledger(store)
    sweep(store, ledger)
    if sql is None:
        return 0
    gone = [
        (name, run.run_key, run.generation)
        for run in ledger.runs
        for name in ROWS
        if name not in run.parts and name in run.manifest["parts"]
    ]
    done = sql_forget.forget_runs(sql, gone)
    drift = max(expiry.ages.drift.values(), default=timedelta(0))
    days = SOURCE_RETENTION_DAYS if expiry.keep.sources is None else expiry.keep.sources
    sooner = timedelta(days=SOURCE_RETENTION_DAYS - days)
    done += sql_forget.forget_sources(sql, (expiry.ages.now + sooner - drift).isoformat())
    sql_forget.record_erasures(sql, erasure_rows(ledger.entries))
    sql_forget.wipe(sql)
    return done


def _temporary(store: Store, now: datetime, *, dry_run: bool) -> int:
    """Files of writers that died, in a local audit. Their age is by the clock of the machine that holds them."""
    from airflow_facefog.publish.local_files import TEMP_PREFIX, TEMP_SUFFIX

    if not store.local:
        return 0
    found = 0
    before = min(now.timestamp(), time.time()) - TEMPORARY_S
    for folder, _, names in os.walk(store.uri().removeprefix("file://")):
        for name in names:
            path = os.path.join(folder, name)
            if name.startswith(TEMP_PREFIX) and name.endswith(TEMP_SUFFIX) and os.stat(path).st_mtime < before:
                found += 1
                if not dry_run:
                    os.unlink(path)
    return found
