"""Where each run of an audit published, and under which key: from manifests, and from plans of runs that are not sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.job.model import Place

if TYPE_CHECKING:
    from airflow_facefog.audit.ledger import Ledger
    from airflow_facefog.publish.store import Store


@dataclass(frozen=True, slots=True)
class RunPlace:
    """One run generation. ``started``: UTC, ISO-8601; ``source``: the root that it listed, None without its plan."""

    home: str
    destination: Place
    dataset: str
    key_id: str
    sealed: bool
    started: str
    source: Place | None = field(default=None, repr=False)

    @property
    def run_key(self) -> str:
        """The run."""
        return self.home.partition("/")[0]

    @property
    def generation(self) -> int:
        """Its generation."""
        return int(self.home.partition("/")[2])

    def key_of(self, output_uri: str | None) -> str | None:
        """The key of an output below the destination as it was called then; None: it lies elsewhere, or nowhere."""
        start, path = _path(self.destination.uri) + "/", _path(output_uri or "")
        return path[len(start) :] if path.startswith(start) else None


def _path(uri: str) -> str:
    """A URI without its scheme: stores spell some their own way (s3a, memory)."""
    return uri.partition("://")[2].strip("/")


def run_places(audit: Store, ledger: Ledger) -> dict[str, RunPlace]:
    """All of them by ``<run_key>/<generation>``. Raises ConfigurationError when a plan is damaged."""
    found = {run.home: _of_manifest(run.home, run.row) for run in ledger.runs}
    for key in audit.list("plans"):
        if key.endswith("/plan.json") and key.count("/") == 3:
            home = key.removeprefix("plans/").removesuffix("/plan.json")
            found[home] = _of_plan(home, audit.read(key), sealed=home in found)
    return found


def _of_manifest(home: str, row: Mapping[str, Any]) -> RunPlace:
    return RunPlace(home, Place(row["destination"]), row["dataset"], row["key_id"], True, row["started_at"])


def _of_plan(home: str, data: bytes, *, sealed: bool) -> RunPlace:
    try:
        plan = json.loads(data)
        source = Place(**plan["source"])
        destination = Place(**plan["destination"])
        return RunPlace(home, destination, plan["dataset"], plan["key_id"], sealed, plan["listed_at"], source)
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(f"the plan of run {home} is damaged; restore the audit") from None
