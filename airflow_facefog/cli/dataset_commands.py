"""``facefog ls`` and ``facefog export``: what was published, how the newest run ended, plain names."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from airflow_facefog.cli.published import dataset_rows, export_dataset, newest_run
from airflow_facefog.cli.screen import say, show, show_rows
from airflow_facefog.core.records import Status
from airflow_facefog.job.model import Place

IMAGE_COLUMNS = ("status", "reason", "n_detections", "n_fogged", "source_uri")
DATASET_COLUMNS = ("format", "width", "height", "size", "uri")
"""The JSON form has all columns."""


class Names(StrEnum):
    """What exported files are called."""

    SOURCE = "source"


def list_images(
    clean: Annotated[str, typer.Argument()],
    status: Annotated[Status | None, typer.Option(help="Images of the newest run that ended so.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List what is published, or how the newest run ended.

    CLEAN is a destination of `facefog run` or of a Dag.
    """
    place = Place.parse(clean)
    if status is None:
        seq, rows = dataset_rows(place)
        about: dict[str, object] = {"snapshot_seq": seq}
        columns = DATASET_COLUMNS
    else:
        run = newest_run(place)
        rows = [row for row in run.images if row["status"] == status]
        about = {"run_key": run.run_key, "generation": run.generation, "run_status": run.state}
        columns = IMAGE_COLUMNS
    if as_json:
        show({**about, "images": rows}, as_json=True)
        return
    say(", ".join(f"{name} {value}" for name, value in about.items()) + f": {len(rows)} images")
    show_rows(rows, columns)


def export(
    clean: Annotated[str, typer.Argument()],
    plain: Annotated[str, typer.Argument()],
    names: Annotated[Names, typer.Option(help="What the files are called: like their sources.")] = Names.SOURCE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Copy the published images to plain names.

    CLEAN is a destination of `facefog run` or of a Dag; PLAIN is an empty folder, or one that an earlier export filled.
    Every hash is checked on the way.
    """
    del names  # there is one way so far; the option keeps scripts readable
    show(export_dataset(Place.parse(clean), Place.parse(plain)), as_json=as_json)
