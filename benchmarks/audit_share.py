"""Share of the CPU that goes into plans, records, commits and the snapshot, at 2 megapixels. Target: below 2 %.

Counted: the whole plan step, the whole finalise step (compaction, manifest, snapshot, SQL), and in the batch step the
reading of plan and batch, the rows, every Parquet part, intents, commit and attempt markers. Writing the images is not.
"""

from __future__ import annotations

import pkgutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any
from unittest import mock

from benchmarks.measure import Row, at_most, cpu, show
from benchmarks.photos import write_photos
from benchmarks.whole import run_whole, scratch, sweep

LIMIT = 0.02
_STEPS = ("airflow_facefog.job.plan.make_plan", "airflow_facefog.job.finalise.finalise")
_PIECES = (
    "airflow_facefog.job.batch.open_job",
    "airflow_facefog.job.batch.read_past",
    "airflow_facefog.job.batch.BatchRun.commit",
    "airflow_facefog.job.attempt.AttemptLog.start",
    "airflow_facefog.job.attempt.AttemptLog.end",
    "airflow_facefog.job.rows.Rows.processed",
    "airflow_facefog.publish.done.DoneIndex.find",
    "airflow_facefog.publish.done.DoneIndex.load",
    "airflow_facefog.publish.done.DoneIndex.quarantined",
    "airflow_facefog.publish.protocol.Publisher._intend",
    "airflow_facefog.publish.protocol.read_commit",
)


def measure(*, full: bool) -> list[Row]:
    """One row."""
    count, rounds = (200, 5) if full else (64, 3)
    shares, spent = [], {}
    with scratch() as room:
        write_photos(room / "raw", count, 2.0)
        run_whole(room / "raw", room)
        for _ in range(rounds):
            spent = {}
            with _counted(spent):
                total = cpu(lambda: run_whole(room / "raw", room))
            shares.append(sum(spent.values()) / total)
            sweep(room)
    largest = sorted(spent.items(), key=lambda item: -item[1])[:4]
    note = (
        ", ".join(f"{name} {1e3 * seconds / count:.2f}" for name, seconds in largest) + f" ms an image; {count} images"
    )
    return [at_most("audit / whole CPU, 2 MP", median(shares), LIMIT, "{:.2%}", note)]


@contextmanager
def _counted(spent: dict[str, float]) -> Iterator[None]:
    """Add up the CPU of steps (whole process: they run alone) and of pieces (their own thread), outermost calls only."""
    busy = threading.local()
    with ExitStack() as stack:
        for name, clock in [(n, time.process_time) for n in _STEPS] + [(n, time.thread_time) for n in _PIECES]:
            stack.enter_context(mock.patch(name, _timed(pkgutil.resolve_name(name), name, clock, spent, busy)))
        yield


def _timed(
    function: Callable[..., Any], name: str, clock: Callable[[], float], spent: dict[str, float], busy: threading.local
) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        if getattr(busy, "inside", False):
            return function(*args, **kwargs)
        busy.inside, started = True, clock()
        try:
            return function(*args, **kwargs)
        finally:
            busy.inside = False
            short = name.rpartition(".")[2].strip("_")
            spent[short] = spent.get(short, 0.0) + clock() - started

    return timed


if __name__ == "__main__":
    import sys

    show(measure(full="--full" in sys.argv), __doc__ or "")
