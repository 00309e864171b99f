"""``facefog audit verify``: is the record what was sealed?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from airflow_facefog.cli.screen import say, show, show_rows
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.job.model import Place

PUBLIC_KEY_ENV = "FACEFOG_PUBLIC_KEY_FILE"
SHOWN = 50
"""Findings printed as a table; ``--json`` prints more."""

COLUMNS = ("level", "code", "object", "detail")


def verify(
    audit: Annotated[str, typer.Argument(metavar="AUDIT", help="Folder or URI of the audit.")],
    deep: Annotated[bool, typer.Option("--deep", help="Also leaves, every published object, snapshots.")] = False,
    public_key: Annotated[
        list[Path] | None,
        typer.Option(metavar="PEM", help=f"Public key that may have signed; repeatable (default: {PUBLIC_KEY_ENV})."),
    ] = None,
    head: Annotated[
        list[str] | None, typer.Option(metavar="SEQ:SHA256", help="A chain head that was written down; repeatable.")
    ] = None,
    require_signed: Annotated[bool, typer.Option("--require-signed", help="Unsigned documents are errors.")] = False,
    sql: Annotated[
        str | None, typer.Option(metavar="URL", help="SQL audit to compare (default: facefog.db in a local audit).")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Do not read parts of runs before this day (YYYY-MM-DD, UTC).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Verify AUDIT: chain, signatures, manifests, parts, counts, policies, SQL. Exit 1 when something is wrong."""
    from airflow_facefog.job.record.verify_audit import VerifyRequest, verify_audit

    place = Place.parse(audit)
    request = VerifyRequest(
        place, read_public_keys(public_key), tuple(head or ()), require_signed, since, deep
    )  # fmt: skip
    result = verify_audit(request, sql=_sink(place, sql))
    if as_json:
        show(result, as_json=True)
    else:
        _print(result)
    return 0 if result["verified"] else 1


def read_public_keys(given: list[Path] | None) -> tuple[str, ...]:
    """PEM texts of these files, or of the one that ``FACEFOG_PUBLIC_KEY_FILE`` names. Raises ConfigurationError."""
    named = os.environ.get(PUBLIC_KEY_ENV)
    paths = given or ([Path(named).expanduser()] if named else [])
    try:
        return tuple(path.read_text("ascii", "replace") for path in paths)
    except OSError as error:
        raise ConfigurationError(f"a public key file cannot be read ({error.strerror}); give its path") from None


def _sink(place: Place, url: str | None) -> Any:
    """The SQL audit that was named, or the one beside a local audit."""
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.cli.local_run import SQL_FILE, default_sql_url

    if url is None and place.is_local and Path(place.local_path, SQL_FILE).is_file():
        url = default_sql_url(place)
    return None if url is None else SqlSink(url)


def _print(result: Mapping[str, Any]) -> None:
    findings = result["findings"]
    if findings:
        show_rows(findings[:SHOWN], COLUMNS)
    hidden = result["errors"] + result["notices"] - min(len(findings), SHOWN)
    if hidden:
        say(f"{hidden} more findings are not shown; --json prints more of them")
    show({name: value for name, value in result.items() if name != "findings"}, as_json=False)
