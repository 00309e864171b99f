"""Questions to a large audit: one image's story and the per-run summary over compacted parts, through DuckDB.

``python -m benchmarks.audit_queries [runs] [folder]``: 100 runs are 2.5 million images and 10 million detections; a folder
that holds such an audit already is used again. Reading the ledger is printed apart: a shell or a Dag pays for it once.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Row, at_most, cpu, wall

if TYPE_CHECKING:
    from airflow_facefog.publish.store import Store

IMAGES, PER_IMAGE = 25_000, 4
"""Images of a run, and detections of an image."""

KNOWN = 1_000_000
"""Distinct images: each is listed by two or three of 100 runs."""

FULL_RUNS, CI_RUNS = 100, 5
STORY_MS, SUMMARY_MS = 60.0, 250.0
ROUNDS = 15


def measure(*, full: bool = False) -> list[Row]:
    """Rows of the table. The targets are for the full size."""
    runs = FULL_RUNS if full else CI_RUNS
    with tempfile.TemporaryDirectory(prefix="facefog-bench-") as folder:
        return _measure(Path(folder), runs, full=full)


def _measure(folder: Path, runs: int, *, full: bool) -> list[Row]:
    from upath import UPath

    from airflow_facefog.publish.store import Store

    audit = Store(UPath(folder))
    if not audit.exists("chain/0000000001.json"):
        for number in range(runs):
            write_run(audit, number)
    size = f"{runs * IMAGES * PER_IMAGE / 1e6:g} million detections"
    found = _timings(audit)
    limit = at_most if full else lambda what, value, _limit, shown, note="": Row(what, shown.format(value), note=note)
    return [
        Row("audit queries: ledger of the audit read", f"{found['ledger']:.0f} ms", note=f"{runs} runs, once a session"),
        Row("audit queries: DuckDB opened over it", f"{found['open']:.0f} ms", note="once a session"),
        limit("audit queries: one image's story", found["story"], STORY_MS, "{:.0f} ms",
              f"{size}, median of {ROUNDS} images; CPU {found['story cpu']:.0f} ms over all threads"),
        limit("audit queries: per-run summary", found["summary"], SUMMARY_MS, "{:.0f} ms",
              f"median of {ROUNDS}; CPU {found['summary cpu']:.0f} ms"),
        *(Row(f"audit queries: {name}", f"{found[name]:.0f} ms") for name in QUERIES),
    ]  # fmt: skip


QUERIES = {
    "view zero_detections": "select count(*) from facefog_v_zero_detections",
    "view detector_stats": "select count(*) from facefog_v_detector_stats",
    "view leaks": "select count(*) from facefog_v_leaks",
    "view current": "select count(*) from facefog_v_current",
}


def _timings(audit: Store) -> dict[str, float]:
    from airflow_facefog.audit.duck import open_duck
    from airflow_facefog.audit.ledger import open_ledger
    from airflow_facefog.audit.story import Found, tell

    opened: dict[str, Any] = {}
    found = {"ledger": _ms(lambda: opened.update(ledger=open_ledger(audit)))}
    found["open"] = _ms(lambda: opened.update(duck=open_duck(audit, opened["ledger"])))
    duck = opened["duck"]
    ids = [image_id(number) for number in range(7, KNOWN, KNOWN // (ROUNDS + 1))][: ROUNDS + 1]
    present = [Found("image_id", one) for one in ids if tell(duck, Found("image_id", one))["runs"]]
    stories = [_both(lambda one=one: tell(duck, one)) for one in present]
    summaries = [_both(lambda: duck.ask("select * from facefog_v_run_summary")) for _ in range(ROUNDS)]
    for name, pairs in (("story", stories), ("summary", summaries)):
        found[name], found[f"{name} cpu"] = (median(column) for column in zip(*pairs, strict=True))
    for name, sql in QUERIES.items():
        found[name] = median(_ms(lambda sql=sql: duck.ask(sql)) for _ in range(3))
    duck.close()
    return found


def _both(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU milliseconds of the same call."""
    spent: list[float] = []
    wall_ms = _ms(lambda: spent.append(cpu(work)))
    return wall_ms, spent[0] * 1e3


