"""Parquet → PostgreSQL: ``facefog audit load`` of one run over a bare COPY of the same rows. Target: <= 1.5.

Bare: CSV that lies ready in memory, one COPY a table in one transaction, into tables of the same definition, that is with the
same primary keys and indexes; also into tables without any, for scale. Measured: reading and checking the Parquet parts,
CSV, COPY, commit. Real server, fsync off, one new database for each measurement; wall time, because the server's work counts.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from upath import UPath

from airflow_facefog.audit.ledger import Ledger, LedgerPart, SealedRun
from airflow_facefog.audit.parquet import arrow_schema, to_parquet
from airflow_facefog.audit.schema import RUN, TABLES
from airflow_facefog.audit.sealed_rows import part_batches
from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.audit.sql_copy import csv
from airflow_facefog.job.record.load_audit import load
from airflow_facefog.publish.store import Store
from benchmarks.measure import WORK, Row, at_most, interleaved, ratio, show, wall
from tests import pgkit

LIMIT = 1.5
DETECTIONS = 10
RUN_KEY = "f" * 32
TEXT = {"text": "t", "json": "{}", "timestamp": "2026-01-01T00:00:00+00:00", "integer": 1, "flag": 1, "float": 0.5}


@dataclass(frozen=True, slots=True)
class Bench:
    """A sealed run, and the CSV of its parts by table name."""

    audit: Store
    run: SealedRun
    csv: dict[str, list[bytes]]


def measure(*, full: bool) -> list[Row]:
    """Three rows. Full: 1 million detections of 100,000 images; otherwise a tenth."""
    images, rounds = (100_000, 3) if full else (10_000, 3)
    WORK.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=WORK) as folder, pgkit.server() as server:
        bench = build(Path(folder), images)
        seconds = interleaved(
            {
                "load": lambda: _first(server, bench),
                "copy": lambda: _bare(server, bench, keys=True),
                "plain": lambda: _bare(server, bench, keys=False),
                "replace": lambda: _again(server, bench),
            },
            rounds,
            clock=lambda case: case(),  # each case leaves its preparation out of the time it returns
        )
        version = _version(server)
    said = {name: min(found) for name, found in seconds.items()}
    size = f"{images * DETECTIONS:,} detections, {images:,} images, {version}, fastest of {rounds}: "
    shown = ", ".join(f"{name} {value:.2f} s" for name, value in said.items())
    replaced = ratio(seconds["replace"], seconds["load"])
    unkeyed = ratio(seconds["load"], seconds["plain"])
    return [
        at_most(
            "first load / bare COPY, same tables",
            ratio(seconds["load"], seconds["copy"]),
            LIMIT,
            "{:.2f}",
            size + shown,
        ),
        Row("first load / bare COPY, no keys or indexes", f"{unkeyed:.2f}"),
        Row("replacing a run / its first load", f"{replaced:.2f}"),
    ]


def build(folder: Path, images: int) -> Bench:
    """Write the parts of a run of ``images`` published images, as finalise compacts them."""
    audit = Store(UPath(folder))
    random = np.random.default_rng(0)
    refs, ids, hashes = (np.array([random.bytes(32).hex() for _ in range(images)]) for _ in range(3))
    ids.sort()
    repeated = np.repeat(np.arange(images), DETECTIONS)
    tables = {
        "image": _table("facefog_image", images, source_ref=refs, image_id=ids, output_sha256=hashes,
                        status=["published"] * images, leaf_idx=np.arange(images)),
        "detection": _table("facefog_detection", len(repeated), source_ref=refs[repeated], image_id=ids[repeated],
                            det_idx=np.tile(np.arange(DETECTIONS), images),
                            **{name: random.uniform(0, 2000, len(repeated)) for name in ("confidence", "x1", "y1", "x2", "y2")},
                            **{name: random.integers(0, 2000, len(repeated)) for name in ("fx1", "fy1", "fx2", "fy2")}),
        "intent": _table("facefog_intent", images, source_ref=refs, image_id=ids, output_sha256=hashes,
                         output_key=np.char.add("data/", hashes)),
    }  # fmt: skip
    parts = {}
    for name, table in tables.items():
        data, key = to_parquet(f"facefog_{name}", table, compacted=True), f"runs/{RUN_KEY}/0/{name}.parquet"
        audit.create(key, data)
        parts[name] = LedgerPart(name, key, hashlib.sha256(data).hexdigest(), table.num_rows, len(data))
    row = {**{c.name: TEXT[c.type] for c in RUN.columns}, "run_key": RUN_KEY, "generation": 0, "status": "final"}
    run = SealedRun(RUN_KEY, 0, f"runs/{RUN_KEY}/0/manifest.json", "1" * 64, {"run": row}, parts)
    lines = {
        name: [csv(TABLES[f"facefog_{name}"], batch) for batch in part_batches(audit, run, name)] for name in parts
    }
    return Bench(audit, run, lines)


def _table(name: str, rows: int, **columns: Any) -> Any:
    schema, described = arrow_schema(name), TABLES[name]
    fixed = {"run_key": RUN_KEY, "generation": 0}
    arrays = []
    for column in described.columns:
        values = columns.get(column.name)
        if values is None and column.nullable and column.name not in ("committed_at", "method", "params_hash"):
            arrays.append(pa.nulls(rows, schema.field(column.name).type))
        else:
            given = values if values is not None else [fixed.get(column.name, TEXT[column.type])] * rows
            arrays.append(pa.array(given, schema.field(column.name).type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _first(server: pgkit.PgServer, bench: Bench) -> float:
    with _sink(server) as sink:
        return wall(lambda: load(bench.audit, Ledger((), (bench.run,)), sink))


def _again(server: pgkit.PgServer, bench: Bench) -> float:
    with _sink(server) as sink:
        load(bench.audit, Ledger((), (bench.run,)), sink)
        return wall(lambda: load(bench.audit, Ledger((), (replace(bench.run, manifest_sha256="2" * 64),)), sink))


def _bare(server: pgkit.PgServer, bench: Bench, *, keys: bool) -> float:
    with _sink(server) as sink:
        if not keys:
            _strip(sink.engine)
        with sink.engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            return wall(lambda: _copy(raw, bench))


def _copy(raw: Any, bench: Bench) -> None:
    for name, pieces in bench.csv.items():
        columns = ", ".join(TABLES[f"facefog_{name}"].column_names)
        with raw.cursor() as cursor, cursor.copy(f"COPY facefog_{name} ({columns}) FROM STDIN (FORMAT csv)") as copy:
            for piece in pieces:
                copy.write(piece)
    raw.commit()


def _strip(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for name in ("image", "detection", "intent"):
            connection.execute(sa.text(f"ALTER TABLE facefog_{name} DROP CONSTRAINT facefog_{name}_pkey"))
        for index in sa.inspect(connection).get_indexes("facefog_image") + sa.inspect(connection).get_indexes(
            "facefog_detection"
        ):
            connection.execute(sa.text(f"DROP INDEX {index['name']}"))


@contextmanager
def _sink(server: pgkit.PgServer) -> Iterator[SqlSink]:
    """A sink on a new database with all tables."""
    with server.database() as url:
        sink = SqlSink(url)
        sink.migrate()
        try:
            yield sink
        finally:
            sink.close()


def _version(server: pgkit.PgServer) -> str:
    with sa.create_engine(server.url, poolclass=sa.NullPool).connect() as connection:
        return "PostgreSQL " + str(connection.exec_driver_sql("SHOW server_version").scalar()).split()[0]


if __name__ == "__main__":
    show(measure(full="--full" in sys.argv), "Parquet → PostgreSQL")
