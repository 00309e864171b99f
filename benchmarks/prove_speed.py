"""``facefog prove`` over proven objects against a plain sha256 of the same files, in one run. Target: >= 80 % of its speed.

A synthetic run (ten detections an image) and its published objects of random bytes, as large as a 2-megapixel JPEG. The whole
command is timed: verifying the audit, reading the record, walking, hashing, the Parquet report. Memory is that of a process of
its own over 100,000 small objects (20,000 in CI size), above what importing it takes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measure import Row, at_least, cpu, interleaved, ratio, show, wall

LIMIT = 0.80
DETECTIONS = 10
RUN_KEY = "a" * 32
PHOTO = 600_000
"""Bytes of an object: a 2-megapixel JPEG at quality 90."""


def measure(*, full: bool) -> list[Row]:
    """Speed and memory."""
    objects, rounds, many = (2_000, 5, 100_000) if full else (500, 3, 20_000)
    with tempfile.TemporaryDirectory(prefix="facefog-prove-") as folder:
        root = Path(folder)
        build(root / "large", objects, PHOTO)
        rows = _speed(root / "large", rounds, f"{objects} objects of {PHOTO / 1e3:.0f} kB")
        build(root / "many", many, 200)
        rows.append(_memory(root / "many", many))
    return rows


def _speed(root: Path, rounds: int, note: str) -> list[Row]:
    files = sorted(path for path in (root / "clean").rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    ways: dict[str, Any] = {
        "plain": lambda: [_plain(path) for path in files],
        "one": lambda: _prove(root, 1),
        "all": lambda: _prove(root, None),
    }
    one = interleaved({name: ways[name] for name in ("plain", "one")}, rounds, clock=cpu)
    wait = interleaved({name: ways[name] for name in ("plain", "all")}, rounds, clock=wall)
    fast = size / 1e6 / median(one["plain"])
    return [
        at_least("prove: CPU, one thread, of plain sha256's speed", ratio(one["plain"], one["one"]), LIMIT, "{:.2f}",
                 f"{note}; sha256 alone {fast:.0f} MB/s"),
        at_least("prove: wall, a thread per CPU, of plain sha256's speed", ratio(wait["plain"], wait["all"]), LIMIT, "{:.2f}",
                 f"{size / 1e6 / median(wait['all']):.0f} MB/s; the plain loop has one thread"),
    ]  # fmt: skip


def _plain(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _prove(root: Path, workers: int | None) -> int:
    """Prove; returns the number of objects."""
    from airflow_facefog.job.model import Place
    from airflow_facefog.job.record.prove_store import ProveRequest, prove_store

    request = ProveRequest(Place.parse(root / "clean"), Place.parse(root / "audit"), workers=workers)
    report = prove_store(request, keys=None)
    if not report.clean:
        raise RuntimeError(f"the synthetic store is not proven: {report.summary}")
    return int(report.summary["proven"])


def _memory(root: Path, objects: int) -> Row:
    """Peak of a whole process over the store, less the same process over a store of a hundred objects."""
    build(root / "few", 100, 200)
    base, peak = (_peak(place) for place in (root / "few", root))
    grown = (peak - base) / 1e3
    return Row(
        f"prove: memory over {objects} objects", f"{peak / 1e3:.0f} MB", "", None,
        f"{grown:.0f} MB above {base / 1e3:.0f} MB with 100 objects, {1e6 * grown / objects:.0f} bytes an object",
    )  # fmt: skip


def _peak(root: Path) -> int:
    """Kilobytes."""
    code = (
        "from pathlib import Path; from benchmarks.prove_speed import _prove\n"
        f"_prove(Path({str(root)!r}), 2)\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )  # ru_maxrss would be that of the process that started this one
    where = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=where)
    return int(done.stdout)


# ------------------------------------------------------------------ a synthetic run and its objects


def build(root: Path, objects: int, size: int) -> None:
    """Write ``objects`` of ``size`` random bytes, a sealed run that published them, and their snapshot."""
    from upath import UPath

    from airflow_facefog.core.records import DetectionRecord, ImageRecord, IntentRecord
    from airflow_facefog.publish.store import Store

    random = np.random.default_rng(0)
    audit, clean = Store(UPath(root / "audit")), Store(UPath(root / "clean"))
    images, intents, detections = [], [], []
    for number in range(objects):
        data = random.bytes(size)
        sha256, ref = hashlib.sha256(data).hexdigest(), hashlib.sha256(b"%d" % number).hexdigest()
        key = f"data/{number // 1000:04d}/photo-{number:08d}.jpg.{sha256[:12]}.jpg"
        path = root / "clean" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        images.append(ImageRecord(
            RUN_KEY, 0, ref, "published", "b", "a", image_id=ref, width=1600, height=1200, format="jpeg",
            output_uri=clean.uri(key), output_sha256=sha256, output_bytes=size, n_detections=DETECTIONS, n_fogged=1,
        ))  # fmt: skip
        intents.append(IntentRecord(RUN_KEY, 0, ref, ref, "a", "b", key, sha256, "2026-01-01T00:00:00+00:00"))
        detections += [
            DetectionRecord(RUN_KEY, 0, ref, ref, index, "d", "face", 0.5, 0.25, 1.0, 1.0, 9.0, 9.0, 1, None,
                            "below_threshold" if index else "fogged", None, None, None, 0, 0, 16, 16, 1)
            for index in range(DETECTIONS)
        ]  # fmt: skip
    _seal(audit, clean, {"image": images, "detection": detections, "intent": intents})


def _seal(audit: Any, clean: Any, rows: dict[str, list[Any]]) -> None:
    from airflow_facefog.audit.parquet import from_parquet, to_arrow, to_parquet
    from airflow_facefog.publish.dataset import fix_dataset
    from airflow_facefog.publish.items import items_of
    from airflow_facefog.publish.snapshots import RunManifestRef, commit_snapshot

    home, count = f"runs/{RUN_KEY}/0", len(rows["image"])
    data = {name: to_parquet(f"facefog_{name}", found) for name, found in rows.items()}
    parts = {
        name: {"key": f"{home}/{name}.parquet", "sha256": hashlib.sha256(part).hexdigest(), "rows": len(rows[name])}
        for name, part in data.items()
    }
    for name, part in data.items():
        audit.create(parts[name]["key"], part)
    counts = {"listed": count, "published": count, "quarantined": 0, "failed": 0, "skipped": 0,
              "detections": count * DETECTIONS, "fogged": count}  # fmt: skip
    run = _run_row(clean, counts)
    hashes = {name: run[name] for name in ("policy_hash", "recipe_hash")}
    manifest = {"format": "facefog-manifest/1", "run_key": RUN_KEY, "generation": 0, "counts": counts, "parts": parts,
                "run": run, "signed": False, **hashes}  # fmt: skip
    sealed = json.dumps(manifest, indent=1, sort_keys=True).encode()
    audit.create(f"{home}/manifest.json", sealed)
    row = {
        **run,
        "manifest_uri": audit.uri(f"{home}/manifest.json"),
        "manifest_sha256": hashlib.sha256(sealed).hexdigest(),
    }
    audit.create(f"{home}/run.parquet", to_parquet("facefog_run", [row]))
    fix_dataset(clean, dataset="default", audit_uri=audit.uri(), layout="named", id_scheme="sha256", key_id="none")
    images = to_arrow("facefog_image", from_parquet("facefog_image", data["image"]))
    published, withdrawn, skipped = items_of(images, images["source_ref"], clean)
    ref = RunManifestRef(RUN_KEY, 0, "2026-01-01T00:00:00+00:00", run["recipe_hash"])
    commit_snapshot(clean, dataset="default", run=ref, published=published, withdrawn=withdrawn, skipped=skipped)


def _run_row(clean: Any, counts: dict[str, int]) -> dict[str, Any]:
    from airflow_facefog.core.policy import FogPolicy

    policy = FogPolicy()
    words = dict.fromkeys(("dag_id", "run_id", "detector", "model_id", "model_version"), "bench")
    times = dict.fromkeys(("listed_at", "started_at", "finished_at"), "2026-01-01T00:00:00.000000+00:00")
    return {
        "run_key": RUN_KEY, "generation": 0, "destination": clean.uri(), "dataset": "default", "policy_name": "default",
        "policy_hash": policy.policy_hash(), "policy_json": json.dumps(policy.canonical(), sort_keys=True),
        "recipe_hash": "e" * 64, "model_sha256": "0" * 64, "packages_json": "{}", "status": "final", "key_id": "none",
        "id_scheme": "sha256", "layout": "named", "manifest_uri": None, "manifest_sha256": None,
        "prev_manifest_sha256": None, **words, **times, **counts,
    }  # fmt: skip


if __name__ == "__main__":
    show(measure(full="--full" in sys.argv), "prove")
