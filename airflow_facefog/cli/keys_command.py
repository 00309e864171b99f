"""``facefog keys new``: the master key, or with ``--signing`` the key that signs the audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from airflow_facefog import keyfile, signing_keyfile
from airflow_facefog.cli.screen import show

app = typer.Typer(help="The master key and the signing key.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    pass


@app.command("new")
def new(
    file: Annotated[
        Path | None, typer.Option("--file", help="Where to write it (default: where `run` looks for it).")
    ] = None,
    signing: Annotated[bool, typer.Option("--signing", help="Make a key that signs the audit (Ed25519).")] = False,
    print_key: Annotated[bool, typer.Option("--print", help="Print the key too, for an Airflow connection.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a new master key, or with --signing a signing key, and say where it is.

    A file that only you may read; a key that is there is never replaced. The public half of a signing key goes beside it,
    as .pub: give it to whoever verifies the audit.
    """
    show(_signing_key(file, print_key) if signing else _master_key(file, print_key), as_json=as_json)


def _master_key(file: Path | None, print_key: bool) -> dict[str, Any]:
    found = keyfile.create_key(file or keyfile.key_path())
    result = {"path": str(found.path), "key_id": found.ring.key_id}
    return {**result, "key": found.master.hex()} if print_key else result


def _signing_key(file: Path | None, print_key: bool) -> dict[str, Any]:
    made = signing_keyfile.create_signing_key(file or signing_keyfile.signing_key_path())
    result = {"path": str(made.path), "public_path": str(made.public_path), "key_id": made.key.key_id}
    return {**result, "key": made.key.pem.decode()} if print_key else result
