"""``facefog audit load | migrate | role``: the audit's tables in an SQL database."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from airflow_facefog.cli.screen import say, show
from airflow_facefog.job.model import Place

SQL_VARIABLE = "FACEFOG_AUDIT_SQL"
"""Environment variable of the URL: command lines are seen by every user of a machine."""

Url = Annotated[str, typer.Argument(metavar="URL", envvar=SQL_VARIABLE, show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def load(
    audit: Annotated[str, typer.Argument()],
    url: Url,
    runs: Annotated[
        list[str] | None, typer.Option("--run", metavar="RUN_KEY", help="Only this run; repeatable.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="WHEN", help="Only runs listed since this day or time.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write runs anew that are there: repairs SQL.")] = False,
    as_json: Json = False,
) -> None:
    """Write every sealed run of AUDIT that the database does not have yet.

    URL is an SQLAlchemy URL such as postgresql+psycopg://user@host/name or sqlite:////folder/audit.db. Tables and views
    are created, and those of older releases are migrated. Loading again changes nothing; runs of which an erasure or expiry
    took rows are written anew without them.
    """
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.job.record.load_audit import load_audit

    sink = SqlSink(url)
    try:
        done = load_audit(Place.parse(audit), sink, runs=runs or None, since=since, replace=replace)
    finally:
        sink.close()
    if not done.loaded + done.present:
        say("no sealed run was asked for, or the audit holds none")
    show(asdict(done), as_json=as_json)


def migrate(url: Url, as_json: Json = False) -> None:
    """Create the audit's tables and views in a database, or bring those of an older release up to date.

    Loading and finalising do the same by themselves; use this where they may not create anything. No row is lost.
    """
    from airflow_facefog.audit.sql import SqlSink

    sink = SqlSink(url)
    try:
        done = sink.migrate()
    finally:
        sink.close()
    show(asdict(done), as_json=as_json)


def role(
    name: Annotated[str, typer.Option(help="Role to create.")] = "facefog_reader",
    schema: Annotated[str, typer.Option(help="Schema of the audit's tables.")] = "public",
    as_json: Json = False,
) -> None:
    """Print the script of a PostgreSQL role that may read the audit, but not the names of source files.

    Nothing is executed: read it, then give it to psql as the owner of the tables.
    """
    from airflow_facefog.audit.roles import role_script

    script = role_script(name, schema)
    if as_json:
        show({"script": script}, as_json=True)
        return
    say("run it as the owner of the tables, after `facefog audit migrate`")
    typer.echo(script, nl=False)
