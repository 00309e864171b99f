"""Named questions with parameters: a view, filtered and in order. The same text for every engine; values are bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal

from airflow_facefog.audit.answer import Stream
from airflow_facefog.audit.query import Engine
from airflow_facefog.audit.views import View, view_named
from airflow_facefog.core.errors import ConfigurationError

Kind = Literal["text", "integer", "number", "time"]


@dataclass(frozen=True, slots=True)
class Param:
    """A value that a report takes. ``default`` None: it must be given."""

    name: str
    kind: Kind
    default: str | int | float | None
    doc: str


SINCE = Param("since", "time", "0000", "from this day or time on (UTC)")
UNTIL = Param("until", "time", "9999", "before this day or time (UTC)")
LIMIT = Param("limit", "integer", 1000, "at most so many rows")
FILTERS = {
    name: Param(name, "text", "", doc)
    for name, doc in {
        "dag_id": "of this Dag only",
        "destination": "of this destination only",
        "dataset": "of this dataset only",
        "run_key": "of this run only",
        "policy_hash": "under this policy only",
        "model_id": "by this model only",
        "model_version": "by this version of the model only",
        "class_name": "of this class only",
        "reason": "for this reason only",
        "host": "to this host only",
    }.items()
}


@dataclass(frozen=True, slots=True)
class Report:
    """A named question. ``sql`` names each of ``params`` as ``:name``."""

    name: str
    question: str
    sql: str = field(repr=False)
    params: tuple[Param, ...] = ()

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every parameter's value. Raises ConfigurationError for an unknown name, a wrong value or a missing one."""
        known = {param.name for param in self.params}
        for name in given:
            if name not in known:
                valid = ", ".join(sorted(known)) or "none"
                raise ConfigurationError(f"report {self.name} has no parameter {name!r}; it takes: {valid}")
        return {param.name: _value(self.name, param, given.get(param.name, param.default)) for param in self.params}


def run_report(engine: Engine, report: Report, given: Mapping[str, Any]) -> Stream:
    """Ask a report. Raises ConfigurationError for wrong parameters, and as the engine does."""
    return engine.stream(report.sql, report.values(given))


def report_named(name: str) -> Report:
    """The report of this name. Raises ConfigurationError that lists the names."""
    if name not in REPORTS:
        raise ConfigurationError(f"no report {name!r}; there are: {', '.join(REPORTS)}")
    return REPORTS[name]


def _value(report: str, param: Param, given: Any) -> Any:
    if given is None:
        raise ConfigurationError(f"report {report} needs {param.name}: {param.doc}; give --param {param.name}=…")
    try:
        if param.kind == "integer":
            return int(given)
        if param.kind == "number":
            return float(given)
        if param.kind == "time" and given not in (SINCE.default, UNTIL.default):
            return datetime.now(UTC).isoformat() if given == "now" else utc(str(given))
        return given
    except ValueError:
        example = {"integer": "100", "number": "0.05", "time": "2026-11-23 or 2026-11-23T06:00:00+01:00"}[param.kind]
        raise ConfigurationError(f"{param.name} is not a {param.kind}; write it like {example}") from None


def utc(text: str) -> str:
    """A day (``2026-11-23``) as it is, a time as ``2026-11-23T05:00:00`` in UTC: text that sorts among audit times.

    A time without a zone is UTC. Raises ValueError for anything else.
    """
    if len(text) <= 10:
        return date.fromisoformat(text).isoformat()
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo is None else when.astimezone(UTC)).isoformat(timespec="seconds")[:19]


def _report(
    name: str,
    *filters: str,
    time: str | None = None,
    order: str = "",
    view: str | None = None,
    limit: int | None = None,
) -> Report:
    """A report over one view: filters by equality, a half-open span of time, an order, a limit."""
    source: View = view_named(view or name.replace("-", "_"))
    params = [FILTERS[column] for column in filters]
    conditions = [f"(:{column} = '' or v.{column} = :{column})" for column in filters]
    if time is not None:
        params = [SINCE, UNTIL, *params]
        conditions = [_span(time), *conditions]
    text = f"select v.* from {source.name} v"  # noqa: S608  names of our own; values are bound
    text += f" where {' and '.join(conditions)}" if conditions else ""
    text += f" order by {order}" if order else ""
    if limit is not None:
        params.append(Param(LIMIT.name, LIMIT.kind, limit, LIMIT.doc))
        text += " limit :limit"
    return Report(name, source.question, text, tuple(params))


def _span(column: str) -> str:
    """``run``: the time when the row's run was listed. A day holds its whole day."""
    if column == "day":
        return "v.day >= substr(:since, 1, 10) and v.day < :until"
    if column == "run":
        return (
            "exists (select 1 from facefog_run t where t.run_key = v.run_key and t.generation = v.generation"
            " and t.listed_at >= :since and t.listed_at < :until)"
        )
    return f"v.{column} >= :since and v.{column} < :until"


