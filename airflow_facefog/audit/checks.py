"""Named assertions about an audit, for gates in Dags and for people: each is a question whose answer must be empty.

A check that has too little to judge by passes and says so in its note; one that cannot be asked here raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_facefog.audit import unfinished
from airflow_facefog.audit.ledger import Ledger
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.query import Engine
from airflow_facefog.audit.zero_rate import outside_band
from airflow_facefog.core.errors import ConfigurationError

SHOWN = 5
"""Rows of a failed check that its detail holds."""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Limits. ``max_age_h``: hours until an unfinished run is a finding; ``max_quarantined``: share of listed, 0..1;
    ``history``, ``min_history``: runs that the zero-detection band is made of at most, at least; ``sigmas``: its width;
    ``now``: UTC, for tests and for asking about the past.
    """

    max_age_h: float = 24.0
    max_quarantined: float = 0.2
    history: int = 20
    min_history: int = 5
    sigmas: float = 4.0
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        if not (self.max_age_h >= 0 and 0 <= self.max_quarantined <= 1 and 2 <= self.min_history <= self.history):
            raise ConfigurationError("check options: max_age_h >= 0, max_quarantined 0..1, 2 <= min_history <= history")
        if not self.sigmas > 0:
            raise ConfigurationError("check options: sigmas is above 0")

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> CheckOptions:
        """From plain values. Raises ConfigurationError for an unknown name or a value of another type."""
        known = [name for name in cls.__slots__ if name != "now"]
        for name in given:
            if name not in known:
                raise ConfigurationError(f"no check option {name!r}; there are: {', '.join(known)}")
        try:
            values = {name: int(v) if name.endswith("history") else float(v) for name, v in given.items()}
        except (TypeError, ValueError):
            raise ConfigurationError("a check option is not a number") from None
        return cls(**values)  # type: ignore[arg-type]  # numbers of the fields' own types

    def text(self, ago: timedelta = timedelta()) -> str:
        """``now``, or some time before it, as audit times are written."""
        return (self.now - ago).isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True)
class Asked:
    """What checks look at. ``audit`` and ``ledger`` are None when only a database is asked."""

    engine: Engine
    audit: Objects | None = None
    ledger: Ledger | None = None
    options: CheckOptions = field(default_factory=CheckOptions)


@dataclass(frozen=True, slots=True)
class Finding:
    """Rows that should not be there, and a note when there was too little to judge by."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One assertion. ``standard``: it is asked when no check is named."""

    name: str
    question: str
    ask: Callable[[Asked], Finding] = field(repr=False)
    standard: bool = True
    needs_parquet: bool = False


def run_checks(asked: Asked, names: Sequence[str] = ()) -> dict[str, Any]:
    """Ask the named checks, or the standard ones.

    Returns {"passed": bool, "failed": [name …], "checks": [{"name", "question", "passed", "rows", "detail", "note"} …]};
    ``rows`` is a number, ``detail`` the first few rows. Raises ConfigurationError for an unknown name, and for one that
    needs the Parquet audit when only a database is there.
    """
    results = [_result(check, check.ask(asked)) for check in _wanted(asked, names)]
    failed = [result["name"] for result in results if not result["passed"]]
    return {"passed": not failed, "failed": failed, "checks": results}


def _wanted(asked: Asked, names: Sequence[str]) -> Iterable[Check]:
    for name in names:
        if name not in CHECKS:
            raise ConfigurationError(f"no check {name!r}; there are: {', '.join(CHECKS)}")
        if CHECKS[name].needs_parquet and asked.audit is None:
            raise ConfigurationError(f"check {name} reads the Parquet audit; name its place too")
    return [CHECKS[name] for name in names] or [check for check in CHECKS.values() if check.standard]


def _result(check: Check, found: Finding) -> dict[str, Any]:
    return {
        "name": check.name, "question": check.question, "passed": not found.rows, "rows": len(found.rows),
        "detail": found.rows[:SHOWN], "note": found.note,
    }  # fmt: skip


def _view(*names: str) -> Callable[[Asked], Finding]:
    """All of these views are empty."""

    def ask(asked: Asked) -> Finding:
        rows = []
        for name in names:
            found = asked.engine.ask(f"select * from facefog_v_{name}").dicts()  # noqa: S608  names of our own
            rows += [{"view": f"facefog_v_{name}", **row} for row in found]
        return Finding(rows)

    return ask


