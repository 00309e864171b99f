"""One image's whole story: every run that met it, what decided, what was done, what became of the object.

Asks each table for the image alone, and parts of those runs alone in which it occurs.
"""

from __future__ import annotations

# ruff: noqa: S608  column names are our own; values are bound
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_facefog.audit.ledger import Ledger
from airflow_facefog.audit.query import Engine
from airflow_facefog.core.errors import ConfigurationError

COLUMNS = ("image_id", "output_sha256", "source_ref")
"""What names an image, in the order in which it is looked for."""

HEX = re.compile(r"[0-9a-f]{8,64}")
WHOLE = 64

Row = dict[str, Any]

RUN_COLUMNS = (
    "dag_id", "run_id", "destination", "dataset", "policy_name", "policy_hash", "recipe_hash", "detector", "model_id",
    "model_version", "model_sha256", "key_id", "listed_at", "manifest_uri", "manifest_sha256",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """Which column named the image, and the whole value."""

    column: str
    value: str


def find(engine: Engine, text: str) -> Found:
    """What an id or its first digits stand for in this audit.

    ``text``: an image_id, output sha256 or source_ref, or its first 8 hex digits or more. Raises ConfigurationError when
    it is no such thing, nothing has it, or several have it.
    """
    wanted = text.strip().lower()
    if not HEX.fullmatch(wanted):
        raise ConfigurationError("an image is named by a file, or by 8 to 64 hex digits of an id or an output's sha256")
    found: list[Found] = []
    for column in COLUMNS:
        found += _named(engine, column, wanted)
        if found and len(wanted) == WHOLE:
            return found[0]
    if not found:
        raise ConfigurationError(
            "no image of this audit has this id or output; was it fogged under another key or audit?"
        )
    if len(found) > 1:
        raise ConfigurationError(f"{len(found)} ids of this audit begin so; give more digits")
    return found[0]


def _named(engine: Engine, column: str, wanted: str) -> list[Found]:
    where = f"{column} = :low" if len(wanted) == WHOLE else f"{column} >= :low and {column} < :high"
    sql = f"select distinct {column} from facefog_image where {where} limit 50"
    rows = engine.ask(sql, {"low": wanted, "high": wanted + "g"}).rows  # g: after every hex digit
    return [Found(column, row[0]) for row in rows]


def tell(engine: Engine, image: Found, ledger: Ledger | None = None) -> Row:
    """The story: {"image_id", "source_refs", "runs": [event …], "egress": […], "amendments": […]}, in order of listing.

    An event holds the image row, what its run says (policy, model, manifest, ``seq`` in the chain when the ledger is
    given), and its ``detections``. Found by an object or item, the story of the same bytes is told.
    """
    images = _image_rows(engine, image)
    ids = sorted({row["image_id"] for row in images} - {None})
    if image.column != "image_id" and ids:
        known = [row for one in ids for row in _image_rows(engine, Found("image_id", one))]
        images = known + [row for row in images if row["image_id"] is None]
    images.sort(key=lambda row: (row["listed_at"], row["generation"], row["run_key"], row["source_ref"]))
    runs = sorted({(row["run_key"], row["generation"]) for row in images})
    seqs = {(run.run_key, run.generation): run.seq for run in ledger.runs} if ledger else {}
    refs = sorted({row["source_ref"] for row in images})
    return {
        "image_id": ids[0] if len(ids) == 1 else None,
        "image_ids": ids,
        "source_refs": refs,
        "runs": _events(engine, images, runs, ids, seqs),
        "egress": [row for one in ids for row in _egress(engine, one)],
        "amendments": _amendments(engine, runs),
    }


def _image_rows(engine: Engine, image: Found) -> list[Row]:
    run = ", ".join(f"r.{name}" for name in RUN_COLUMNS)
    source = engine.rows_of("image", engine.runs_with(image.column, image.value))
    sql = (
        f"select i.*, {run} from {source} i join facefog_run r on r.run_key = i.run_key and r.generation = i.generation"
        f" where i.{image.column} = :value"
    )
    return engine.ask(sql, {"value": image.value}).dicts()


def _events(
    engine: Engine, images: Sequence[Row], runs: Sequence[tuple[str, int]], ids: Sequence[str], seqs: Mapping[Any, int | None]
) -> list[Row]:  # fmt: skip
    detections = _by_item(engine, "detection", runs, ids, "det_idx")
    events = []
    for row in images:
        key = (row["run_key"], row["generation"], row["source_ref"])
        events.append({**row, "seq": seqs.get(key[:2]), "detections": detections.get(key, [])})
    return events


def _by_item(
    engine: Engine, part: str, runs: Sequence[tuple[str, int]], ids: Sequence[str], order: str
) -> dict[Any, list[Row]]:
    """Rows of the image by (run_key, generation, source_ref)."""
    found: dict[Any, list[Row]] = {}
    for image_id in ids:
        sql = f"select t.* from {engine.rows_of(part, runs)} t where t.image_id = :image_id"
        rows = engine.ask(sql, {"image_id": image_id}).dicts()
        for row in sorted(rows, key=lambda row: row[order]):
            found.setdefault((row["run_key"], row["generation"], row["source_ref"]), []).append(row)
    return found


def _egress(engine: Engine, image_id: str) -> list[Row]:
    sql = "select * from facefog_egress where image_id = :image_id order by sent_at, egress_idx"
    return engine.ask(sql, {"image_id": image_id}).dicts()


def _amendments(engine: Engine, runs: Sequence[tuple[str, int]]) -> list[Row]:
    """Erasures and expiries that changed these runs; none of them says whose rows they removed."""
    rows = [
        row
        for row in engine.ask("select * from facefog_erasure").dicts()
        if (row["run_key"], row["generation"]) in runs
    ]
    return sorted(rows, key=lambda row: (row["seq"], row["part"]))


def add_intents(engine: Engine, story: Row) -> None:
    """Give each event its ``intents``: what was recorded before the object existed."""
    runs = sorted({(row["run_key"], row["generation"]) for row in story["runs"]})
    found = _by_item(engine, "intent", runs, story["image_ids"], "created_at")
    for event in story["runs"]:
        event["intents"] = found.get((event["run_key"], event["generation"], event["source_ref"]), [])


def mark_newest(engine: Engine, story: Row) -> None:
    """Give each event ``newest``: whether its object is what the newest listing of its item left published.

    Looks items up by source_ref, which is not what parts are sorted by: one scan of a column.
    """
    columns = "i.status, i.done_run_key, i.run_key, r.destination, r.dataset, r.listed_at, i.generation"
    shown: dict[tuple[str, str, str], str | None] = {}
    for ref in story["source_refs"]:
        source = engine.rows_of("image", engine.runs_with("source_ref", ref))
        sql = (
            f"select {columns} from {source} i join facefog_run r on r.run_key = i.run_key and r.generation = i.generation"
            " where i.source_ref = :source_ref"
        )
        rows = engine.ask(sql, {"source_ref": ref}).dicts()
        for row in sorted(rows, key=lambda row: (row["listed_at"], row["generation"], row["run_key"])):
            run_key = {"published": row["run_key"], "skipped": row["done_run_key"]}.get(row["status"])
            shown[row["destination"], row["dataset"], ref] = run_key
    for event in story["runs"]:
        item = (event["destination"], event["dataset"], event["source_ref"])
        event["newest"] = event["status"] == "published" and shown.get(item) == event["run_key"]


def source_names(engine: Engine, source_refs: Sequence[str]) -> dict[str, str]:
    """source_ref → URI, as far as the restricted source table still has it."""
    sql = "select source_uri from facefog_source where source_ref = :source_ref"
    found = {ref: engine.ask(sql, {"source_ref": ref}).rows for ref in source_refs}
    return {ref: rows[0][0] for ref, rows in found.items() if rows}
