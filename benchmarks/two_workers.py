"""Wall time of a batch on two workers over one, against two plain sha256 loops. Target: at least .9 of their speed-up.

The two loops say what a second thread is worth on this machine at this moment; only the batch step uses workers, so only it
is timed (its micro-batches, intents and commit included).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import Row, at_least, interleaved, show, wall
from benchmarks.photos import write_photos
from benchmarks.whole import KEYS, new_attempt, new_request, scratch, sweep

LIMIT = 0.9
_BLOCK = bytes(4 << 20)
_BLOCKS = 1000


def measure(*, full: bool) -> list[Row]:
    """One row; both speed-ups in its note."""
    rounds = 9 if full else 5
    with scratch() as room:
        write_photos(room / "raw", 64 if full else 32, 2.0)
        seconds = interleaved(
            {
                "hash 1": lambda: _hash(1),
                "batch 1": _batch(room, 1),
                "hash 2": lambda: _hash(2),
                "batch 2": _batch(room, 2),
            },
            rounds + 1,
            clock=lambda case: case() or 0.0,
        )
    speedup = {
        name: median(one / two for one, two in list(zip(seconds[f"{name} 1"], seconds[f"{name} 2"], strict=True))[1:])
        for name in ("hash", "batch")
    }
    share = speedup["batch"] / speedup["hash"]
    note = f"speed-up {speedup['batch']:.2f}, sha256 loops {speedup['hash']:.2f}; medians of {rounds} rounds"
    return [at_least("two workers / two sha256 loops", share, LIMIT, "{:.2f}", note)]


def _hash(threads: int) -> float:
    """The same number of blocks on one thread or two."""

    def loop(blocks: int) -> None:
        for _ in range(blocks):
            hashlib.sha256(_BLOCK).digest()

    with ThreadPoolExecutor(threads) as pool:
        return wall(lambda: list(pool.map(loop, [_BLOCKS // threads] * threads)))


def _batch(room: Path, workers: int) -> Callable[[], float]:
    def run() -> float:
        from airflow_facefog.job.batch import run_batch
        from airflow_facefog.job.plan import make_plan

        request, _ = new_request(room / "raw", room)
        refs: list[dict[str, Any]] = make_plan(request, KEYS)
        (ref,) = refs
        seconds = wall(lambda: run_batch(ref["plan"], ref["batch"], attempt=new_attempt(), keys=KEYS, workers=workers))
        sweep(room)
        return seconds

    return run


if __name__ == "__main__":
    import sys

    show(measure(full="--full" in sys.argv), __doc__ or "")
