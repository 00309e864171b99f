"""The three steps of a run in one process: plan, every batch, finalise. Prints nothing."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import PlanMismatchError
from airflow_facefog.job.listing import split_glob
from airflow_facefog.job.model import Attempt, Place, PlanRequest, RunIdentity, open_root_plain
from airflow_facefog.keyfile import FoundKey, find_key, find_or_create_key
from airflow_facefog.signing_keyfile import find_signing_key

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_facefog.audit.sealed import SigningKey
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.core.keys import KeyRing

SQL_FILE = "facefog.db"
COUNTS = ("listed", "published", "quarantined", "failed", "skipped", "detections", "fogged")


Planned = Callable[[str, int], Callable[[int], None]]
"""Called once with run key and number of images; returns what is called with the number of images that ended."""


def new_identity() -> RunIdentity:
    """A run of the command line: ``cli__<utc>__<random>``."""
    return RunIdentity("cli", f"cli__{datetime.now(UTC):%Y%m%dT%H%M%S}__{secrets.token_hex(4)}", "run")


def local_key(request: PlanRequest) -> FoundKey:
    """The user's master key, made on first use; refused inside source, destination or audit."""
    return find_or_create_key(_folders(request))


def local_signing_key(request: PlanRequest, named: Path | None) -> SigningKey | None:
    """The key that signs this run, or None: unsigned; refused inside source, destination or audit."""
    return find_signing_key(named, _folders(request))


def preview_run(request: PlanRequest) -> dict[str, Any]:
    """What a run would do; writes nothing, not even a key. Raises as the plan step does."""
    from airflow_facefog.core.keys import KEY_BYTES, KeyRing
    from airflow_facefog.job.plan import preview

    found = find_key(_folders(request))
    keys = found.ring if found else KeyRing.from_master(secrets.token_bytes(KEY_BYTES))
    return preview(request, keys)


def run_job(
    request: PlanRequest,
    keys: KeyRing,
    planned: Planned,
    *,
    resume: str | None,
    workers: int | None,
    sql_url: str | None,
    signer: SigningKey | None = None,
) -> dict[str, Any]:
    """Plan (or find the plan of ``resume``), run all batches in order, finalise.

    Returns {"run_key", "listed", "published", "quarantined", "failed", "skipped", "detections", "fogged",
    "manifest_uri", "signed", "chain_head", "seconds"}. Raises as the three steps do; ConfigurationError when
    ``resume`` names no run, PlanMismatchError when it was planned with other settings.
    """
    from airflow_facefog.job.batch import run_batch
    from airflow_facefog.job.finalise import finalise
    from airflow_facefog.job.plan import make_plan

    started = perf_counter()
    sql = _sink(sql_url)
    batches = _planned_before(request, resume) if resume else make_plan(request, keys)
    plan = batches[0]["plan"]
    run_key = plan.rsplit("/", 3)[1]
    advance = planned(run_key, sum(entry["n"] for entry in batches))
    for entry in batches:
        run_batch(entry["plan"], entry["batch"], attempt=_attempt(), keys=keys, workers=workers, on_progress=advance)
    result = finalise(plan, attempt=_attempt(), keys=keys, sql=sql, signer=signer)
    seconds = round(perf_counter() - started, 3)
    counts = {name: result["counts"][name] for name in COUNTS}
    sealed_as = {name: result[name] for name in ("manifest_uri", "signed", "chain_head")}
    return {"run_key": run_key, **counts, **sealed_as, "seconds": seconds}


def _planned_before(request: PlanRequest, run_key: str) -> list[dict[str, Any]]:
    """The batches of a plan that this request would make again; its source was listed then and is not listed anew."""
    from airflow_facefog.detectors import normalise
    from airflow_facefog.job.opening import open_plan
    from airflow_facefog.job.plan import find_plan

    batches = find_plan(request.audit, run_key)
    plan, _ = open_plan(batches[0]["plan"], open_root_plain, None)
    pairs = {
        "destination": (request.destination.uri, plan.destination.uri),
        "policy": (request.policy, plan.policy),
        "detector": (normalise(request.detector), plan.detector),
        "layout": (request.layout, plan.layout),
    }
    different = [name for name, (asked, planned) in pairs.items() if asked != planned]
    if different:
        raise PlanMismatchError(
            f"run {run_key} was planned with another {', '.join(different)}; repeat the command that started it and add --resume"
        )
    return batches


def default_sql_url(audit: Place) -> str | None:
    """``sqlite:///<audit>/facefog.db`` for a local audit, else None."""
    if not audit.is_local:
        return None
    from sqlalchemy import URL

    return str(URL.create("sqlite", database=f"{audit.local_path}/{SQL_FILE}"))


def _attempt() -> Attempt:
    return Attempt(secrets.token_hex(16))


def _sink(url: str | None) -> SqlSink | None:
    if url is None:
        return None
    from airflow_facefog.audit.sql import SqlSink

    return SqlSink(url)


def _folders(request: PlanRequest) -> list[str | None]:
    places = (split_glob(request.source)[0], request.destination, request.audit)
    return [place.local_path if place.is_local else None for place in places]