def _unfinished(asked: Asked) -> Finding:
    before = asked.options.text(timedelta(hours=asked.options.max_age_h))
    if asked.audit is not None and asked.ledger is not None:
        rows = unfinished.plans(asked.audit, asked.ledger, before)
        return Finding(rows + _view("unfinished_intents")(asked).rows)
    rows = asked.engine.ask(unfinished.FAILED_RUNS, {"before": before}).dicts()
    note = "a database knows no run that never came to its end; name the Parquet audit too"
    return Finding(rows + _view("unfinished_intents")(asked).rows, note)


def _zero_rate(asked: Asked) -> Finding:
    sql = (
        "select dag_id, destination, dataset, run_key, generation, day, sum(published) as published,"
        " sum(zero_detections) as zero_detections from facefog_v_zero_detections"
        " group by dag_id, destination, dataset, run_key, generation, day"
    )
    times = {(row["run_key"], row["generation"]): row["listed_at"] for row in _final_runs(asked)}
    rows = asked.engine.ask(sql).dicts()
    for row in rows:
        row["listed_at"] = times.get((row["run_key"], row["generation"]), row["day"])
    options = asked.options
    found, short = outside_band(rows, history=options.history, least=options.min_history, sigmas=options.sigmas)
    note = f"{short} streams have fewer than {options.min_history} earlier runs to compare with" if short else None
    return Finding(found, note)


def _quarantine_rate(asked: Asked) -> Finding:
    newest: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in sorted(_final_runs(asked), key=lambda row: (row["listed_at"], row["generation"])):
        newest[row["dag_id"], row["destination"], row["dataset"]] = row
    bad = [
        {**row, "rate": (row["quarantined"] + row["failed"]) / row["listed"]}
        for row in newest.values()
        if row["quarantined"] + row["failed"] > asked.options.max_quarantined * row["listed"]
    ]
    return Finding(bad)


def _final_runs(asked: Asked) -> list[dict[str, Any]]:
    return asked.engine.ask(
        "select run_key, generation, dag_id, destination, dataset, listed_at, listed, quarantined, failed"
        " from facefog_run where status = 'final'"
    ).dicts()


def _overdue(asked: Asked) -> Finding:
    sql = "select source_ref, expires_at from facefog_source where expires_at < :now"
    return Finding(asked.engine.ask(sql, {"now": asked.options.text()}).dicts())


def _signed(asked: Asked) -> Finding:
    assert asked.ledger is not None
    rows = [
        {"seq": e.seq, "problem": "entry_is_not_signed"} for e in asked.ledger.entries if not e.document.get("signed")
    ]
    for run in asked.ledger.runs:
        about = {"run_key": run.run_key, "generation": run.generation}
        if not run.manifest.get("signed"):
            rows.append({**about, "problem": "manifest_is_not_signed"})
        if run.seq is None:
            rows.append({**about, "problem": "run_is_not_in_the_chain"})
    return Finding(rows, "says whether signatures are there; `facefog audit verify` says whether they hold")


_ALL = (
    Check(
        "nothing-unfogged-published",
        "Is every detection of a published image that the policy selects fogged and verified, by the record's own rows?",
        _view("leaks", "inconsistent_images", "image_counts"),
    ),
    Check("intent-before-publish", "Had each published object an intent with its sha256?", _view("published_without_intent")),
    Check("counts-add-up", "Do all counts of sealed runs agree with the rows?", _view("integrity")),
    Check("nothing-unfinished", "Is no run unfinished for longer than max_age_h, unless its source was run again?", _unfinished),
    Check("zero-detection-rate", "Is the newest run's share of images without a detection within its usual band?", _zero_rate),
    Check("quarantine-rate", "Did the newest run of each Dag refuse at most max_quarantined of its images?", _quarantine_rate),
    Check("sources-not-overdue", "Is no source name kept longer than it may be?", _overdue, standard=False),
    Check("no-linkable-methods", "Was nothing published with a method that can be linked to the source?", _view("linkable"),
          standard=False),
    Check("outputs-agree", "Did equal images under one recipe give equal bytes?", _view("conflicting_outputs"), standard=False),
    Check("all-signed", "Are all manifests and chain entries signed and chained?", _signed, standard=False, needs_parquet=True),
)  # fmt: skip

CHECKS: Mapping[str, Check] = {check.name: check for check in _ALL}
