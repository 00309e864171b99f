"""Verify an audit with everything that knows it: the record itself, the destinations that it names, and SQL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_facefog.audit.chain import Head
from airflow_facefog.audit.sealed import PublicKey
from airflow_facefog.core.errors import ConfigurationError, PermanentError
from airflow_facefog.core.raw import sealed
from airflow_facefog.job.model import Place, RootOpener, open_root_plain
from airflow_facefog.job.places import open_existing

if TYPE_CHECKING:
    from airflow_facefog.audit.ledger import SealedRun
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.audit.verify import Known
    from airflow_facefog.audit.verifying.findings import Findings
    from airflow_facefog.audit.verifying.seals import Trace
    from airflow_facefog.job.record.verify_destinations import Destinations
    from airflow_facefog.publish.store import Store

_HEAD = re.compile(r"([0-9]{1,10}):([0-9a-f]{64})")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What to verify and against what.

    ``public_keys``: PEM texts of the keys that may have signed; none: those in the audit, which shows consistency only.
    ``heads``: "seq:sha256" of chain heads that were written down elsewhere. ``since``: YYYY-MM-DD (UTC); the parts of
    runs that were entered before it are not read. ``deep``: also rows against leaves, leaves against the tree, every
    published object and every snapshot part.
    """

    audit: Place
    public_keys: Sequence[str] = ()
    heads: Sequence[str] = ()
    require_signed: bool = False
    since: str | None = None
    deep: bool = False
    threads: int | None = None


@sealed
def verify_audit(
    request: VerifyRequest, *, open_root: RootOpener = open_root_plain, sql: SqlSink | None = None
) -> dict[str, Any]:
    """Verify; returns what ``audit.verify.Report.to_json`` says. Faults of the record are findings, not exceptions.

    Raises ConfigurationError (a key, head or date that is none, a place that cannot be opened), StoreError (a store is
    down: nothing was said about the record).
    """
    from airflow_facefog.audit.verify import Options, verify
    from airflow_facefog.job.machine import usable_cpus
    from airflow_facefog.job.record.verify_destinations import Destinations

    options = Options(
        keys=tuple(PublicKey.from_pem(pem.encode()) for pem in request.public_keys),
        anchors=tuple(map(parse_head, request.heads)), require_signed=request.require_signed,
        since=_date(request.since), threads=request.threads or usable_cpus(),
    )  # fmt: skip
    audit = open_existing(request.audit, open_root)
    outside = _Outside(audit, Destinations(audit, open_root), sql, request.deep, options.threads)
    report = verify(audit, options, outside.traces, outside.check_run if request.deep else None)
    return report.to_json()


def parse_head(text: str) -> Head:
    """Read "seq:sha256" as ``facefog audit head`` prints it. Raises ConfigurationError."""
    match = _HEAD.fullmatch(text.strip())
    if match is None:
        raise ConfigurationError(
            "a chain head is SEQ:SHA256 as `facefog audit head` prints it: a number, ':', 64 hex digits"
        )
    return Head(int(match[1]), match[2])


def _date(text: str | None) -> str | None:
    from datetime import date

    try:
        return None if text is None else date.fromisoformat(text if _DATE.fullmatch(text) else "").isoformat()
    except ValueError:
        raise ConfigurationError("a date is YYYY-MM-DD (UTC), for example 2026-01-31") from None


@dataclass(frozen=True, slots=True)
class _Outside:
    """What lies outside of the audit."""

    audit: Store
    destinations: Destinations
    sql: SqlSink | None
    deep: bool
    threads: int

    def traces(self, known: Known, findings: Findings) -> Iterable[Trace]:
        """Runs that consumers were shown or that SQL holds; with ``deep`` snapshots are checked on the way."""
        from airflow_facefog.job.record import verify_destinations as there

        found: list[Trace] = []
        for (uri, dataset), home in there.datasets_of(self.audit, known.ledger.runs, known.unsealed).items():
            store = self.destinations.of(uri, home, findings, self._code)
            if store is None:
                continue
            try:
                found += there.shown_runs(store, dataset)
                if self.deep:
                    there.check_snapshots(store, dataset, findings)
            except ConfigurationError as error:
                findings.add(self._code, uri, str(error))
        return found if self.sql is None else [*found, *_compare_sql(self.audit, known, self.sql, findings)]

    def check_run(self, run: SealedRun, pool: Executor, findings: Findings) -> None:
        """Leaves of a run, and its published objects."""
        from airflow_facefog.audit.verifying.leaves import check_leaves
        from airflow_facefog.audit.verifying.published import check_objects

        check_leaves(self.audit, run, findings)
        store = self.destinations.of(str(run.row["destination"]), run.home, findings, self._code)
        if store is not None:
            check_objects(self.audit, run, store, findings, threads=self.threads)

    @property
    def _code(self) -> Any:
        from airflow_facefog.audit.verifying.findings import Code

        return Code.DESTINATION_UNREACHABLE if self.deep else Code.NOT_CHECKED


def _compare_sql(audit: Store, known: Known, sql: SqlSink, findings: Findings) -> list[Trace]:
    """SQL = Parquet, for runs whose parts are right (others were named). Runs that only SQL calls sealed are traces."""
    from airflow_facefog.audit.ledger import manifest_key
    from airflow_facefog.audit.schema import RUN
    from airflow_facefog.audit.sql_compare import differences
    from airflow_facefog.audit.verifying.findings import Code
    from airflow_facefog.audit.verifying.seals import Trace

    traces: list[Trace] = []
    try:
        different = differences(audit, known.intact_ledger, sql)
    except PermanentError as error:  # a database that is down is a StoreError: it says nothing about the record
        findings.add(Code.SQL_UNREADABLE, "sql:", str(error))
        return traces
    for found in different:
        run = (found.run_key, found.generation)
        where = f"sql:{found.table}/{found.run_key}/{found.generation}"
        if run in known.sealed and run not in known.intact:
            continue
        if run not in known.sealed and audit.exists(manifest_key(*run)):
            continue  # sealed while this was verified, or named already
        if run not in known.sealed and found.table == RUN.name:
            traces.append(Trace(run, where))
        else:
            findings.add(Code.SQL_DIFFERS, where, found.detail)
    return traces
