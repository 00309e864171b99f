"""The whole job as the command line runs it (plan, every batch, finalise with SQL), in this process, on local folders."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy
from airflow_facefog.job.model import Attempt, Place, PlanRequest, RunIdentity
from benchmarks.measure import WORK

KEYS = KeyRing.from_master(bytes(range(32)))
POLICY = FogPolicy()
_RUN = "run-"


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder below build/bench that is gone afterwards."""
    WORK.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="work-", dir=WORK))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def new_request(source: Path, room: Path) -> tuple[PlanRequest, Path]:
    """A run over ``source`` into new folders; second, the folder that holds them."""
    base = Path(tempfile.mkdtemp(prefix=_RUN, dir=room))
    (base / "clean").mkdir()
    (base / "audit").mkdir()
    request = PlanRequest(
        identity=RunIdentity("bench", secrets.token_hex(8), "run"), source=Place.parse(source),
        destination=Place.parse(base / "clean"), audit=Place.parse(base / "audit"), policy=POLICY, detector="local",
    )  # fmt: skip
    return request, base


def sweep(room: Path) -> None:
    """Remove the folders of earlier runs."""
    for base in room.glob(f"{_RUN}*"):
        shutil.rmtree(base)


def new_attempt() -> Attempt:
    """A new attempt id."""
    return Attempt(secrets.token_hex(16))


def run_whole(
    source: Path, room: Path, *, workers: int | None = None, on_progress: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Run the job into new folders below ``room``; return finalise's result. Raises when an image is not published."""
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.job.batch import run_batch
    from airflow_facefog.job.finalise import finalise
    from airflow_facefog.job.plan import make_plan

    request, base = new_request(source, room)
    refs = make_plan(request, KEYS)
    for ref in refs:
        run_batch(ref["plan"], ref["batch"], attempt=new_attempt(), keys=KEYS, workers=workers, on_progress=on_progress)
    sink = SqlSink(f"sqlite:///{base}/audit/facefog.db")
    result = finalise(refs[0]["plan"], attempt=new_attempt(), keys=KEYS, sql=sink)
    if result["counts"]["published"] != result["counts"]["listed"]:
        raise RuntimeError(f"the benchmark's photos were not all published: {result['counts']}")
    return result
