"""``facefog detect``: what a detector sees, as a table; for choosing thresholds and comparing models."""

from __future__ import annotations

from typing import Annotated

import typer

from airflow_facefog.cli.detect_table import detect_to_parquet
from airflow_facefog.cli.detector_option import LOCAL, DetectorOption, read_detector
from airflow_facefog.cli.screen import progress, say, show
from airflow_facefog.job.model import Place


def detect(
    source: Annotated[str, typer.Argument()],
    output: Annotated[str, typer.Option(metavar="FILE.parquet", help="Where the table goes; replaced if it is there.")],
    detector: DetectorOption = LOCAL,
    allow_remote_inference: Annotated[
        bool,
        typer.Option("--allow-remote-inference", help="The raw images may be sent to a detector outside this network."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write every detection in SOURCE to a Parquet table.

    SOURCE is a folder, file, glob or URI of images. Nothing is fogged or published.
    """
    spec = read_detector(detector)
    with progress("looking", quiet=as_json) as start:
        result = detect_to_parquet(
            Place.parse(source), Place.parse(output), spec, start=start, allow_remote=allow_remote_inference
        )
    refused = sum(result["refused"].values())
    if refused:
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(result["refused"].items()))
        say(f"{refused} of {result['listed']} images could not be looked at ({reasons}); they have no rows")
    show(result, as_json=as_json)
