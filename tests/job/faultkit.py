"""Faults for whole runs: processes that die, stop or go on at a chosen write, and what must hold all the time.

A write becomes visible by ``os.link`` or ``os.replace`` and by nothing else, so counting these counts every protocol point:
killed *before* the n-th, an attempt leaves its temporary file and the state of n-1 writes; *after*, the n-th too.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from faultydetectors import TRIGGER_BGR
from jobkit import KEYS, World, picture, save

from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.model import Attempt
from airflow_facefog.job.plan import make_plan

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    [
        "pytest", "cv2", "numpy", "pyarrow.parquet", "simplejpeg", "airflow_facefog.core.codec",
        "airflow_facefog.core.fog", "airflow_facefog.core.verify", "airflow_facefog.detectors",
        "airflow_facefog.job.finalise", "airflow_facefog.publish.snapshots", "airflow_facefog.publish.protocol",
    ]
)  # fmt: skip


def bad_photo(world: World, name: str = "photo_bad.jpg", seed: int = 500) -> Path:
    """A photo that holds a marker and the colour that breaks a ``FaultyDetector``."""
    image = picture(seed, markers=[(40, 30, 72, 70)])
    image[80:110, 100:140] = TRIGGER_BGR
    return save(world.raw / name, image, quality=98)


def small_photos(world: World, n: int) -> None:
    """``n`` small JPEGs with one marker each."""
    for i in range(n):
        save(world.raw / f"photo_{i}.jpg", picture(i, (64, 48), markers=[(16, 12, 32, 28)]))


# ------------------------------------------------------------------ processes


def count_writes(act: Callable[[int, str, str], None]) -> None:
    """Call ``act(number, "before" | "after", path)`` around every link and rename of this process."""
    numbers = itertools.count(1)

    def watched(original: Callable[..., None]) -> Callable[..., None]:
        def effect(old: Any, new: Any, **options: Any) -> None:
            number = next(numbers)
            act(number, "before", str(new))
            original(old, new, **options)
            act(number, "after", str(new))

        return effect

    os.link = watched(os.link)  # type: ignore[assignment]
    os.replace = watched(os.replace)  # type: ignore[assignment]


def strike(number: int, moment: str, signal_number: int) -> None:
    """Send this process a signal at its n-th write."""

    def act(n: int, when: str, _path: str) -> None:
        if (n, when) == (number, moment):
            os.kill(os.getpid(), signal_number)

    count_writes(act)


def sql_rows(world: World) -> dict[str, int]:
    """Rows of each table of the SQL audit."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(world.root / "facefog.db")) as connection:
        tables = ("facefog_run", "facefog_image", "facefog_detection", "facefog_intent", "facefog_source")
        return {name: connection.execute(f"select count(*) from {name}").fetchone()[0] for name in tables}


def run_all(world: World, name: str, **changes: Any) -> dict[str, Any]:
    """Plan, batches, finalise, as a scheduler would: what was planned is not planned again. ``name`` makes attempt ids."""
    planned = world.root / "refs.json"
    if not planned.exists():
        planned.write_text(json.dumps(make_plan(world.request(**changes), KEYS)))
    refs = json.loads(planned.read_text())
    for index, ref in enumerate(refs):
        run_batch(ref["plan"], ref["batch"], attempt=Attempt(f"{name}-{index}"), keys=KEYS, workers=1)
    sql = SqlSink(f"sqlite:///{world.root}/facefog.db")
    try:
        return finalise(refs[0]["plan"], attempt=Attempt(f"{name}-f"), keys=KEYS, sql=sql)
    finally:
        sql.close()


def die_at(root: str, number: int, moment: str, changes: dict[str, Any]) -> None:
    """Child process: a whole run that is killed at its n-th write."""
    world = World(Path(root))
    strike(number, moment, signal.SIGKILL)
    run_all(world, "dead", **changes)


