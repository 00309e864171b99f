"""``facefog audit diff-policy``: what another policy would change of what is published, and the list to fog again."""

from __future__ import annotations

import csv
import io
import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from airflow_facefog.cli.private_files import write_private
from airflow_facefog.cli.screen import say, show, show_rows
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.policy import load_policy
from airflow_facefog.job.model import Place
from airflow_facefog.job.record.diff_policy import COLUMNS, Difference

SCREEN = (
    "verdict",
    "reason",
    "newly_fogged",
    "no_longer_fogged",
    "other_method",
    "other_region",
    "source",
    "output_uri",
)
"""Columns of the table on screen; the other forms have all."""


class Form(StrEnum):
    """How the images are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def diff_policy(
    policy: Annotated[Path, typer.Argument()],
    audit: Annotated[str, typer.Option(help="The audit.")],
    since: Annotated[str | None, typer.Option(metavar="DATE", help="Images published since then alone (UTC).")] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN_KEY", help="Images that this run published alone.")] = None,
    destination: Annotated[str | None, typer.Option(metavar="URI", help="This destination alone.")] = None,
    dataset: Annotated[str | None, typer.Option(help="This dataset alone.")] = None,
    clean: Annotated[str | None, typer.Option(help="Where the destination lies now, if it was moved.")] = None,
    refog: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the sources of these images: for `run --sources`.")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="How to write the images.")] = Form.TABLE,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where csv or parquet goes (csv: else stdout).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the published images that POLICY (a new .yaml) would change.

    Recorded detections are replayed; no image is read. What the record cannot decide is `undecided`, and fogged again.
    """
    from airflow_facefog.job.record.diff_policy import diff_policy as find
    from airflow_facefog.job.record.refog_list import write_list

    form = Form.JSON if as_json else form
    if form is Form.PARQUET and output is None:
        raise ConfigurationError("--format parquet needs --output FILE")
    found = find(
        Place.parse(audit), load_policy(policy), since=since, run_key=run, destination=destination, dataset=dataset,
        clean=Place.parse(clean) if clean else None,
    )  # fmt: skip
    if not any(found.totals.values()):
        say("nothing that was asked for is published according to this audit; is it the right one?")
    listed: dict[str, Any] | None = None
    if refog is not None:
        _one_place(found)
        write_list(refog, found.sources)
        listed = {"file": str(refog), "sources": len(found.sources), "unknown": found.totals["unknown_sources"]}
    _write(found, form, output, listed)
    if listed is not None:
        _advise(found, policy, audit, refog)


def _one_place(found: Difference) -> None:
    """A run publishes to one dataset; a list for two would bring images of one into the other."""
    if len({(row["destination"], row["dataset"]) for row in found.images}) > 1:
        raise ConfigurationError(
            "these images lie in several datasets; choose one by --destination and --dataset for --refog"
        )


def _write(found: Difference, form: Form, output: Path | None, listed: dict[str, Any] | None) -> None:
    if form is Form.JSON:
        show({**found.totals, "refog": listed, "images": found.images}, as_json=True)
        return
    say(", ".join(f"{value} {name.replace('_', ' ')}" for name, value in found.totals.items()))
    if form is Form.PARQUET:
        _save(output, _parquet(found.images))
    elif form is Form.CSV:
        _save(output, _csv(found.images).encode())
    elif found.images:
        show_rows(found.images, SCREEN)


def _advise(found: Difference, policy: Path, audit: str, refog: Path | None) -> None:
    if found.totals["unknown_sources"]:
        say(f"{found.totals['unknown_sources']} images have no known source any more and are not in the list")
    if not found.sources:
        say("nothing to fog again")
        return
    place = found.images[0]
    root = found.roots[0] if len(found.roots) == 1 else "SOURCE"
    line = [
        "facefog",
        "run",
        root,
        place["destination"],
        "--audit",
        audit,
        "--policy",
        str(policy),
        "--sources",
        str(refog),
    ]
    line += ["--dataset", place["dataset"]] if place["dataset"] != "default" else []
    say(f"next: {shlex.join(line)} (and the --detector and --layout of the first run)")


def _save(output: Path | None, data: bytes) -> None:
    """The rows hold ids and names of outputs: as restricted as the audit."""
    if output is None:
        sys.stdout.write(data.decode())
        return
    write_private(output, data, "--output")


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = {*(name for name in COLUMNS if name.endswith("fogged")), "other_method", "other_region", "unchanged"}
    schema = pa.schema([(name, pa.int64() if name in {*numbers, "generation"} else pa.string()) for name in COLUMNS])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), sink)
    return bytes(sink.getvalue())
