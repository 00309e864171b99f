"""``facefog whois``, ``facefog erase`` and ``facefog audit expire``: who was in it, take it out, and what is too old."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_facefog.cli.local_run import default_sql_url
from airflow_facefog.cli.refog_option import Wish, refog_one
from airflow_facefog.cli.screen import say, show, show_rows
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.job.model import Place

if TYPE_CHECKING:
    from airflow_facefog.audit.sealed import SigningKey
    from airflow_facefog.audit.sql import SqlSink

AuditOption = Annotated[str, typer.Option("--audit", metavar="AUDIT", help="Folder or URI of the audit.")]
AuditArgument = Annotated[str, typer.Argument(metavar="AUDIT", help="Folder or URI of the audit.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Sql = Annotated[
    str | None,
    typer.Option("--sql", metavar="URL", help="SQL audit (default: facefog.db in a local audit, if it is there)."),
]
Signing = Annotated[
    Path | None,
    typer.Option("--signing-key", metavar="FILE", help="Key that signs (default: signing.key if there is one)."),
]
Keyless = Annotated[bool, typer.Option("--keyless", help="The audit was made without a master key.")]
Actor = Annotated[str | None, typer.Option(help="Who asked; stays in the audit for ever.")]
Days = float | None

FOUND = ("run_key", "generation", "started_at", "status", "output_key", "destination")


def whois(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Raw or published files, URIs or ids.")],
    audit: AuditOption, keyless: Keyless = False, as_json: Json = False,
) -> int:  # fmt: skip
    """Say which runs met a file, and what became of it. Exit 1 when one of the files is in no run."""
    from airflow_facefog.job.record.whois import whois as look_up

    place = Place.parse(audit)
    keys = _keys(place, keyless)
    found = {file: look_up(place, file, keys=keys) for file in files}
    if as_json:
        answers = [
            {"file": file, "found": bool(one.rows), "erased": one.erased, "image_ids": one.image_ids, "key_id": one.key_id,
             "run_key_ids": one.run_key_ids, "expired_runs": one.expired, "rows": one.rows}
            for file, one in found.items()
        ]  # fmt: skip
        typer.echo(json.dumps({"files": answers}, ensure_ascii=True))
    for file, one in found.items():
        if one.rows and not as_json:
            show_rows(one.rows, FOUND)
        if not one.rows:
            say(_not_found(file, one))
    return 0 if all(one.rows for one in found.values()) else 1


def _not_found(file: str, one: Any) -> str:
    if one.erased:
        return f"{file}: was erased from this audit"
    if not one.run_key_ids:
        return f"{file}: not found; this audit has no run"
    text = f"{file}: not found under master key {one.key_id}"
    if one.expired:
        text += f" (the rows of {one.expired} runs have expired)"
    if not one.other_key_ids:
        return text
    others = ", ".join(one.other_key_ids)
    if one.key_id not in one.run_key_ids:
        return (
            f"{text}, which made no run here: the runs are under {others}; use that key (FACEFOG_KEY_FILE, or --keyless "
            "for none)"
        )
    return f"{text}; other runs are under {others}, where it has other ids: ask again with that key (or --keyless for none)"


def erase(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE…", help="Raw or published files, URIs or ids.")],
    audit: AuditOption,
    raw: Annotated[bool, typer.Option("--raw", help="Delete the source files too, where they still hold the picture.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why; stays in the audit for ever.")] = None,
    request_id: Annotated[str | None, typer.Option(help="32 hex digits (default: made of what is asked).")] = None,
    actor: Actor = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the whole trace; change nothing.")] = False,
    without_destination: Annotated[
        bool, typer.Option("--without-destination", help="Go on when a destination is not where it was.")
    ] = False,
    refog: Annotated[bool, typer.Option("--refog", help="Keep the picture, fogged again with the boxes.")] = False,
    box: Annotated[
        list[str] | None,
        typer.Option("--box", metavar="X1,Y1,X2,Y2[,CLASS]", help="A missed face, upright pixels; may be repeated."),
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="--refog: instead of the policy that made it.")] = None,
    detector: Annotated[list[str] | None, typer.Option(help="--refog: instead of the detector that made it.")] = None,
    sql: Sql = None, signing_key: Signing = None, keyless: Keyless = False, as_json: Json = False,
) -> int:  # fmt: skip
    """Erase a picture: from what was published, from every part of the audit, and from later runs.

    With --refog the picture stays, fogged again with what was missed, and its old output goes. If it stops half way, run
    the same command again.
    """
    from airflow_facefog.job.record import erase as job

    place = Place.parse(audit)
    keys = _keys(place, keyless)
    if refog:
        if raw or without_destination or request_id or len(images) != 1:
            raise ConfigurationError(
                "--refog takes one image, and neither --raw, --without-destination nor --request-id"
            )
        wish = Wish(images[0], box or [], actor, reason, policy, detector)
        signer, sink = (None, None) if dry_run else (_signer(place, signing_key), _sink(place, sql))
        return refog_one(place, wish, keys, signer, sink, dry_run=dry_run, as_json=as_json)
    if box or policy or detector:
        raise ConfigurationError("--box, --policy and --detector belong to --refog")
    options = job.EraseOptions(request_id, actor, reason, raw, without_destination)
    if dry_run:
        return _show_trace(job.find_images(place, images, keys=keys, options=options), raw, as_json=as_json)
    result = job.erase_images(
        place, images, keys=keys, options=options, signer=_signer(place, signing_key), sql=_sink(place, sql)
    )
    _say_rest(result)
    show(result if as_json else _short(result), as_json=as_json)
    return 1 if result["other_key_ids"] else 0


def _show_trace(found: dict[str, Any], raw: bool, *, as_json: bool) -> int:
    if as_json:
        show(found, as_json=True)
    elif found["found"]:
        show_rows(found["rows"], FOUND)
        for name in ("objects", "files", *(("raw_files",) if raw else ())):
            for item in found[name]:
                typer.echo(f"{name.rstrip('s').replace('_', ' ')}: {item['key'] if isinstance(item, dict) else item}")
    if not found["found"]:
        say("nothing found about this image")
    _say_rest(found)
    return 0 if found["found"] else 1


def _say_rest(result: dict[str, Any]) -> None:
    for host in result["recipients"]:
        say(f"the raw picture was sent to {host}: ask there for its deletion too")
    if result["unfinished_runs"]:
        say(f"{len(result['unfinished_runs'])} runs with this image are not finished; erase again when they are")
    if result["other_key_ids"]:
        others = ", ".join(result["other_key_ids"])
        say(
            f"runs under other master keys ({others}) were not searched: there it has other ids; repeat with those keys"
        )


def _short(result: dict[str, Any]) -> dict[str, Any]:
    """Lists as counts, for the screen."""
    return {name: len(value) if isinstance(value, list) else value for name, value in result.items()}


def expire(
    audit: AuditArgument,
    sources: Annotated[Days, typer.Option(min=0, help="Names of source files, instead of their own date.")] = None,
    work: Annotated[Days, typer.Option(min=0, help="What sealed runs left behind: batches, attempts, commits.")] = None,
    detections: Annotated[Days, typer.Option(min=0, help="Sealed detections and leaves, and work.")] = None,
    images: Annotated[Days, typer.Option(min=0, help="All sealed rows and leaves, and work.")] = None,
    refusals: Annotated[Days, typer.Option(min=0, help="Lists of refused images: those are looked at again.")] = None,
    predictions: Annotated[Days, typer.Option(min=0, help="Cached predictions that no younger run met.")] = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="--work takes runs that never finished too.")] = False,
    published: Annotated[
        bool, typer.Option("--published", help="--images takes rows of pictures that a dataset still shows too.")
    ] = False,
    actor: Actor = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count; change nothing.")] = False,
    sql: Sql = None, signing_key: Signing = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Remove what is older than its retention. Without options: source names that are past their own date.

    Counts, manifests and the chain stay, and the audit still verifies.
    """
    from airflow_facefog.job.record.expire import Retention, expire_audit

    place = Place.parse(audit)
    keep = Retention(sources, work, detections, images, refusals, predictions, unfinished, published)
    result = expire_audit(
        place, keep, signer=_signer(place, signing_key), sql=_sink(place, sql), actor=actor, dry_run=dry_run
    )
    for request_id in result["unfinished_erasures"]:
        say(f"erasure {request_id} was begun and not finished: run it again")
    show(result if as_json else _short(result), as_json=as_json)


def _keys(place: Place, keyless: bool) -> KeyRing:
    """The user's key; never made here, a new one would find nothing."""
    from airflow_facefog.keyfile import find_key

    if keyless:
        return KeyRing.from_master(None)
    found = find_key([place.local_path] if place.is_local else [])
    if found is None:
        raise ConfigurationError(
            "there is no master key here; let FACEFOG_KEY_FILE name the one of these runs, or say --keyless"
        )
    return found.ring


def _signer(place: Place, named: Path | None) -> SigningKey | None:
    from airflow_facefog.signing_keyfile import find_signing_key

    return find_signing_key(named, [place.local_path] if place.is_local else [])


def _sink(place: Place, url: str | None) -> SqlSink | None:
    from airflow_facefog.audit.sql import SqlSink

    default = default_sql_url(place)
    if url is None and (default is None or not Path(f"{place.local_path}/facefog.db").exists()):
        return None
    return SqlSink(url or default or "")
