"""``facefog audit query``, ``report``, ``show`` and ``check``: ask the record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from airflow_facefog.audit.query import TIMEOUT_S
from airflow_facefog.cli.answers import TABLE_ROWS, Format, give, printable, read_params
from airflow_facefog.cli.screen import say, show, show_rows
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.job.model import Place
from airflow_facefog.job.record.ask_audit import OpenAudit, check_audit, open_audit, tell_story
from airflow_facefog.keyfile import find_key

AuditOption = Annotated[str | None, typer.Option("--audit", help="The audit: a folder or URI with its Parquet parts.")]
SqlOption = Annotated[str | None, typer.Option("--sql", help="SQLAlchemy URL of the audit's database, asked instead.")]
ParamOption = Annotated[
    list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="Value of :NAME; repeatable.")
]
FormatOption = Annotated[Format, typer.Option("--format", help="How rows come out.")]
OutputOption = Annotated[Path | None, typer.Option("-o", "--output", help="File to write instead of printing.")]
LimitOption = Annotated[int, typer.Option(min=1, help="Rows of a table on the screen.")]
TimeoutOption = Annotated[float, typer.Option(min=0.1, help="Seconds that one question may take.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@contextmanager
def asking(audit: str | None, sql: str | None, timeout: float = TIMEOUT_S) -> Iterator[OpenAudit]:
    """The audit that the options name."""
    with open_audit(Place.parse(audit) if audit else None, sql, timeout_s=timeout) as opened:
        if opened.ledger is not None and not opened.ledger.runs:
            say("no sealed run is recorded here")
        yield opened


def query(
    statement: Annotated[str, typer.Argument()],
    audit: AuditOption = None,
    sql: SqlOption = None,
    param: ParamOption = None,
    form: FormatOption = Format.TABLE,
    output: OutputOption = None,
    limit: LimitOption = TABLE_ROWS,
    timeout: TimeoutOption = TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Ask the audit one SQL question.

    STATEMENT is SQL that reads: one SELECT, WITH or VALUES over the tables facefog_* and the views facefog_v_*.
    """
    with asking(audit, sql, timeout) as opened:
        answered = opened.engine.stream(statement, read_params(param or []))
        give(answered, Format.JSON if as_json else form, output, limit)


def report(
    name: Annotated[str | None, typer.Argument()] = None,
    list_all: Annotated[
        bool, typer.Option("--list", help="Name all reports with their questions and parameters.")
    ] = False,
    audit: AuditOption = None,
    sql: SqlOption = None,
    since: Annotated[str | None, typer.Option(help="From this day or time on (UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="Before this day or time (UTC).")] = None,
    param: ParamOption = None,
    form: FormatOption = Format.TABLE,
    output: OutputOption = None,
    limit: LimitOption = TABLE_ROWS,
    timeout: TimeoutOption = TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Ask a named question.

    NAME is one of those that --list shows.
    """
    from airflow_facefog.audit.reports import report_named, run_report

    if list_all or name is None:
        _list_reports(as_json=as_json)
        return
    wanted = report_named(name)
    spans = {key: value for key, value in (("since", since), ("until", until)) if value is not None}
    given = {**read_params(param or []), **spans}
    wanted.values(given)  # wrong parameters are told before a store is opened
    with asking(audit, sql, timeout) as opened:
        give(run_report(opened.engine, wanted, given), Format.JSON if as_json else form, output, limit)


def _list_reports(*, as_json: bool) -> None:
    from airflow_facefog.audit.reports import REPORTS

    rows = [
        {"name": one.name, "parameters": " ".join(param.name for param in one.params), "question": one.question}
        for one in REPORTS.values()
    ]
    if as_json:
        show({"reports": rows}, as_json=True)
    else:
        show_rows(rows, ("name", "parameters", "question"))


def show_image(
    image: Annotated[str, typer.Argument()],
    audit: AuditOption = None,
    sql: SqlOption = None,
    names: Annotated[bool, typer.Option("--names", help="Say which source it was, while that is still kept.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell one image's whole story.

    IMAGE is a raw file (its id needs the master key), a fogged file, or 8 to 64 hex digits of an image_id, an output's
    sha256 or a source_ref.
    """
    from airflow_facefog.cli.story_text import lines

    place = Place.parse(audit) if audit else None
    found = find_key([place.local_path] if place is not None and place.is_local else [])
    with asking(audit, sql) as opened:
        told = tell_story(opened, image, keys=found.ring if found else None, names=names)
    if as_json:
        show(told, as_json=True)
        return
    for line in lines(told):
        typer.echo(line)


def check(
    names: Annotated[list[str] | None, typer.Argument()] = None,
    audit: AuditOption = None,
    sql: SqlOption = None,
    option: Annotated[list[str] | None, typer.Option(metavar="NAME=NUMBER", help="A limit; repeatable.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Ask every check, not only the standard ones.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Ask named assertions; exit 1 when one does not hold.

    NAMES are checks; without one, the standard ones are asked.
    """
    from airflow_facefog.audit.checks import CHECKS, CheckOptions

    if names and everything:
        raise ConfigurationError("name checks or ask for --all, not both")
    options = CheckOptions.from_mapping(read_params(option or []))
    with asking(audit, sql) as opened:
        here = [one.name for one in CHECKS.values() if opened.store is not None or not one.needs_parquet]
        result = check_audit(opened, here if everything else names or (), options)
    if as_json:
        show(result, as_json=True)
    else:
        _print_checks(result)
    return 0 if result["passed"] else 1


def _print_checks(result: dict[str, object]) -> None:
    checks = result["checks"]
    assert isinstance(checks, list)
    show_rows(
        [{**one, "result": "ok" if one["passed"] else "FAILED"} for one in checks],
        ("name", "result", "rows", "question"),
    )
    for one in checks:
        if one["note"]:
            say(f"{one['name']}: {one['note']}")
        for row in one["detail"]:
            line = ", ".join(f"{key}={value}" for key, value in row.items() if value is not None)
            say(f"{one['name']}: {printable(line)}")
