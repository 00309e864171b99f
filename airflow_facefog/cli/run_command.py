"""``facefog run``: the whole job on this machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_facefog.cli import local_run
from airflow_facefog.cli.detector_option import LOCAL, DetectorOption, read_detector
from airflow_facefog.cli.screen import Advance, progress, say, show
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import load_policy
from airflow_facefog.job.model import Place, PlanRequest
from airflow_facefog.job.record.refog_list import read_list

if TYPE_CHECKING:
    from airflow_facefog.audit.sealed import SigningKey

NOT_ALL = 3


class Layout(StrEnum):
    """Names of published objects: after their source, or after their content only."""

    NAMED = "named"
    CONTENT = "content"


def run(
    source: Annotated[str, typer.Argument()],
    destination: Annotated[str, typer.Argument()],
    audit: Annotated[str, typer.Option(help="Where plans, records and the audit go; apart from both.")],
    audit_sql: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL of the audit tables (default: facefog.db in a local audit).")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy .yaml (default: fog every detection).")] = None,
    detector: DetectorOption = LOCAL,
    layout: Annotated[Layout, typer.Option(help="Object names: after the source, or the content only.")] = Layout.NAMED,
    sources: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take exactly these images below SOURCE: one URI a line.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="Name of the dataset in DESTINATION.")] = "default",
    workers: Annotated[int | None, typer.Option(min=1, help="Threads (default: the CPUs it may use).")] = None,
    signing_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Key that signs the audit (default: signing.key if there is one)."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List and plan; write nothing.")] = False,
    resume: Annotated[str | None, typer.Option(metavar="RUN_KEY", help="Continue a run that was stopped.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 3 when an image was quarantined or failed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Fog SOURCE into DESTINATION: detect, fog, verify, record, publish.

    SOURCE is a folder, file, glob or URI of raw images; DESTINATION gets the fogged ones.
    """
    request = PlanRequest(
        identity=local_run.new_identity(), source=Place.parse(source), destination=Place.parse(destination),
        audit=Place.parse(audit), policy=load_policy(policy), detector=read_detector(detector), layout=layout.value,
        dataset=dataset, sources=read_list(sources) if sources else None,
    )  # fmt: skip
    if dry_run:
        show(local_run.preview_run(request), as_json=as_json)
        return 0
    signer = local_run.local_signing_key(request, signing_key)
    result = _run(request, _keys(request), resume, workers, audit_sql, signer, quiet=as_json)
    show(result, as_json=as_json)
    return NOT_ALL if strict and result["quarantined"] + result["failed"] else 0


def _keys(request: PlanRequest) -> KeyRing:
    found = local_run.local_key(request)
    if found.created:
        say(f"made a master key in {found.path}; keep a copy, without it no id can be matched again")
    return found.ring


def _run(
    request: PlanRequest, keys: KeyRing, resume: str | None, workers: int | None, audit_sql: str | None,
    signer: SigningKey | None, *, quiet: bool,
) -> dict[str, Any]:  # fmt: skip
    sql_url = audit_sql or local_run.default_sql_url(request.audit)
    with progress("fogging", quiet=quiet) as start:

        def planned(run_key: str, listed: int) -> Advance:
            say(f"run {run_key}: {listed} images; if it is stopped, continue with --resume {run_key}")
            return start(listed)

        return local_run.run_job(request, keys, planned, resume=resume, workers=workers, sql_url=sql_url, signer=signer)
