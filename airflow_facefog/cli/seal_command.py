"""``facefog audit seal`` and ``facefog audit head``: what lies outside of the chain, and where the chain ends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from airflow_facefog.cli.screen import say, show
from airflow_facefog.job.model import Place, open_root_plain
from airflow_facefog.job.places import open_existing

Audit = Annotated[str, typer.Argument(metavar="AUDIT", help="Folder or URI of the audit.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def seal(
    audit: Audit,
    signing_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Key that signs (default: signing.key if there is one).")
    ] = None,
    as_json: Json = False,
) -> int:
    """Append sealed runs that are not in the chain: those of older releases, and what a crash left.

    A run whose parts are not what its manifest names is not appended; then the exit code is 1.
    """
    from airflow_facefog.job.sealing import seal_outsiders
    from airflow_facefog.signing_keyfile import find_signing_key

    place = Place.parse(audit)
    signer = find_signing_key(signing_key, [place.local_path] if place.is_local else [])
    result = seal_outsiders(open_existing(place, open_root_plain), signer)
    for problem in result["damaged"]:
        say(problem)
    show(result if as_json else {**result, "chained": len(result["chained"]), "damaged": len(result["damaged"])},
         as_json=as_json)  # fmt: skip
    return 1 if result["damaged"] else 0


def head(audit: Audit, as_json: Json = False) -> None:
    """Print the newest entry of the chain, to keep it where whoever writes the audit cannot change it."""
    from airflow_facefog.audit.chain import read_head

    found = read_head(open_existing(Place.parse(audit), open_root_plain))
    show({"chain_head": str(found), "seq": found.seq, "sha256": found.sha256}, as_json=as_json)
