"""How old a run is, when no clock can be trusted alone.

A run counts from the latest of: when it finished, when it was sealed, when its chain entry was made, and when any earlier
chain entry was made. The chain's order does not depend on clocks, so a run that was recorded while a clock had jumped back
is never older than what came before it. A run from the future is younger than now: it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow_facefog.core.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow_facefog.audit.ledger import Ledger, SealedRun
    from airflow_facefog.job.record.runs import RunPlace


@dataclass(frozen=True, slots=True)
class Ages:
    """``since``: run home → the moment from which it counts; ``drift``: by how much that is later than it said itself."""

    now: datetime
    since: Mapping[str, datetime]
    drift: Mapping[str, timedelta]

    def older(self, home: str, days: float | None) -> bool:
        """Whether a run is older than this many days; never, when None."""
        return days is not None and self.since[home] + timedelta(days=days) < self.now

    def expired(self, home: str, expires_at: str) -> bool:
        """Whether a moment that the run's clock named has passed."""
        return moment(expires_at) + self.drift[home] < self.now


def measure(ledger: Ledger, places: Mapping[str, RunPlace], now: datetime) -> Ages:
    """Ages of all runs of an audit. Raises ConfigurationError when a time is not readable."""
    since: dict[str, datetime] = {}
    drift: dict[str, timedelta] = {}
    floors = _floors(ledger)
    for run in ledger.runs:
        said = _said(run)
        since[run.home] = max(said, floors.get(run.seq or 0, said))
        drift[run.home] = since[run.home] - said
    for home, place in places.items():  # not sealed: all that is known is when it was planned
        since.setdefault(home, moment(place.started))
        drift.setdefault(home, timedelta(0))
    return Ages(now, since, drift)


def moment(text: str) -> datetime:
    """A recorded time, UTC unless it says otherwise. Raises ConfigurationError for what is none."""
    try:
        found = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        raise ConfigurationError("a recorded time is not readable; restore the audit") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _floors(ledger: Ledger) -> dict[int, datetime]:
    """Chain number → latest time of that entry and all before it."""
    floors: dict[int, datetime] = {}
    latest = datetime.min.replace(tzinfo=UTC)
    for entry in ledger.entries:
        latest = max(latest, moment(entry.at))
        floors[entry.seq] = latest
    return floors


def _said(run: SealedRun) -> datetime:
    row = run.row
    times = [row.get("finished_at") or row["listed_at"], run.manifest.get("sealed_at") or row["listed_at"]]
    return max(map(moment, times))