def attempt_batch(ref: dict[str, Any], name: str, answer: str, stop: tuple[int, str] | None = None) -> None:
    """Child process: one attempt at one batch; its result or error goes to the file ``answer``."""
    if stop is not None:
        strike(*stop, signal.SIGSTOP)
    try:
        result: Any = run_batch(ref["plan"], ref["batch"], attempt=Attempt(name), keys=KEYS, workers=1)
    except BaseException as error:  # told to the parent
        result = {"error": type(error).__name__}
    Path(answer).write_text(json.dumps(result))


def process(target: Callable[..., None], *args: Any) -> Any:
    """Start a real process."""
    started = _processes.Process(target=target, args=args)
    started.start()
    return started


def ended(started: Any, timeout_s: float = 60.0) -> int:
    """Wait for a process; its exit code, negative for a signal."""
    started.join(timeout_s)
    assert started.exitcode is not None, "the process hangs"
    return int(started.exitcode)


def wait_stopped(started: Any, timeout_s: float = 60.0) -> None:
    """Wait until a process has stopped itself."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        assert started.is_alive(), "the process ended before it stopped"
        if Path(f"/proc/{started.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return
        time.sleep(0.02)
    raise AssertionError("the process never stopped")


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Run calls in threads that start at the same moment; their results, or the errors they raised."""
    results: list[Any] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(index: int) -> None:
        barrier.wait()
        try:
            results[index] = calls[index]()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# ------------------------------------------------------------------ invariants


def rows(table: str, path: Path) -> list[dict[str, Any]]:
    """Rows of an audit part."""
    from airflow_facefog.audit.parquet import from_parquet

    return from_parquet(f"facefog_{table}", path.read_bytes())


def intents(world: World) -> set[tuple[str, str]]:
    """(key, sha256) of every intent of every attempt."""
    parts = world.audit.glob("intents/**/intent-*.parquet")
    return {(row["output_key"], row["output_sha256"]) for part in parts for row in rows("intent", part)}


def objects(world: World) -> dict[str, str]:
    """Every visible object: key → sha256."""
    return {
        f"data/{name}": hashlib.sha256(data).hexdigest()
        for name, data in world.published().items()
        if not Path(name).name.startswith(".facefog-")
    }


def claims(world: World) -> set[tuple[str, str]]:
    """(key, sha256) of every published row of every commit and every sealed run."""
    parts = [Path(path) for path in world.audit.glob("runs/*/*/image.parquet")]
    for commit in world.audit.glob("commits/**/*.json"):
        parts.append(world.audit / json.loads(commit.read_text())["image"]["key"])
    prefix = f"file://{world.clean}/"
    return {
        (row["output_uri"].removeprefix(prefix), row["output_sha256"])
        for part in parts
        for row in rows("image", part)
        if row["status"] == "published"
    }


def shown(world: World) -> dict[str, str]:
    """What consumers see: path → sha256; nothing when there is no snapshot."""
    from airflow_facefog.publish.snapshots import open_dataset

    if not world.snapshots():
        return {}
    table = open_dataset(str(world.clean)).to_pylist()
    assert all(
        (world.audit / "runs" / row["run_key"] / str(row["generation"]) / "manifest.json").exists() for row in table
    )
    there = objects(world)
    assert all(there[row["uri"].removeprefix(f"file://{world.clean}/")] == row["sha256"] for row in table)
    return {row["path"]: row["sha256"] for row in table}


def check_invariants(world: World) -> None:
    """P1: every visible object has an intent with its sha256. P2: every claim has its object. Nothing else lies about."""
    there = objects(world)
    assert set(there.items()) <= intents(world), "an object is visible without its intent"
    assert claims(world) <= set(there.items()), "a published row has no object"
    shown(world)
    assert {path.name for path in world.clean.iterdir()} <= {"data", "_facefog"}


def pixels_of(data: bytes) -> Any:
    """Decode a published picture."""
    import cv2

    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
