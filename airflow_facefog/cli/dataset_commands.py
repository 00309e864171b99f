"""``facefog ls`` and ``facefog export``: what was published, how the newest run ended, the published set for other tools."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from airflow_facefog.cli.published import dataset_rows, newest_run
from airflow_facefog.cli.screen import say, show, show_rows
from airflow_facefog.core.records import Status
from airflow_facefog.job.model import Place
from airflow_facefog.job.record.exports.export import Form
from airflow_facefog.job.record.exports.export import export as export_to
from airflow_facefog.job.record.exports.samples import Disclose
from airflow_facefog.job.record.exports.webdataset import SHARD_BYTES
from airflow_facefog.publish.dataset import DEFAULT

IMAGE_COLUMNS = ("status", "reason", "n_detections", "n_fogged", "source_uri")
DATASET_COLUMNS = ("format", "width", "height", "size", "uri")
"""The JSON form has all columns."""


DatasetOption = Annotated[str, typer.Option(help="Name of the dataset in CLEAN.")]


class Names(StrEnum):
    """What exported files are called."""

    SOURCE = "source"


def list_images(
    clean: Annotated[str, typer.Argument()],
    status: Annotated[Status | None, typer.Option(help="Images of the newest run that ended so.")] = None,
    dataset: DatasetOption = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List what is published, or how the newest run ended.

    CLEAN is a destination of `facefog run` or of a Dag.
    """
    place = Place.parse(clean)
    if status is None:
        seq, rows = dataset_rows(place, dataset)
        about: dict[str, object] = {"snapshot_seq": seq}
        columns = DATASET_COLUMNS
    else:
        run = newest_run(place, dataset)
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
    form: Annotated[
        Form, typer.Option("--format", help="plain: files alone; the others with their index.")
    ] = Form.PLAIN,
    dataset: DatasetOption = DEFAULT,
    audit: Annotated[
        str | None, typer.Option(help="Where detections come from (default: the dataset's audit).")
    ] = None,
    detections: Annotated[
        Disclose, typer.Option(help="What leaves the audit: fogged regions, all that was seen, or nothing.")
    ] = Disclose.FOGGED,
    shard_bytes: Annotated[int, typer.Option(min=1, help="webdataset: size of a shard, about.")] = SHARD_BYTES,
    names: Annotated[Names, typer.Option(help="What the files are called: like their sources.")] = Names.SOURCE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Copy the published images to plain names, or in a form that other tools read.

    CLEAN is a destination of `facefog run` or of a Dag; PLAIN is an empty folder, or one that the same export began.
    Every hash is checked on the way.
    """
    del names  # there is one way so far; the option keeps scripts readable
    done = export_to(
        Place.parse(clean), Place.parse(plain), form=form, dataset=dataset, audit=Place.parse(audit) if audit else None,
        disclose=detections, shard_bytes=shard_bytes,
    )  # fmt: skip
    show(done, as_json=as_json)