def _ms(work: Callable[[], object]) -> float:
    return wall(work) * 1e3


# ------------------------------------------------------------------ a large audit


def image_id(number: int) -> str:
    """The id of a known image."""
    return hashlib.sha256(b"image %d" % number).hexdigest()


def write_run(audit: Store, number: int) -> None:
    """One sealed run with its parts, manifest and chain entry, as finalise writes them."""
    from airflow_facefog.audit import chain, sealed
    from airflow_facefog.audit.parquet import to_parquet

    run_key = hashlib.sha256(b"run %d" % number).hexdigest()[:32]
    parts = {}
    for name, rows in _rows(number, run_key).items():
        data = to_parquet(f"facefog_{name}", rows, compacted=True)
        key = f"runs/{run_key}/0/{name}.parquet"
        audit.create(key, data)
        parts[name] = {"key": key, "sha256": sealed.sha256(data), "rows": rows.num_rows, "bytes": len(data)}
    counts = {"listed": IMAGES, "published": IMAGES, "detections": IMAGES * PER_IMAGE}
    manifest = {
        "format": "facefog-manifest/2", "run_key": run_key, "generation": 0, "counts": counts, "parts": parts,
        "run": _run_row(number, run_key), "previous": None,
    }  # fmt: skip
    data = sealed.seal(manifest, None)
    key = f"runs/{run_key}/0/manifest.json"
    audit.create(key, data)
    entry = {
        "kind": chain.RUN, "run_key": run_key, "generation": 0, "manifest": {"key": key, "sha256": sealed.sha256(data)},
        "counts": counts,
    }  # fmt: skip
    chain.append(audit, entry, None, same=lambda found: found.run == (run_key, 0))


def _run_row(number: int, run_key: str) -> dict[str, Any]:
    day = f"2026-{number // 28 % 12 + 1:02d}-{number % 28 + 1:02d}"
    at = f"{day}T01:00:00.000000+00:00"
    return {
        "run_key": run_key, "generation": 0, "dag_id": "street", "run_id": f"scheduled__{at}", "data_date": day,
        "destination": "s3://clean/street", "dataset": "default", "layout": "named", "policy_name": "street",
        "policy_hash": "a" * 64, "policy_json": "{}", "recipe_hash": "b" * 64, "detector": "local", "model_id": "yunet",
        "model_version": "2023mar", "model_sha256": "c" * 64, "key_id": "01234567", "id_scheme": "hmac-sha256",
        "packages_json": "{}", "status": "final", "listed": IMAGES, "published": IMAGES, "quarantined": 0, "failed": 0,
        "skipped": 0, "detections": IMAGES * PER_IMAGE, "fogged": IMAGES * PER_IMAGE * 3 // 4, "listed_at": at,
        "started_at": at, "finished_at": at,
    }  # fmt: skip


def _rows(number: int, run_key: str) -> dict[str, Any]:
    """The three tables of one run, sorted by image_id as finalise sorts them."""
    numbers = [(number * IMAGES + n) % KNOWN for n in range(IMAGES)]
    ids = sorted(image_id(n) for n in numbers)
    refs = [hashlib.sha256(text.encode()).hexdigest() for text in ids]
    shas = [hashlib.sha256(b"output of " + text.encode()).hexdigest() for text in ids]
    same = {"run_key": run_key, "generation": 0, "source_ref": refs, "image_id": ids, "output_sha256": shas}
    same |= {"batch_id": "b" * 16, "attempt_id": "a" * 36}
    keys = [f"data/camera/{sha[:10]}.{sha[:12]}.jpg" for sha in shas]
    repeated = {name: [one for one in values for _ in range(PER_IMAGE)] if isinstance(values, list) else values
                for name, values in same.items()}  # fmt: skip
    return {
        "image": _table("facefog_image", IMAGES, same | _image_columns(refs, keys)),
        "detection": _table("facefog_detection", IMAGES * PER_IMAGE, repeated | _detection_columns(number)),
        "intent": _table(
            "facefog_intent", IMAGES, same | {"output_key": keys, "created_at": "2026-01-01T00:00:01+00:00"}
        ),
    }


