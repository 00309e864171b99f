"""Which runs made what datasets show now: their image rows are the record of published pictures and are not for expiry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow_facefog.job.model import RootOpener
from airflow_facefog.job.plan import open_store

if TYPE_CHECKING:
    from airflow_facefog.job.record.runs import RunPlace


def shown_homes(places: Iterable[RunPlace], open_root: RootOpener) -> frozenset[str]:
    """Homes of runs with a row in the newest snapshot of their dataset.

    A dataset that is not in its place may have been moved: all of its runs count as shown. Raises ConfigurationError for a
    snapshot that is damaged, StoreError for a destination that is down.
    """
    from airflow_facefog.publish.snapshots import newest_seq, open_dataset

    by_dataset: dict[tuple[str, str], list[RunPlace]] = {}
    for place in places:
        by_dataset.setdefault((place.destination.uri, place.dataset), []).append(place)
    shown: set[str] = set()
    for (_, dataset), runs in by_dataset.items():
        store = open_store(runs[0].destination, open_root)
        if newest_seq(store, dataset) is None:
            shown.update(run.home for run in runs)
            continue
        rows = open_dataset(store, dataset=dataset).group_by(["run_key", "generation"]).aggregate([]).to_pylist()
        shown.update(f"{row['run_key']}/{row['generation']}" for row in rows)
    return frozenset(shown)
