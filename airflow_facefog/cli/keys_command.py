"""``facefog keys new``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from airflow_facefog import keyfile
from airflow_facefog.cli.screen import show

app = typer.Typer(help="The master key.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    pass


@app.command("new")
def new(
    file: Annotated[
        Path | None, typer.Option("--file", help="Where to write it (default: FACEFOG_KEY_FILE, or the config folder).")
    ] = None,
    print_key: Annotated[bool, typer.Option("--print", help="Print the key too, for an Airflow connection.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a new master key and say where it is.

    32 bytes in a file that only you may read; a key that is there is never replaced.
    """
    found = keyfile.create_key(file or keyfile.key_path())
    result = {"path": str(found.path), "key_id": found.ring.key_id}
    if print_key:
        result["key"] = found.master.hex()
    show(result, as_json=as_json)
