"""What destinations say about an audit: runs whose rows consumers were shown, and snapshots that name their parts."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_facefog.audit.verifying.findings import Code, Findings
from airflow_facefog.audit.verifying.seals import Trace
from airflow_facefog.core.errors import FogError
from airflow_facefog.job.model import Place, RootOpener
from airflow_facefog.job.plan import open_store

if TYPE_CHECKING:
    from airflow_facefog.audit.ledger import SealedRun
    from airflow_facefog.publish.store import Store

_RUN = re.compile(r"([^/]+)/(0|[1-9][0-9]*)/.+")
_NUMBER = re.compile(r"([0-9]{10})\.json")


@dataclass(frozen=True, slots=True)
class Destinations:
    """Opens the destinations that an audit names, with the rights that the plan of a run names."""

    audit: Store
    open_root: RootOpener
    found: dict[str, Store | None] = field(default_factory=dict, repr=False)

    def of(self, uri: str, home: str, findings: Findings, code: Code) -> Store | None:
        """The store of a destination, or None when it cannot be opened: named once, as ``code``.

        ``home``: ``<run_key>/<generation>`` of a run that published there.
        """
        if uri not in self.found:
            self.found[uri] = self._open(uri, home, findings, code)
        return self.found[uri]

    def _open(self, uri: str, home: str, findings: Findings, code: Code) -> Store | None:
        place = Place(uri, read_plan(self.audit, home).get("conn_id"))
        try:
            store = open_store(place, self.open_root)
            if store.list("_facefog"):
                return store
            why = "holds no dataset"
        except (FogError, ValueError, ImportError, OSError) as error:  # a damaged record may name anything
            why = f"cannot be read ({type(error).__name__})"
        findings.add(code, uri, f"this destination {why}; its objects and snapshots were not looked at")
        return None


def read_plan(audit: Store, home: str) -> dict[str, Any]:
    """``uri`` and ``conn_id`` of the destination and ``dataset`` of a plan; empty when it cannot be read."""
    try:
        plan = json.loads(audit.get(f"plans/{home}/plan.json") or b"")
        return {**plan["destination"], "dataset": plan["dataset"]}
    except (ValueError, KeyError, TypeError):
        return {}


def datasets_of(
    audit: Store, runs: Iterable[SealedRun], unsealed: Collection[tuple[str, int]]
) -> Mapping[tuple[str, str], str]:
    """(destination, dataset) → home of a run that names it, from sealed runs and from plans without a seal."""
    found = {(str(run.row["destination"]), str(run.row["dataset"])): run.home for run in runs}
    for run_key, generation in unsealed:
        plan = read_plan(audit, f"{run_key}/{generation}")
        if plan:
            found.setdefault((str(plan["uri"]), str(plan["dataset"])), f"{run_key}/{generation}")
    return found


def shown_runs(store: Store, dataset: str) -> Iterator[Trace]:
    """Runs that put their rows before consumers: that happens only after the seal. Raises as ``dataset.home``."""
    from airflow_facefog.publish.dataset import home

    folder = f"{home(dataset)}runs/"
    seen = set()
    for key in store.list(folder):
        match = _RUN.fullmatch(key.removeprefix(folder))
        if match is not None and (name := (match[1], int(match[2]))) not in seen:
            seen.add(name)
            yield Trace(name, store.uri(f"{folder}{match[1]}/{match[2]}"))


def check_snapshots(store: Store, dataset: str, findings: Findings) -> None:
    """Every snapshot from 1 to the newest is there, and every part that it names has its bytes."""
    from airflow_facefog.core.errors import ConfigurationError
    from airflow_facefog.publish import parts, snapshots
    from airflow_facefog.publish.dataset import home

    folder = f"{home(dataset)}snapshots/"
    names = (_NUMBER.fullmatch(key.removeprefix(folder)) for key in store.list(folder))
    newest = max((int(name[1]) for name in names if name), default=0)
    checked: set[tuple[str, str]] = set()
    for seq in range(1, newest + 1):
        try:
            snapshot = snapshots.read_snapshot(store, dataset, seq)
        except ConfigurationError as error:
            findings.add(Code.SNAPSHOT_CHANGED, store.uri(f"{folder}{seq:010d}.json"), str(error))
            continue
        for part in snapshot.parts:
            if (part.key, part.sha256) in checked:
                continue
            checked.add((part.key, part.sha256))
            try:
                parts.part_bytes(store, part)
            except ConfigurationError as error:
                findings.add(Code.SNAPSHOT_CHANGED, store.uri(part.key), str(error))