def _image_columns(refs: list[str], keys: list[str]) -> dict[str, Any]:
    return {
        "status": "published", "source_group": [ref[:1] * 16 for ref in refs], "source_etag": [ref[:24] for ref in refs],
        "width": 1920, "height": 1080, "format": "jpeg", "orientation_applied": 1, "output_bytes": 400_000,
        "output_uri": [f"s3://clean/street/{key}" for key in keys], "n_detections": PER_IMAGE, "n_fogged": PER_IMAGE * 3 // 4,
        "n_dropped": 0, "verify_coverage": 1.0, "verify_worst_score": [int(ref[:6], 16) / 2**24 for ref in refs], "refogged": 0,
        "irreversible": 1, "encode_mode": "jpeg_q90_420", "outside_psnr": [40 + int(ref[:6], 16) / 2**24 for ref in refs],
        "t_read_ms": [int(ref[1:4], 16) / 1000 for ref in refs], "t_detect_ms": [int(ref[2:6], 16) / 1000 for ref in refs],
        "t_fog_ms": [int(ref[3:6], 16) / 1000 for ref in refs], "t_write_ms": 1.25, "try_number": 1,
        "committed_at": "2026-01-01T00:00:02+00:00", "leaf_idx": list(range(len(refs))),
    }  # fmt: skip


def _detection_columns(seed: int) -> dict[str, Any]:
    import numpy as np

    rng = np.random.default_rng(seed)
    count = IMAGES * PER_IMAGE
    corner = rng.integers(320, 64_000, count) / 64.0
    fogged = np.arange(count) % PER_IMAGE > 0
    method = [("fog" if one else None) for one in fogged]
    box = {f"f{name}": [int(x) + add if one else None for x, one in zip(corner, fogged, strict=True)]
           for name, add in (("x1", -4), ("y1", -4), ("x2", 32), ("y2", 32))}  # fmt: skip
    return box | {
        "det_idx": list(range(PER_IMAGE)) * IMAGES, "detector": "yunet",
        "class_name": ["face" if n % 3 else "plate" for n in range(count)],
        "confidence": np.where(fogged, 0.25, 0.05) + rng.integers(0, 1000, count) / 8000, "threshold": 0.25,
        "x1": corner, "y1": corner, "x2": corner + 20, "y2": corner + 24, "n_members": 2,
        "action": [("fogged" if one else "below_threshold") for one in fogged], "method": method,
        "params_hash": [one and "p" * 16 for one in method], "irreversible": [int(one) if one else None for one in fogged],
        "source": "model",
    }  # fmt: skip


def _table(name: str, count: int, columns: dict[str, Any]) -> Any:
    import pyarrow as pa

    from airflow_facefog.audit.parquet import arrow_schema

    arrays = []
    for field in arrow_schema(name):
        value = columns.get(field.name)
        spread = [value] * count if value is None or isinstance(value, str | int | float) else value
        arrays.append(pa.array(spread, type=field.type))
    return pa.Table.from_arrays(arrays, schema=arrow_schema(name))


def main(arguments: list[str]) -> None:
    """Measure and print; with a folder, keep the audit there."""
    runs = next((int(text) for text in arguments if text.isdigit()), FULL_RUNS)
    folder = next((text for text in arguments if not text.isdigit()), None)
    os.makedirs(folder or ".", exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="facefog-bench-") as temporary:
        for row in _measure(Path(folder or temporary), runs, full=runs >= FULL_RUNS):
            print(json.dumps([row.what, row.value, row.target, row.note]))


if __name__ == "__main__":
    main(sys.argv[1:])
