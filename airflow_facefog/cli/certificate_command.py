"""``facefog certificate``: make the certificate of one image, or check one offline."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Annotated

import typer

from airflow_facefog.cli.screen import say, show, show_rows
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.job.model import Place

PREFIX = re.compile(r"[0-9a-f]{8,64}")


def certificate(
    image: Annotated[str | None, typer.Argument(metavar="[IMAGE]", help="Fogged or raw file, or an id.")] = None,
    audit: Annotated[str | None, typer.Option(help="Make the certificate from this audit.")] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN_KEY", help="The row of this run, not of the newest.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it here.")] = None,
    check: Annotated[Path | None, typer.Option(metavar="FILE", help="Check this certificate.")] = None,
    public_key: Annotated[
        list[Path] | None, typer.Option(metavar="PEM", help="Key that must have signed it; may be repeated.")
    ] = None,
    fogged: Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="Is it the certificate of this file?")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Make the certificate of one image from AUDIT, or check one.

    IMAGE is the fogged file, the raw file, or the first 8 or more digits of image_id, source_ref or the output's sha256.
    """
    if check is not None and image is None and audit is None and run is None and output is None:
        return _check(check, public_key, fogged, as_json=as_json)
    if check is not None or image is None or audit is None or public_key or fogged:
        raise ConfigurationError("give IMAGE and --audit to make a certificate, or --check FILE alone to check one")
    _make(image, Place.parse(audit), run, output, as_json=as_json)
    return 0


def _make(image: str, place: Place, run_key: str | None, output: Path | None, *, as_json: bool) -> None:
    from airflow_facefog.audit.certificate import find_image, make_certificate
    from airflow_facefog.audit.ledger import open_ledger
    from airflow_facefog.job.model import open_root_plain
    from airflow_facefog.job.plan import open_store

    store = open_store(place, open_root_plain)
    found = find_image(store, open_ledger(store), _ids(image, place), run_key)
    data = make_certificate(store, found)
    signed = found.run.manifest["signed"] is True
    if found.others:
        say(f"{found.others} more images of this run fit; their source_ref tells them apart")
    if not signed:
        say("the run is not signed: the certificate is consistent, but does not prove who made it")
    if output is None:
        typer.echo(data.decode())
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        raise ConfigurationError(f"--output cannot be written ({error.strerror}); give another file") from None
    about = {"certificate": str(output), "run_key": found.run.run_key, "generation": found.run.generation}
    show({**about, "status": found.row["status"], "image_id": found.row["image_id"], "signed": signed}, as_json=as_json)


def _ids(image: str, place: Place) -> list[str]:
    """What the audit may know the image by: of a file its sha256 and, with the master key, its image_id."""
    from airflow_facefog.keyfile import find_key

    if not os.path.isfile(image):  # a name too long for any file is no error here
        if not PREFIX.fullmatch(image):
            raise ConfigurationError(
                "IMAGE is no file that is there, and no id: 8 to 64 digits of image_id, source_ref or output_sha256"
            )
        return [image]
    digest = _sha256(Path(image))
    key = find_key([place.local_path if place.is_local else None])
    return [digest] if key is None else [digest, key.ring.image_id_of(bytes.fromhex(digest))]


def _check(file: Path, public_key: list[Path] | None, fogged: Path | None, *, as_json: bool) -> int:
    from airflow_facefog.audit.certificate_check import NOT_PROVEN, check_certificate, summary
    from airflow_facefog.audit.sealed import PublicKey
    from airflow_facefog.cli.verify_command import read_public_keys

    keys = [PublicKey.from_pem(pem.encode()) for pem in read_public_keys(public_key)]
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"the certificate cannot be read ({error.strerror})") from None
    found = check_certificate(data, {key.key_id: key for key in keys}, _sha256(fogged) if fogged else None)
    rows = [{"check": f.check, "result": f.verdict.value, "detail": f.detail} for f in found.findings]
    about = summary(found.document) if found.holds and found.document else None
    if as_json:
        about = {"holds": found.holds, "authentic": found.authentic, "certifies": about, "checks": rows}
        show({**about, "not_proven": NOT_PROVEN}, as_json=True)
        return 0 if found.holds else 1
    show_rows(rows, ("check", "result", "detail"))
    if about is not None:
        show(about, as_json=False)
        for line in NOT_PROVEN:
            typer.echo(f"not proven: {line}")
    say(_summary(holds=found.holds, authentic=found.authentic))
    return 0 if found.holds else 1


def _summary(*, holds: bool, authentic: bool) -> str:
    if not holds:
        return "the certificate does not hold"
    if authentic:
        return "the certificate holds, and is signed by a key that you trust"
    return "the certificate is consistent; without a trusted signature that does not prove who made it"


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"the image file cannot be read ({error.strerror})") from None
