"""A synthetic run that is ready to be finalised: plan, batch files, parts, commits, and objects of one byte.

Only the bookkeeping from plan to snapshot can be measured with it: nothing was looked at, fogged or encoded.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy
from airflow_facefog.job.model import Place, Plan, RunIdentity

DETECTIONS = 10
BATCH = 500
MICRO = 64
RUN_KEY = "f" * 32
RECIPE = "e" * 64
KEYS = KeyRing.from_master(bytes(range(32)))


@dataclass(frozen=True, slots=True)
class Bench:
    """A run that is ready to be finalised below ``root``."""

    root: Path
    plan: Plan

    @property
    def plan_uri(self) -> str:
        """What finalise is called with."""
        return f"{self.plan.audit.uri}/plans/{self.plan.home}/plan.json"

    def unseal(self) -> None:
        """As it was before it was finalised."""
        for folder in ("audit/runs", "audit/chain", "audit/keys", "audit/refusals", "clean/_facefog"):
            shutil.rmtree(self.root / folder, ignore_errors=True)
        for path in self.root.glob("audit.db*"):
            path.unlink()


def build(root: Path, images: int, layout: str) -> Bench:
    """Write plan, batch files, parts, commits and objects of ``images`` published images."""
    from upath import UPath

    from airflow_facefog.publish.store import Store

    batches = tuple((f"{n:016x}", min(BATCH, images - n * BATCH)) for n in range(-(-images // BATCH)))
    plan = _plan(root, images, batches, layout)
    audit = Store(UPath(root / "audit"))
    start = 0
    for batch_id, count in batches:
        _write_batch(root, plan, audit, batch_id, range(start, start + count))
        start += count
    _put(root / "audit", f"plans/{plan.home}/plan.json", json.dumps(plan.to_json()).encode())
    return Bench(root, plan)


def _plan(root: Path, images: int, batches: tuple[tuple[str, int], ...], layout: str) -> Plan:
    places = {name: Place.parse(root / name) for name in ("raw", "clean", "audit")}
    info = {"name": "d", "model_id": "m", "model_version": "1", "model_sha256": "0" * 64, "fingerprint": "d"}
    policy = FogPolicy()
    return Plan(
        run_key=RUN_KEY, generation=0, identity=RunIdentity("dag", "run", "list"), source=places["raw"],
        destination=places["clean"], audit=places["audit"], policy=policy, policy_hash=policy.policy_hash(),
        recipe_hash=RECIPE, detector="local", detector_info=info, key_id=KEYS.key_id, key_conn_id=None,
        id_scheme=KEYS.id_scheme, fog_version="1", layout=layout, dataset="default", mirror=False, listing_id="l" * 32,
        retry_quarantined=False, base_snapshot=None, listed_at="2026-01-01T00:00:00.000000+00:00", listed=images,
        batches=batches,
    )  # fmt: skip


def _write_batch(root: Path, plan: Plan, audit: Any, batch_id: str, numbers: range) -> None:
    names = [f"camera_{n % 40:02d}/day_{n // 20_000:03d}/photo_{n:08d}.jpg" for n in numbers]
    body = {"batch_id": batch_id, "items": [[name, 1, f"{n}-1"] for n, name in zip(numbers, names, strict=True)]}
    _put(root / "audit", plan.batch_key(batch_id), json.dumps(body).encode())
    refs = [KEYS.source_ref(f"{plan.source.uri}/{name}") for name in names]
    ids = [hashlib.sha256(b"%d" % n).hexdigest() for n in numbers]
    shas = [hashlib.sha256(b"o%d" % n).hexdigest() for n in numbers]
    keys = [_object_key(plan, name, sha) for name, sha in zip(names, shas, strict=True)]
    for key in keys:
        _put(root / "clean", key, b"x")
    prefix = plan.attempt_prefix(batch_id, "a" * 36)
    same = {"run_key": plan.run_key, "generation": 0, "batch_id": batch_id, "attempt_id": "a" * 36}
    part = {
        "facefog_image": _image_columns(plan, names, refs, ids, shas, keys),
        "facefog_detection": _detection_columns(refs, ids),
    }
    entries = {
        table.removeprefix("facefog_"): _part(root, prefix, table, columns | same) for table, columns in part.items()
    }
    intents = []
    for at in range(0, len(refs), MICRO):
        columns = {
            "source_ref": refs[at : at + MICRO], "image_id": ids[at : at + MICRO], "output_key": keys[at : at + MICRO],
            "output_sha256": shas[at : at + MICRO], "created_at": "2026-01-01T00:00:01+00:00",
        }  # fmt: skip
        intents.append(_part(root, prefix, "facefog_intent", columns | same, f"intent-{len(intents):04d}"))
    commit = {"batch_id": batch_id, **entries, "intents": intents}
    _put(root / "audit", plan.commit_key(batch_id), json.dumps(commit).encode())


def _object_key(plan: Plan, name: str, sha256: str) -> str:
    from airflow_facefog.publish.layout import output_key

    return output_key(plan.layout, name, sha256, "jpg")


def _image_columns(
    plan: Plan, names: list[str], refs: list[str], ids: list[str], shas: list[str], keys: list[str]
) -> dict[str, Any]:
    groups = [KEYS.source_ref(f"{plan.source.uri}/{name.rpartition('/')[0]}")[:16] for name in names]
    return {
        "source_ref": refs, "status": "published", "image_id": ids, "source_group": groups,
        "source_etag": [f"17000000{ref[:10]}-1" for ref in refs], "width": 1920, "height": 1080, "format": "jpeg",
        "orientation_applied": 1, "output_uri": [f"{plan.destination.uri}/{key}" for key in keys], "output_sha256": shas,
        "output_bytes": 1, "n_detections": DETECTIONS, "n_fogged": DETECTIONS, "n_dropped": 0, "verify_coverage": 1.0,
        "verify_worst_score": [int(ref[:6], 16) / 2**24 for ref in refs], "refogged": 0, "irreversible": 1,
        "encode_mode": "jpeg_q90_420", "outside_psnr": [40 + int(ref[:6], 16) / 2**24 for ref in refs],
        "t_read_ms": [int(ref[1:4], 16) / 1000 for ref in refs], "t_detect_ms": [int(ref[2:6], 16) / 1000 for ref in refs],
        "t_fog_ms": [int(ref[3:6], 16) / 1000 for ref in refs], "t_write_ms": 1.25, "try_number": 1,
        "committed_at": "2026-01-01T00:00:02+00:00",
    }  # fmt: skip


def _detection_columns(refs: list[str], ids: list[str]) -> dict[str, Any]:
    count = len(refs) * DETECTIONS
    corner = [int(ref[n : n + 3], 16) / 64 for ref in refs for n in range(DETECTIONS)]
    return {
        "source_ref": [ref for ref in refs for _ in range(DETECTIONS)],
        "image_id": [image for image in ids for _ in range(DETECTIONS)],
        "det_idx": list(range(DETECTIONS)) * len(refs), "detector": "yunet",
        "class_name": ["face" if n % 3 else "plate" for n in range(count)], "confidence": [x / 64 for x in corner],
        "threshold": 0.25, "x1": corner, "y1": corner, "x2": [x + 20 for x in corner], "y2": [x + 24 for x in corner],
        "n_members": 2, "action": "fogged", "method": "fog", "params_hash": "p" * 16, "fx1": [int(x) for x in corner],
        "fy1": [int(x) for x in corner], "fx2": [int(x) + 32 for x in corner], "fy2": [int(x) + 32 for x in corner],
        "irreversible": 1, "source": "model",
    }  # fmt: skip


def _part(root: Path, prefix: str, table: str, columns: dict[str, Any], name: str | None = None) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from airflow_facefog.audit.parquet import arrow_schema

    schema = arrow_schema(table)
    count = next(len(values) for values in columns.values() if isinstance(values, list))
    arrays = []
    for field in schema:
        value = columns.get(field.name)
        arrays.append(pa.array(value if isinstance(value, list) else [value] * count, type=field.type))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), sink, compression="zstd")
    data = bytes(sink.getvalue())
    key = f"{prefix}{name or table.removeprefix('facefog_')}.parquet"
    _put(root / "audit", key, data)
    return {"key": key, "sha256": hashlib.sha256(data).hexdigest(), "rows": count}


def _put(root: Path, key: str, data: bytes) -> None:
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
