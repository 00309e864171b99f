"""CPU of the whole job over the same steps called bare, on 2- and 12-megapixel JPEGs. Target: at most 1.10.

Both run in this process, on the same photos and the same number of threads, one after the other in turn. What the job has
beyond the bare steps: fogging, proving every region and every tile, writing and syncing the images, and the audit with SQL.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bare import bare, core_only
from benchmarks.measure import Row, at_most, cpu, interleaved, ratio, show
from benchmarks.photos import write_photos
from benchmarks.whole import run_whole, scratch, sweep

LIMIT = 1.10


def measure(*, full: bool) -> list[Row]:
    """Two rows for each size."""
    rows = []
    for megapixels, count in ((2.0, 200 if full else 48), (12.0, 64 if full else 16)):
        rows += _measure(megapixels, count, rounds=7 if full else 3)
    return rows


def _measure(megapixels: float, count: int, rounds: int) -> list[Row]:
    from airflow_facefog.detectors import resolve
    from airflow_facefog.job.machine import usable_cpus

    detector, threads = resolve("local"), usable_cpus()
    with scratch() as room:
        paths = write_photos(room / "raw", count, megapixels)
        cases = {
            "job": lambda: run_whole(room / "raw", room, workers=threads),
            "bare": lambda: bare(paths, detector, threads),
            "core": lambda: core_only(paths, detector, threads),
        }
        for warm in cases.values():
            warm()

        def clock(case: Callable[[], object]) -> float:
            seconds = cpu(case)
            sweep(room)
            return seconds

        seconds = interleaved(cases, rounds, clock)
    each = {name: 1e3 * sorted(values)[rounds // 2] / count for name, values in seconds.items()}
    note = ", ".join(f"{name} {value:.1f}" for name, value in each.items()) + f" ms an image; {count} images"
    size = f"{megapixels:g} MP"
    return [
        at_most(f"job / bare steps, {size}", ratio(seconds["job"], seconds["bare"]), LIMIT, "{:.3f}", note),
        Row(f"job / decode+detect+encode, {size}", f"{ratio(seconds['job'], seconds['core']):.3f}"),
    ]


if __name__ == "__main__":
    import sys

    show(measure(full="--full" in sys.argv), __doc__ or "")
