"""``facefog policy show|check|schema``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
import yaml

from airflow_facefog.cli.screen import show
from airflow_facefog.core.policy import FogPolicy, load_policy

app = typer.Typer(help="Look at, check or describe a fog policy.", no_args_is_help=True, rich_markup_mode=None)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("show")
def show_policy(
    file: Annotated[Path | None, typer.Argument()] = None,
    as_json: AsJson = False,
) -> None:
    """Print a policy with every default filled in.

    FILE is a policy .yaml; without it the default policy is printed: the file to start from.
    """
    policy = load_policy(file).canonical()
    typer.echo(json.dumps(policy) if as_json else yaml.safe_dump(policy, sort_keys=False).rstrip())


@app.command("check")
def check(file: Annotated[Path, typer.Argument()], as_json: AsJson = False) -> None:
    """Check a policy .yaml.

    Exit 2 with the reason when it is refused.
    """
    policy = load_policy(file)
    result = {"ok": True, "name": policy.name, "policy_hash": policy.policy_hash(), "needs_key": policy.needs_key}
    show(result, as_json=as_json)


@app.command("schema")
def schema(as_json: AsJson = False) -> None:
    """Print the JSON schema of a policy.

    For editors and for checks elsewhere.
    """
    typer.echo(json.dumps(FogPolicy.model_json_schema(), indent=None if as_json else 2))
