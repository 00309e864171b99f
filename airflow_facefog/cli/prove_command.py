"""``facefog prove``: is everything in a store a recorded output?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_facefog.cli.private_files import write_private
from airflow_facefog.cli.screen import say, show, show_rows
from airflow_facefog.cli.verify_command import PUBLIC_KEY_ENV, read_public_keys
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.job.model import Place
from airflow_facefog.job.places import is_inside

if TYPE_CHECKING:
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.job.record.prove_store import ProofReport

SHOWN = 50
"""Findings printed as a table; the report files have more."""

COLUMNS = ("class", "key", "detail")

IgnoreOption = Annotated[
    list[str] | None, typer.Option(metavar="GLOB", help="Keys to leave out (`*` also matches `/`); repeatable.")
]
PublicKeyOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="PEM", help=f"Public key that may have signed; repeatable (default: {PUBLIC_KEY_ENV})."),
]
HeadOption = Annotated[
    list[str] | None, typer.Option(metavar="SEQ:SHA256", help="A chain head that was written down; repeatable.")
]


def prove(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Folder or URI: a destination, or a copy of one.")],
    audit: Annotated[str, typer.Option(metavar="AUDIT", help="Folder or URI of the audit.")],
    output_json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as JSON.")] = None,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one row per object.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as one HTML page.")] = None,
    ignore: IgnoreOption = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="Without master key: raw images go unrecognised.")] = False,
    public_key: PublicKeyOption = None,
    head: HeadOption = None,
    require_signed: Annotated[bool, typer.Option("--require-signed", help="An unsigned audit proves nothing.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads (default: the CPUs it may use).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Put every object in STORE into one class. Exit 1 unless each is proven or our own bookkeeping.

    Proven: its sha256 is a recorded output. Everything else is decoded and compared: a raw image, made from one, or an
    orphan. Nothing is written but the reports; they hold object names and are as restricted as the audit.
    """
    from airflow_facefog.job.record.prove_store import ProveRequest, prove_store

    place, record = Place.parse(store), Place.parse(audit)
    files = {"json": output_json, "parquet": parquet, "html": html}
    for path in filter(None, files.values()):
        _check_apart(path, place)
    request = ProveRequest(
        place, record, tuple(ignore or ()), read_public_keys(public_key), tuple(head or ()), require_signed, workers
    )  # fmt: skip
    report = prove_store(request, keys=None if no_key else _keys(place, record))
    _write(report, files)
    if as_json:
        show(report.summary, as_json=True)
    else:
        _print(report.document, report.summary)
    return 0 if report.clean else 1


def _keys(store: Place, audit: Place) -> KeyRing | None:
    """The master key that is there; none is made."""
    from airflow_facefog.keyfile import find_key

    found = find_key([place.local_path if place.is_local else None for place in (store, audit)])
    return None if found is None else found.ring


def _check_apart(path: Path, store: Place) -> None:
    if is_inside(Place.parse(path), store):
        raise ConfigurationError("the report would lie in the store that it is about; write it elsewhere")


def _write(report: ProofReport, files: Mapping[str, Path | None]) -> None:
    """Readable by the user alone: object keys may be names."""
    contents = {
        "json": lambda: json.dumps(report.document, indent=1).encode(),
        "parquet": lambda: report.parquet,
        "html": lambda: report.html().encode(),
    }
    for name, path in files.items():
        if path is not None:
            write_private(path, contents[name](), "a report")


def _print(report: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
    findings = report["findings"]
    if findings:
        show_rows(findings[:SHOWN], COLUMNS)
    hidden = len(findings) + report["findings_left_off"] - min(len(findings), SHOWN)
    if hidden:
        say(f"{hidden} more findings are not shown; --parquet writes one row per object")
    for note in report["notes"]:
        say(note)
    show(summary, as_json=False)
