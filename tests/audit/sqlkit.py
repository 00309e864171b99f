"""Small sealed runs without a job: rows, parts, manifests and chain entries for the tests of the SQL side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from upath import UPath

from airflow_facefog.audit import chain
from airflow_facefog.audit.ledger import Ledger, open_ledger
from airflow_facefog.audit.parquet import to_parquet
from airflow_facefog.audit.schema import RUN
from airflow_facefog.audit.sealed import seal, sha256
from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.core.records import DetectionRecord, ImageRecord, IntentRecord
from airflow_facefog.publish.store import Store

VALUES = {"text": "t", "json": "{}", "timestamp": "2026-01-01T00:00:00+00:00", "integer": 1, "flag": 1, "float": 0.5}


def run_row(run_key: str = "r1", **changes: object) -> dict[str, Any]:
    """A final run."""
    row: dict[str, Any] = {c.name: VALUES[c.type] for c in RUN.columns}
    return {**row, "run_key": run_key, "generation": 0, "status": "final", "manifest_sha256": "m1", **changes}


def image(n: int, run_key: str = "r1", **changes: Any) -> dict[str, Any]:
    """An image row: NULLs, an infinite float and text that CSV must quote."""
    row = asdict(ImageRecord(run_key, 0, f"s{n}", "published", "b", "a", image_id=f"i{n}", n_fogged=1))
    return {**row, "outside_psnr": float("inf"), "format": 'a "b", c\nd', "encode_mode": "", **changes}


def detection(n: int, index: int, run_key: str = "r1", **changes: Any) -> dict[str, Any]:
    """A detection row: an umlaut, another plane, and floats without a short form."""
    row = DetectionRecord(run_key, 0, f"s{n}", f"i{n}", index, "d", "Gesichtß 🙂", 0.1 + 0.2, 1e-310, -0.0, 1.25, 2.0, 3.0, 1,
                          "[[1.5, 2]]", "fogged", None, "fog", "p", 0, 0, 8, 2**62, 1)  # fmt: skip
    return {**asdict(row), **changes}


def intent(n: int, run_key: str = "r1") -> dict[str, Any]:
    """An intent row with a long key."""
    return asdict(IntentRecord(run_key, 0, f"s{n}", f"i{n}", "a", "b", f"data/{'x' * 600}{n}.png", "h", "t"))


def new_audit(folder: Path) -> Store:
    """An empty audit."""
    return Store(UPath(folder))


def seal_run(audit: Store, run_key: str = "r1", images: int = 3, sources: Sequence[dict[str, Any]] = (),
             **changes: Any) -> None:  # fmt: skip
    """Seal a run of ``images`` images with two detections and one intent each. ``changes``: of the run row."""
    numbers = range(images)
    rows = {
        "image": [image(n, run_key) for n in numbers],
        "detection": [detection(n, index, run_key) for n in numbers for index in (0, 1)],
        "intent": [intent(n, run_key) for n in numbers],
    }
    seal_rows(audit, run_key, rows, **changes)
    if sources:
        audit.create(f"sources/{run_key}/0.parquet", to_parquet("facefog_source", list(sources)))


def seal_rows(audit: Store, run_key: str, rows: dict[str, list[dict[str, Any]]], **changes: Any) -> None:
    """Seal a run of these rows."""
    home, parts = f"runs/{run_key}/0", {}
    for name, found in rows.items():
        data, key = to_parquet(f"facefog_{name}", found), f"{home}/{name}.parquet"
        audit.create(key, data)
        parts[name] = {"key": key, "sha256": sha256(data), "rows": len(found), "bytes": len(data)}
    said = run_row(run_key, manifest_sha256=None, manifest_uri=None, **changes)
    manifest = seal({"format": "facefog-manifest/2", "run_key": run_key, "generation": 0, "parts": parts, "run": said,
                     "previous": None}, None)  # fmt: skip
    audit.create(f"{home}/manifest.json", manifest)
    body = {"kind": chain.RUN, "run_key": run_key, "generation": 0, "counts": {},
            "manifest": {"key": f"{home}/manifest.json", "sha256": sha256(manifest)}}  # fmt: skip
    chain.append(audit, body, None, same=lambda entry: False)


def amend(audit: Store, run_key: str, request_id: str, left: dict[str, list[dict[str, Any]] | None]) -> None:
    """Chain an amendment as erasure and expiry do: these parts hold these rows now; None: the part is gone."""
    run, parts, removed = open_ledger(audit).find(run_key, 0), {}, {}
    assert run is not None
    for name, found in left.items():
        before = run.parts[name]
        said: dict[str, Any] = {"key": None, "sha256": None, "rows": 0, "bytes": 0, "replaces": before.sha256}
        if found is not None:
            data = to_parquet(f"facefog_{name}", found)
            key = f"runs/{run_key}/0/amended/{request_id}/{sha256(data)[:16]}/{name}.parquet"
            audit.create(key, data)
            said |= {"key": key, "sha256": sha256(data), "rows": len(found), "bytes": len(data)}
        parts[name], removed[name] = said, before.rows - said["rows"]
    body = {"kind": chain.AMENDMENT, "run_key": run_key, "generation": 0, "request_id": request_id, "actor": "dpo",
            "reason": "expiry" if None in left.values() else "erasure", "parts": parts, "rows_removed": removed,
            "objects_removed": 0}  # fmt: skip
    chain.append(audit, body, None, same=lambda entry: False)


def ledger(audit: Store) -> Ledger:
    """The ledger as it is now."""
    return open_ledger(audit)


def source(n: int, expires_at: str = "2999-01-01T00:00:00+00:00") -> dict[str, Any]:
    """A row of the restricted table."""
    return {"source_ref": f"s{n}", "source_uri": f"s3://bucket/private-{n}.jpg", "bytes": n, "expires_at": expires_at}


def rows(sink: SqlSink, statement: str, **parameters: Any) -> list[tuple[object, ...]]:
    """What a query sees."""
    with sink.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement), parameters)]


def execute(sink: SqlSink, *statements: str) -> None:
    """Somebody changes the database."""
    with sink.engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