IMAGE = Param("image", "text", None, "an image_id or source_ref, 64 hex digits")
WHERE_IMAGE = "where v.image_id = :image or v.source_ref = :image"
AT = Param("at", "time", "now", "a day or time (UTC)")
WITHIN = Param("within", "number", 0.05, "distance from the threshold, 0..0.05")

_ALL = (
    _report("published-by-day", "destination", "dataset", time="day", order="v.day, v.published"),
    _report("run-summary", "dag_id", "destination", "dataset", time="listed_at", order="v.listed_at, v.run_key, v.generation"),
    _report("failed-runs", "dag_id", time="listed_at", order="v.listed_at, v.run_key"),
    _report("recipes", "policy_hash", "model_id", "model_version", order="v.first_listed_at, v.policy_hash"),
    Report(
        "image-history", view_named("image_history").question,
        f"select v.* from facefog_v_image_history v {WHERE_IMAGE} order by v.committed_at, v.run_key, v.generation",  # noqa: S608
        (IMAGE,),
    ),
    Report(
        "decisions", view_named("decisions").question,
        f"select v.* from facefog_v_decisions v {WHERE_IMAGE} order by v.run_key, v.generation, v.source_ref, v.det_idx",  # noqa: S608
        (IMAGE,),
    ),
    _report("current", "destination", "dataset", "model_id", "model_version", "policy_hash", time="committed_at",
            order="v.committed_at, v.source_ref"),
    _report("stale-policy", "destination", "dataset", order="v.committed_at, v.source_ref"),
    _report("open-quarantine", "destination", "dataset", "reason", time="committed_at", order="v.committed_at, v.source_ref"),
    _report("refusals", "dag_id", "reason", time="run", order="v.images desc, v.run_key"),
    _report("withdrawn", "destination", "dataset", time="withdrawn_at", order="v.withdrawn_at, v.source_ref"),
    _report("skipped", "run_key", time="run", order="v.run_key, v.source_ref", limit=1000),
    _report("duplicates", "run_key", time="run", order="v.run_key, v.source_ref", limit=1000),
    Report(
        "near-threshold", view_named("near_threshold").question,
        "select v.* from facefog_v_near_threshold v where v.confidence >= v.threshold - :within"  # noqa: S608
        f" and v.confidence <= v.threshold + :within and (:class_name = '' or v.class_name = :class_name) and {_span('run')}"
        " order by v.confidence - v.threshold, v.run_key, v.source_ref, v.det_idx limit :limit",
        (SINCE, UNTIL, FILTERS["class_name"], WITHIN, LIMIT),
    ),
    _report("published-unfogged", "run_key", "class_name", time="run", limit=1000,
            order="v.confidence desc, v.run_key, v.source_ref, v.det_idx"),
    _report("leaks", "run_key", time="run", order="v.run_key, v.source_ref, v.det_idx"),
    _report("lowest-confidence", "run_key", time="run", order="v.lowest_confidence, v.run_key, v.source_ref", limit=100),
    _report("detector-stats", "policy_hash", "model_id", "model_version", "class_name", order="v.detections desc, v.policy_hash"),
    _report("zero-detections", "dag_id", "destination", "dataset", time="day", order="v.day, v.run_key, v.zero_detections desc"),
    _report("methods", "run_key", time="run", order="v.run_key, v.generation, v.regions desc"),
    _report("linkable", "run_key", time="committed_at", order="v.committed_at, v.source_ref"),
    _report("human-regions", "run_key", time="run", order="v.run_key, v.source_ref, v.det_idx"),
    _report("refogged", "run_key", time="committed_at", order="v.committed_at, v.source_ref"),
    _report("truncated", "run_key", time="run", order="v.n_dropped desc, v.run_key, v.source_ref"),
    _report("verify-coverage", "run_key", time="run", order="v.run_key, v.generation"),
    _report("timings", "run_key", time="run", order="v.run_key, v.generation"),
    _report("egress", "host", view="egress_by_host", order="v.transfers desc, v.first_sent_at"),
    _report("erasures", order="v.first_at, v.request_id"),
    _report("retention", order="v.expires_on"),
    Report(
        "retention-due", "Which source names are kept longer than they may be?",
        "select source_ref, bytes, expires_at from facefog_source where expires_at < :at order by expires_at, source_ref", (AT,),
    ),
    _report("integrity", order="v.run_key, v.generation"),
    _report("image-counts", order="v.run_key, v.source_ref", limit=1000),
    _report("inconsistent-images", order="v.run_key, v.source_ref", limit=1000),
    _report("conflicting-outputs", order="v.outputs desc, v.image_id", limit=1000),
    _report("unfinished-intents", order="v.created_at, v.source_ref"),
    _report("published-without-intent", order="v.committed_at, v.source_ref"),
    _report("chain-gaps", order="v.listed_at, v.run_key"),
)  # fmt: skip

REPORTS: Mapping[str, Report] = {report.name: report for report in _ALL}
