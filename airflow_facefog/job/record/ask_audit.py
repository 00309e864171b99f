"""Open an audit to ask it: its Parquet parts through DuckDB, or its database. CLI and operators call exactly this."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_facefog.audit.query import TIMEOUT_S, Engine
from airflow_facefog.core.errors import ConfigurationError, FogError
from airflow_facefog.core.raw import sealed
from airflow_facefog.job.model import Place, RootOpener, open_root_plain
from airflow_facefog.job.plan import open_store

if TYPE_CHECKING:
    from sqlalchemy import Engine as SqlAlchemyEngine

    from airflow_facefog.audit.checks import CheckOptions
    from airflow_facefog.audit.ledger import Ledger
    from airflow_facefog.audit.story import Found
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.publish.store import Store

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OpenAudit:
    """What answers, and the Parquet audit with its ledger when that was named."""

    engine: Engine
    store: Store | None = None
    ledger: Ledger | None = None
    open_root: RootOpener = field(repr=False, default=open_root_plain)


@contextmanager
def open_audit(
    audit: Place | None, sql: str | SqlAlchemyEngine | None = None, *, open_root: RootOpener = open_root_plain,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[OpenAudit]:  # fmt: skip
    """Open an audit for reading, for the time of the block. ``sql`` answers when it is given, else the Parquet parts.

    Raises ConfigurationError when neither is named or the place holds no audit, and as ledger and store do.
    """
    from airflow_facefog.audit.duck import open_duck
    from airflow_facefog.audit.ledger import open_ledger
    from airflow_facefog.audit.query import open_sql

    if audit is None and sql is None:
        raise ConfigurationError("name the audit: --audit for its Parquet parts, --sql for its database")
    store = open_store(audit, open_root) if audit is not None else None
    ledger = open_ledger(store) if store is not None else None
    if sql is not None:
        engine = open_sql(sql, timeout_s)
    else:
        assert store is not None
        assert ledger is not None
        engine = open_duck(store, ledger, timeout_s)
    try:
        yield OpenAudit(engine, store, ledger, open_root)
    finally:
        engine.close()


def check_audit(opened: OpenAudit, names: Sequence[str] = (), options: CheckOptions | None = None) -> Row:
    """Ask named checks; see ``audit.checks.run_checks``.

    Raises ConfigurationError also when no run is recorded at all: a gate that looks at the wrong place must not open.
    """
    from airflow_facefog.audit.checks import Asked, CheckOptions, run_checks

    if not opened.engine.ask("select 1 from facefog_run limit 1").rows:
        raise ConfigurationError("no run is recorded here, so there is nothing to check; is this the audit's place?")
    return run_checks(Asked(opened.engine, opened.store, opened.ledger, options or CheckOptions()), names)


@sealed
def tell_story(opened: OpenAudit, image: str, *, keys: KeyRing | None = None, names: bool = False) -> Row:
    """One image's story (``audit.story.tell``), each published event with ``newest`` and ``in_snapshot``.

    ``image``: 8 to 64 hex digits of an id or an output's sha256, or else a file: raw (its id needs ``keys``) or fogged.
    ``in_snapshot``: True, False, or None when the destination cannot be read here. ``names`` adds ``sources``:
    source_ref → URI, as far as it is still kept. Raises ConfigurationError when nothing, or more than one, is meant.
    """
    from airflow_facefog.audit import story

    wanted = image.strip()
    by_id = story.HEX.fullmatch(wanted.lower()) is not None
    found = story.find(opened.engine, wanted) if by_id else _find_file(opened.engine, Path(wanted), keys)
    told = story.tell(opened.engine, found, opened.ledger)
    story.add_intents(opened.engine, told)
    story.mark_newest(opened.engine, told)
    told = {"found_by": found.column, **told}
    for event in told["runs"]:
        event["in_snapshot"] = _in_snapshot(event, opened.open_root) if event["status"] == "published" else None
    if names:
        told["sources"] = story.source_names(opened.engine, told["source_refs"])
    return told


def _find_file(engine: Engine, path: Path, keys: KeyRing | None) -> Found:
    from airflow_facefog.audit import story

    try:
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").digest()
    except OSError:
        raise ConfigurationError("IMAGE is neither 8 to 64 hex digits nor a file that can be read here") from None
    named = [("output_sha256", digest.hex()), ("image_id", digest.hex())]
    if keys is not None:
        named.insert(0, ("image_id", keys.image_id_of(digest)))
    for column, value in named:
        if engine.ask(f"select 1 from facefog_image where {column} = :value limit 1", {"value": value}).rows:  # noqa: S608
            return story.Found(column, value)
    hint = "" if keys is not None else "; raw files of keyed runs need the master key"
    raise ConfigurationError(f"no image of this audit has these bytes{hint}")


def _in_snapshot(event: Row, open_root: RootOpener) -> bool | None:
    """Whether consumers of the newest snapshot see exactly this object."""
    import pyarrow.compute as pc

    from airflow_facefog.publish.snapshots import newest_seq, open_dataset

    try:
        store = open_store(Place.parse(event["destination"]), open_root)
        if newest_seq(store, event["dataset"]) is None:
            return None
        rows = open_dataset(store, dataset=event["dataset"])
    except FogError:
        return None
    same = rows.filter(pc.equal(rows["sha256"], event["output_sha256"]))
    key = event["output_uri"].removeprefix(event["destination"].rstrip("/"))
    return any(uri.endswith(key) for uri in same["uri"].to_pylist())
