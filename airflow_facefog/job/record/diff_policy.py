"""Which published images would another policy change? Replays the record; reads no pixel, runs no detector.

Looks at what consumers see now (``job.current``) and replays each image's recorded detections (``job.replay``). Detector,
key and package are taken to stay. What the record cannot decide is ``undecided`` and counts as to be fogged again: fail
closed. Images that were quarantined or failed are published by no policy's replay; they are not looked at.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError, PolicyError
from airflow_facefog.core.policy import FogPolicy, load_policy
from airflow_facefog.core.raw import sealed
from airflow_facefog.job.model import Place, RootOpener, open_root_plain
from airflow_facefog.job.places import open_existing
from airflow_facefog.job.plan import open_store
from airflow_facefog.job.record.current import Current, datasets, read_current
from airflow_facefog.job.record.replay import Doubt, Outcome, Verdict, replay

if TYPE_CHECKING:
    from airflow_facefog.audit.ledger import Ledger, SealedRun
    from airflow_facefog.audit.objects import Objects

Row = dict[str, Any]

COLUMNS = (
    "verdict", "reason", "newly_fogged", "no_longer_fogged", "other_method", "other_region", "unchanged", "source",
    "output_uri", "source_ref", "image_id", "run_key", "generation", "destination", "dataset",
)  # fmt: skip
"""Of each listed image. ``source``: ``known``, or ``unknown`` when the audit no longer says what its source_ref was."""

CLUSTERS = ("newly_fogged", "no_longer_fogged", "other_method", "other_region", "unchanged")
TOTALS = (*(f"images_{verdict}" for verdict in Verdict), *(f"clusters_{kind}" for kind in CLUSTERS))


@dataclass(frozen=True, slots=True)
class Difference:
    """``images``: one row (``COLUMNS``) for each image that is changed or undecided, by destination and output.

    ``totals``: ``TOTALS`` and ``unknown_sources``. ``sources``: the source URIs of these images,
    as far as they are known; ``roots``: the folders that were listed to find them.
    """

    images: list[Row] = field(repr=False)
    totals: dict[str, int]
    sources: tuple[str, ...] = field(repr=False)
    roots: tuple[str, ...] = field(repr=False)


@sealed
def diff_policy(
    audit: Place, new: FogPolicy, *, since: str | None = None, run_key: str | None = None,
    destination: str | None = None, dataset: str | None = None, clean: Place | None = None,
    open_root: RootOpener = open_root_plain,
) -> Difference:  # fmt: skip
    """Replay what is published now through ``new``.

    ``since``: images committed at or after this ISO-8601 moment (UTC) alone; ``run_key``: published by this run alone;
    ``destination``, ``dataset``: these alone; ``clean``: where the destination lies now, when it was moved. Raises
    ConfigurationError when nothing fits or a place cannot be read, LedgerError when the audit was changed.
    """
    from airflow_facefog.audit.ledger import open_ledger

    after = None if since is None else utc(since)
    store = open_existing(audit, open_root)
    ledger = open_ledger(store)
    images: list[Row] = []
    totals: Counter[str] = Counter(dict.fromkeys(TOTALS, 0))
    for place, name in _chosen(ledger, destination, dataset, clean):
        here = open_store(clean or Place(place), open_root)
        for current in read_current(store, ledger, here, name, run_keys=[run_key] if run_key else None):
            for row, outcome in _outcomes(store, current, new, after):
                totals[f"images_{outcome.verdict}"] += 1
                totals.update({f"clusters_{kind}": getattr(outcome, kind) for kind in CLUSTERS})
                if outcome.verdict is not Verdict.UNCHANGED:
                    images.append(_line(row, outcome, place, name))
    known = source_uris(store, {row["source_ref"] for row in images if row["source_ref"]})
    for row in images:
        row["source"] = "known" if row["source_ref"] in known else "unknown"
    images.sort(key=lambda row: (row["destination"], row["dataset"], row["output_uri"], row["source_ref"] or ""))
    unknown = sum(row["source"] == "unknown" for row in images)
    uris = tuple(sorted({known[row["source_ref"]] for row in images if row["source"] == "known"}))
    return Difference(images, {**totals, "unknown_sources": unknown}, uris, _roots(store, images))


def _chosen(ledger: Ledger, destination: str | None, dataset: str | None, clean: Place | None) -> list[tuple[str, str]]:
    """The (destination, dataset) to look at. An empty audit has none."""
    wanted = None if destination is None else Place.parse(destination).uri.rstrip("/")
    found = [
        (place, name) for place, name in datasets(ledger) if wanted in (None, place) and dataset in (None, name)
    ]  # fmt: skip
    if not found and (wanted or dataset):
        raise ConfigurationError("no sealed run of this audit published there; leave out --destination and --dataset")
    if clean is not None and len({place for place, _ in found}) > 1:
        raise ConfigurationError("this audit has several destinations; say by --destination which one was moved")
    return found


def _outcomes(store: Objects, current: Current, new: FogPolicy, after: str | None) -> Iterator[tuple[Row, Outcome]]:
    for row in current.unrecorded():
        known = {name: row[name] for name in ("run_key", "generation")}
        yield {**known, "source_ref": None, "image_id": None, "output_uri": row["uri"]}, _doubt(Doubt.NO_RECORD)
    if current.run is None:
        return
    run = current.run.row
    same = run["policy_hash"] == new.policy_hash()
    keyed, strange = run["key_id"] != "none", _strange_class(store, current.run, new)
    try:
        old = load_policy(json.loads(run["policy_json"]))
    except PolicyError:  # a later release refuses what an earlier one took
        old = None
    for image, rows in current.rows():
        if after is not None and _moment(image["committed_at"]) < after:
            continue
        lost = current.detections is None or image["n_detections"] != len(rows)
        if same and (lost or old is None):
            yield image, Outcome()  # the recipe that made it: there is nothing to replay
        elif lost or old is None:
            yield image, _doubt(Doubt.ROWS_MISSING if lost else Doubt.OLD_POLICY)
        else:
            outcome = replay(image, rows, old, new, keyed=keyed)
            yield image, replace(outcome, doubts=(*outcome.doubts, *strange))


def _doubt(doubt: Doubt) -> Outcome:
    return Outcome(doubts=(doubt,))


def _strange_class(store: Objects, run: SealedRun, new: FogPolicy) -> tuple[Doubt, ...]:
    """A rule for a class that the run's detector cannot emit is meant for another detector: what that sees nobody knows."""
    data = store.get(f"plans/{run.home}/plan.json")
    classes = json.loads(data)["detector_info"]["classes"] if data is not None else None
    if classes is None or "rules" not in new.model_fields_set:
        return ()
    return (Doubt.UNKNOWN_CLASS,) if set(new.rules) - {name.casefold() for name in classes} else ()


