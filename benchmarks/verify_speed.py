"""``audit verify`` against a plain sha256 of the same files, in one run. Target: at least 80 % of its speed.

An audit of synthetic runs, ten detections an image, parts compacted and signed as finalise does; not ``--deep``. Two ratios:
CPU with one thread (what verification costs beside hashing: much of it once per run, so large runs do better), and wall time
with a thread for each CPU (what one waits for; the plain loop has one thread).
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
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.measure import Row, at_least, cpu, interleaved, ratio, show, wall

LIMIT = 0.80
DETECTIONS = 10


SHAPES = {False: ((12, 25_000), (3, 100_000)), True: ((100, 25_000), (25, 100_000))}
"""(runs, images of each): every run costs the same beside its bytes."""


def measure(*, full: bool) -> list[Row]:
    """Two ratios for each shape, and what they were measured on."""
    rows = []
    for runs, images in SHAPES[full]:
        with tempfile.TemporaryDirectory(prefix="facefog-verify-") as folder:
            rows += _measure(Path(folder), runs, images, rounds=5)
    return rows


def _measure(root: Path, runs: int, images: int, rounds: int) -> list[Row]:
    public = build(root, runs, images)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files) / 1e6
    ways = {
        "plain": lambda: [_plain(path) for path in files],
        "one": lambda: _verify(root, public, 1),
        "all": lambda: _verify(root, public, None),
    }
    one = interleaved({name: ways[name] for name in ("plain", "one")}, rounds, clock=cpu)
    wait = interleaved({name: ways[name] for name in ("plain", "all")}, rounds, clock=wall)
    shape = f"{runs} runs of {images:,} images, {size:.0f} MB"
    return [
        at_least(
            "verify of sha256's speed, CPU of one thread", ratio(one["plain"], one["one"]), LIMIT, "{:.2f}",
            f"{shape}; sha256 {size / median(one['plain']):.0f} MB/s",
        ),
        at_least(
            "verify of sha256's speed, wall, thread per CPU", ratio(wait["plain"], wait["all"]), LIMIT, "{:.2f}",
            f"{shape}; {os.cpu_count()} CPUs, {size / median(wait['all']):.0f} MB/s",
        ),
    ]  # fmt: skip


def _plain(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(root: Path, public: str, threads: int | None) -> None:
    from airflow_facefog.job.model import Place
    from airflow_facefog.job.record.verify_audit import VerifyRequest, verify_audit

    result = verify_audit(VerifyRequest(Place.parse(root), (public,), threads=threads))
    if not result["verified"] or result["signed"] != "all":
        raise RuntimeError(f"the synthetic audit does not verify: {result['findings'][:2]}")


# ------------------------------------------------------------------ a synthetic audit


def build(root: Path, runs: int, images: int) -> str:
    """Write an audit of equal runs; return the public key. All parts of all runs hold the same rows."""
    from upath import UPath

    from airflow_facefog.audit import chain
    from airflow_facefog.audit.sealed import SigningKey, seal, sha256
    from airflow_facefog.publish.store import Store

    audit, signer = Store(UPath(root)), SigningKey.generate()
    parts = _parts(images)
    newest: str | None = None
    head = chain.START
    for number in range(runs):
        run_key = f"{number:032x}"
        manifest = _manifest(run_key, images, parts, head, newest)
        data = seal(manifest, signer)
        newest = sha256(data)
        row = _write_run(root, run_key, parts, manifest, data)
        body = {
            "kind": chain.RUN, "run_key": run_key, "generation": 0, "counts": manifest["counts"],
            "manifest": {"key": f"runs/{run_key}/0/manifest.json", "sha256": newest},
            "run_part": {"key": f"runs/{run_key}/0/run.parquet", "sha256": sha256(row), "bytes": len(row)},
        }  # fmt: skip
        entry = chain.append(audit, body, signer, after=head, same=lambda found: False)
        head = chain.Head(entry.seq, entry.sha256)
    return signer.public.pem.decode()


def _write_run(root: Path, run_key: str, parts: dict[str, bytes], manifest: dict[str, Any], data: bytes) -> bytes:
    from airflow_facefog.audit.parquet import to_parquet

    home = root / "runs" / run_key / "0"
    home.mkdir(parents=True)
    for name, part in parts.items():
        (home / f"{name}.parquet").write_bytes(part)
    (home / "manifest.json").write_bytes(data)
    uri = (home / "manifest.json").as_uri()
    row = {**manifest["run"], "manifest_uri": uri, "manifest_sha256": hashlib.sha256(data).hexdigest()}
    written = to_parquet("facefog_run", [row])
    (home / "run.parquet").write_bytes(written)
    return written


def _manifest(run_key: str, images: int, parts: dict[str, bytes], head: Any, newest: str | None) -> dict[str, Any]:
    from airflow_facefog.core.policy import FogPolicy

    policy = FogPolicy()
    rows = {"image": images, "detection": images * DETECTIONS, "intent": images, "leaf": images}
    counts = {
        "listed": images, "published": images, "quarantined": 0, "failed": 0, "skipped": 0,
        "detections": images * DETECTIONS, "fogged": images * DETECTIONS // 2,
    }  # fmt: skip
    texts = dict.fromkeys(
        ("policy_name", "dag_id", "run_id", "detector", "model_id", "model_version", "key_id", "id_scheme"), "bench"
    )
    times = dict.fromkeys(("listed_at", "started_at", "finished_at"), "2026-01-01T00:00:00.000000+00:00")
    hashes = {"policy_hash": policy.policy_hash(), "recipe_hash": "0" * 64}
    run = {
        "run_key": run_key, "generation": 0, "destination": "memory://facefog-bench", "dataset": "default",
        "policy_json": json.dumps(policy.canonical(), sort_keys=True), "model_sha256": "0" * 64, "packages_json": "{}",
        "status": "final", "prev_manifest_sha256": newest, "manifest_uri": None, "manifest_sha256": None,
        **texts, **times, **hashes, **counts,
    }  # fmt: skip
    named = {
        name: {"key": f"runs/{run_key}/0/{name}.parquet", "sha256": hashlib.sha256(data).hexdigest(), "rows": rows[name],
               "bytes": len(data)}
        for name, data in parts.items()
    }  # fmt: skip
    return {
        "format": "facefog-manifest/2", "run_key": run_key, "generation": 0, "sealed_at": times["finished_at"],
        "counts": counts, **hashes, "parts": named, "run": run, "previous": {"seq": head.seq, "sha256": head.sha256},
        "tree": {"algorithm": "rfc6962-sha256", "root": "0" * 64, "size": images},
    }  # fmt: skip


def _parts(images: int) -> dict[str, bytes]:
    from airflow_facefog.audit.leaves import LEAF_SCHEMA, leaf_table
    from airflow_facefog.audit.parquet import encode, row_groups

    rng = np.random.default_rng(0)
    leaves = leaf_table(rng.bytes(16 * images), rng.bytes(32 * images))
    refs, ids, shas = ([rng.bytes(32).hex() for _ in range(images)] for _ in range(3))
    at = np.repeat(np.arange(images), DETECTIONS)
    return {
        "image": _part("image", images, _image_columns(images, refs, ids, shas, rng)),
        "detection": _part("detection", images * DETECTIONS, _detection_columns(np.array(refs)[at], np.array(ids)[at], rng)),
        "intent": _part("intent", images, {"source_ref": refs, "image_id": ids, "output_sha256": shas,
                                           "output_key": [f"data/photo_{sha[:12]}.jpg" for sha in shas]}),
        "leaf": encode(LEAF_SCHEMA(), row_groups(leaves), compression="none", use_dictionary=False),
    }  # fmt: skip


def _image_columns(images: int, refs: list[str], ids: list[str], shas: list[str], rng: Any) -> dict[str, Any]:
    return {
        "source_ref": refs, "image_id": ids, "status": "published", "output_sha256": shas,
        "output_uri": [f"memory://facefog-bench/data/photo_{sha[:12]}.jpg" for sha in shas],
        "output_bytes": rng.integers(100_000, 900_000, images), "n_fogged": DETECTIONS // 2,
        "n_detections": np.where(np.arange(images) % 2, 2 * DETECTIONS - 1, 1),
        "width": 1920, "height": 1080, "verify_worst_score": rng.random(images), "outside_psnr": rng.random(images) + 40,
        "t_read_ms": rng.random(images), "t_detect_ms": rng.random(images), "t_fog_ms": rng.random(images),
        "leaf_idx": np.arange(images),
    }  # fmt: skip


def _detection_columns(refs: Any, ids: Any, rng: Any) -> dict[str, Any]:
    count = len(refs)
    number = np.arange(count)
    box = {name: np.round(rng.random(count) * 1000, 2) for name in ("x1", "y1", "x2", "y2")}
    fogged = {name: rng.integers(0, 1000, count) for name in ("fx1", "fy1", "fx2", "fy2")}
    action = np.where(number % 2 == 0, "fogged", "below_threshold")
    return {
        "source_ref": refs, "image_id": ids, "det_idx": number % DETECTIONS, "action": action,
        "confidence": np.round(rng.random(count), 4), "threshold": 0.25, **box, **fogged,
    }  # fmt: skip


def _part(name: str, rows: int, columns: dict[str, Any]) -> bytes:
    """A compacted part; columns that are not given hold one value or none."""
    from airflow_facefog.audit.parquet import arrow_schema, to_parquet

    empty: dict[Any, Callable[[], Any]] = {pa.string(): lambda: "x"}
    arrays = []
    for field in arrow_schema(f"facefog_{name}"):
        value = columns.get(field.name, None if field.nullable else empty.get(field.type, lambda: 0)())
        whole = isinstance(value, list | np.ndarray)
        arrays.append(pa.array(value, field.type) if whole else pa.array([value] * rows, field.type))
    table = pa.Table.from_arrays(arrays, schema=arrow_schema(f"facefog_{name}"))
    return to_parquet(f"facefog_{name}", table, compacted=True)


if __name__ == "__main__":
    show(measure(full="--full" in sys.argv), __doc__ or "")
