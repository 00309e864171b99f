"""Finalise of many images, signed: its CPU against 2 % of the job's, and the salted leaves' share of it. Target: 5 %.

``python -m benchmarks.finalise_scale [n] [--done]``: CPU, wall time and peak memory of one finalise of n synthetic images
with 10 detections each (``synthetic_run``), without and with SQLite, and of calling it again; ``--done`` loads the done
index too. ``measure`` compares with the CPU of the whole job on 2-megapixel photos, measured in the same run.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from airflow_facefog.job.model import Attempt
from benchmarks.measure import Row, at_most, cpu, show
from benchmarks.photos import write_photos
from benchmarks.synthetic_run import DETECTIONS, KEYS, Bench, build
from benchmarks.whole import run_whole, scratch, sweep

JOB_SHARE = 0.02
LEAF_SHARE = 0.05
LEAF_STEPS = (
    ("audit.leaves", "make_leaves"), ("audit.tree", "root"), ("job.sealing", "_leaf_part"),
    ("job.sealing", "_numbered"),
)  # fmt: skip
"""All that a run pays for its salted leaves, but for the writing of one small file."""


def measure(*, full: bool) -> list[Row]:
    """Four rows: finalise against the job and leaves against finalise, each without and with SQLite."""
    images, photos, rounds = (100_000, 64, 3) if full else (4_000, 16, 3)
    with scratch() as room:
        bench = build(room / "synthetic", images, "named")
        write_photos(room / "raw", photos, 2.0)
        run_whole(room / "raw", room)
        each: dict[str, list[dict[str, Any]]] = {"": [], ", with SQLite": []}
        job: list[float] = []
        for _ in range(rounds):
            job.append(cpu(lambda: run_whole(room / "raw", room)) / photos)
            sweep(room)
            for name, said in each.items():
                bench.unseal()
                url = f"sqlite:///{bench.root}/audit.db" if name else None
                said.append(in_child(finalise_once, bench.plan_uri, url))
    rows = []
    for name, said in each.items():
        share = median(one["cpu_s"] / (images * ms) for one, ms in zip(said, job, strict=True))
        leaves = median(one["leaves_s"] / one["cpu_s"] for one in said)
        note = f"{images:,} images x {DETECTIONS} detections: {median(one['cpu_s'] for one in said):.2f} s CPU"
        job_note = f"{note}; job {1e3 * median(job):.1f} ms CPU an image (2 MP)"
        rows.append(at_most(f"finalise, signed{name} / job", share, JOB_SHARE, "{:.2%}", job_note))
        rows.append(at_most(f"salted leaves / finalise{name}", leaves, LEAF_SHARE, "{:.1%}", note))
    return rows


def in_child(work: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """Run ``work`` in a fresh process, so that its peak memory is its own."""
    parent, child = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_answer, args=(child, work, *args))
    process.start()
    child.close()
    try:
        answer: dict[str, Any] = parent.recv()
    finally:
        process.join()
    return answer


def _answer(pipe: Any, work: Callable[..., dict[str, Any]], *args: Any) -> None:
    _import_all()  # imports are not what is measured

    before = _peak_mb()
    cpu, wall = time.process_time(), time.perf_counter()
    said = work(*args)
    said |= {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
    pipe.send(said | {"peak_mb": _peak_mb(), "extra_mb": _peak_mb() - before})


def _import_all() -> None:

    import airflow_facefog.audit.leaf_rows
    import airflow_facefog.audit.sql
    import airflow_facefog.job.finalise  # noqa: F401
    from airflow_facefog.audit.sealed import SigningKey, seal

    seal({"format": "warm-up"}, SigningKey.generate())


def _peak_mb() -> float:
    """Peak resident memory, from the kernel (``ru_maxrss`` of a spawned process starts at its parent's)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def finalise_once(plan_uri: str, url: str | None) -> dict[str, Any]:
    """One signed finalise; with a URL into SQL as well. ``leaves_s``: CPU seconds of the steps in ``LEAF_STEPS``."""
    from airflow_facefog.audit.sealed import SigningKey
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.job.finalise import finalise

    spent = _time_leaves()
    sink = SqlSink(url) if url else None
    finalise(plan_uri, attempt=Attempt("bench"), keys=KEYS, sql=sink, signer=SigningKey.generate())
    return {"leaves_s": sum(spent)}


def _time_leaves() -> list[float]:
    """Make each step of ``LEAF_STEPS`` note its CPU seconds in the list returned."""
    import importlib

    spent: list[float] = []

    def timed(step: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **options: Any) -> Any:
            started = time.process_time()
            result = step(*args, **options)
            spent.append(time.process_time() - started)
            return result

        return noted

    for place, name in LEAF_STEPS:
        module = importlib.import_module(f"airflow_facefog.{place}")
        setattr(module, name, timed(getattr(module, name)))
    return spent


def load_once(root: str, recipe: str, refs: list[str]) -> dict[str, Any]:
    """One load of the done index as a batch does it."""
    from upath import UPath

    from airflow_facefog.publish.done import DoneIndex
    from airflow_facefog.publish.store import Store

    dest, audit = Store(UPath(f"{root}/clean")), Store(UPath(f"{root}/audit"))
    index = DoneIndex.load(dest, audit, "default", 1, recipe_hash=recipe, source_refs=refs)
    questions = [(hashlib.sha256(b"%d" % n).hexdigest(), ref) for n, ref in enumerate(refs)]
    return {"hits": sum(index.find(recipe, *question) is not None for question in questions), "asked": len(refs)}


def main(arguments: list[str]) -> None:
    """Build, measure, print."""
    images = next((int(a) for a in arguments if a.isdigit()), 100_000)
    for layout in ("named", "content") if "--done" in arguments else ("named",):
        with tempfile.TemporaryDirectory(prefix="facefog-bench-") as folder:
            bench = build(Path(folder), images, layout)
            for name, said in _measure(bench, done="--done" in arguments):
                print(f"{layout:8} {name:16} {images:>9,} images  " + _shown(said), flush=True)


def _measure(bench: Bench, *, done: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    url = f"sqlite:///{bench.root}/audit.db"
    yield "finalise, SQLite", in_child(finalise_once, bench.plan_uri, url)
    bench.unseal()
    yield "finalise", in_child(finalise_once, bench.plan_uri, None)
    yield "finalise again", in_child(finalise_once, bench.plan_uri, None)
    if done:
        names = json.loads((bench.root / "audit" / bench.plan.batch_key(f"{0:016x}")).read_text())["items"]
        refs = [KEYS.source_ref(f"{bench.plan.source.uri}/{name}") for name, *_ in names]
        yield "done index", in_child(load_once, str(bench.root), bench.plan.recipe_hash, refs)


def _shown(said: dict[str, Any]) -> str:
    numbers = {name: f"{value:.2f}" if isinstance(value, float) else value for name, value in said.items()}
    return "  ".join(f"{name}={value}" for name, value in numbers.items())


if __name__ == "__main__":
    if "--compare" in sys.argv:
        show(measure(full="--full" in sys.argv), __doc__ or "")
    else:
        main(sys.argv[1:])