def utc(text: str) -> str:
    """A date or moment as UTC ISO-8601 text that compares with others of its kind. Raises ConfigurationError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is no date; write 2026-11-23 or 2026-11-23T08:00:00+00:00") from None
    return _moment(moment.isoformat())


def _moment(text: str | None) -> str:
    """What has no time is new: it is not left out."""
    if text is None:
        return "9999"
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).isoformat(timespec="microseconds")


def _line(row: Row, outcome: Outcome, destination: str, dataset: str) -> Row:
    reasons = [*(["file"] if outcome.other_file else []), *outcome.doubts]
    values: Row = {**row, **asdict(outcome), "verdict": outcome.verdict.value, "reason": ",".join(reasons) or None}
    values |= {"destination": destination, "dataset": dataset, "source": "unknown"}
    return {name: values[name] for name in COLUMNS}


def source_uris(audit: Objects, refs: set[str]) -> dict[str, str]:
    """source_ref → URI, as far as the restricted source tables still say it and may: nothing past its ``expires_at``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from airflow_facefog.audit.parquet import read_arrow
    from airflow_facefog.audit.read_ahead import ahead

    now = datetime.now(UTC).isoformat()
    found: dict[str, str] = {}
    wanted = pa.array(sorted(refs), pa.string())
    for data in ahead(audit.get, audit.list("sources") if refs else ()):
        if data is None:
            continue  # it expired meanwhile: its sources are reported as unknown
        table = read_arrow("facefog_source", data)
        for row in table.filter(pc.is_in(table["source_ref"], value_set=wanted)).to_pylist():
            if _moment(row["expires_at"]) > now:
                found[row["source_ref"]] = row["source_uri"]
    return found


def _roots(audit: Objects, images: Sequence[Row]) -> tuple[str, ...]:
    from airflow_facefog.audit.read_ahead import ahead

    homes = {f"{row['run_key']}/{row['generation']}" for row in images if row["source"] == "known"}
    plans = ahead(audit.get, [f"plans/{home}/plan.json" for home in sorted(homes)])
    return tuple(sorted({json.loads(plan)["source"]["uri"] for plan in plans if plan is not None}))
