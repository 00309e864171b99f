"""A synthetic audit of several thousand rows with planted oddities, sealed and chained as finalise does it.

Every oddity is counted in ``PLANTED``: view → rows. Ids are hashes of readable names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from airflow_facefog.audit import amendments, chain, sealed
from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.audit.parquet import to_parquet
from airflow_facefog.publish.store import Store

Row = dict[str, Any]

FIRST, WIDE = 1500, 40
"""Images of the first run, and of each later one."""

PLANTED = {
    "run_summary": 9, "failed_runs": 1, "integrity": 2, "withdrawn": 5, "open_quarantine": 10, "skipped": 40 + 12 + 1,
    "duplicates": 3, "refogged": 2, "truncated": 3, "linkable": 4, "human_regions": 6, "leaks": 7, "image_counts": 2,
    "inconsistent_images": 7, "conflicting_outputs": 1, "published_without_intent": 2, "unfinished_intents": 1,
    "erasures": 1, "egress_by_host": 2, "near_threshold": 2,
}  # fmt: skip


def digest(text: str) -> str:
    """64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def run_key(name: str) -> str:
    """32 hex digits."""
    return digest(f"run {name}")[:32]


@dataclass
class Run:
    """One generation of a run before it is sealed."""

    name: str
    day: int
    generation: int = 0
    destination: str = "s3://clean/street"
    policy: str = "p1"
    model: str = "v1"
    images: list[Row] = field(default_factory=list)
    detections: list[Row] = field(default_factory=list)
    intents: list[Row] = field(default_factory=list)

    @property
    def key(self) -> Row:
        """What names it in every row."""
        return {"run_key": run_key(self.name), "generation": self.generation}

    def add(self, item: str, status: str = "published", *, faces: int = 3, intent: bool = True, **more: Any) -> Row:
        """One image row with its detections and intent; ``more`` overrides columns of the image."""
        row = self.key | {
            "source_ref": digest(f"ref {item}"), "status": status, "batch_id": "b" * 16, "attempt_id": "a" * 36,
            "image_id": digest(f"image {item}"), "source_group": item[:3], "n_detections": 0, "n_fogged": 0, "n_dropped": 0,
            "refogged": 0, "try_number": 1, "committed_at": f"2026-05-{self.day:02d}T01:02:03.000004+00:00",
            "t_read_ms": 1.5, "t_detect_ms": float(len(self.images) % 7), "t_fog_ms": 2.25, "t_write_ms": 0.5,
        }  # fmt: skip
        if status == "published":
            output = digest(f"out {item} {self.policy}")
            row |= {
                "output_uri": f"{self.destination}/data/{output[:12]}.jpg", "output_sha256": output, "output_bytes": 1000,
                "width": 640, "height": 480, "n_detections": faces, "n_fogged": min(faces, 2),
                "irreversible": 1 if faces else None, "verify_coverage": 1.0 if faces else None,
                "verify_worst_score": 0.5 if faces else None,
            }  # fmt: skip
            self.detections += [self.detection(row, n) for n in range(faces)]
        row |= more
        if intent and row.get("output_sha256"):
            about = {name: row[name] for name in ("source_ref", "image_id", "attempt_id", "batch_id", "output_sha256")}
            self.intents.append(self.key | about | {"output_key": "data/x.jpg", "created_at": row["committed_at"]})
        self.images.append(row)
        return row

    def detection(self, image: Row, n: int, **more: Any) -> Row:
        """The first two of an image are fogged, the others are below the threshold."""
        row = self.key | {
            "source_ref": image["source_ref"], "image_id": image["image_id"], "det_idx": n, "detector": "yunet",
            "class_name": "face" if n else "plate", "confidence": 0.5 + n / 64, "threshold": 0.25, "x1": 10.0, "y1": 10.0,
            "x2": 30.5, "y2": 40.5, "n_members": 1, "action": "fogged", "method": "fog", "params_hash": "p" * 16, "fx1": 8,
            "fy1": 8, "fx2": 32, "fy2": 48, "irreversible": 1, "source": "model",
        }  # fmt: skip
        if n >= 2:
            row |= dict.fromkeys(("method", "params_hash", "fx1", "fy1", "fx2", "fy2", "irreversible"))
            row |= {"action": "below_threshold", "confidence": 0.0625}
        return row | more

    def row(self, **more: Any) -> Row:
        """The row of ``facefog_run``."""
        at = f"2026-05-{self.day:02d}T01:00:00.000000+00:00"
        count = lambda status: sum(row["status"] == status for row in self.images)  # noqa: E731
        return self.key | {
            "dag_id": "street", "run_id": f"run {self.name}", "data_date": at[:10], "destination": self.destination,
            "dataset": "default", "layout": "named", "policy_name": self.policy, "policy_hash": digest(self.policy),
            "policy_json": "{}", "recipe_hash": digest(f"{self.policy} {self.model}"), "detector": "local", "model_id": "yunet",
            "model_version": self.model, "model_sha256": digest(self.model), "key_id": "01234567", "id_scheme": "hmac-sha256",
            "packages_json": "{}", "status": "final", "listed": len(self.images),
            **{status: count(status) for status in ("published", "quarantined", "failed", "skipped")},
            "detections": len(self.detections), "fogged": sum(row["action"] == "fogged" for row in self.detections),
            "listed_at": at, "started_at": at, "finished_at": at.replace("T01", "T02"), **more,
        }  # fmt: skip


def seal(audit: Store, run: Run, signer: sealed.SigningKey | None = None, **row: Any) -> None:
    """Parts, manifest, chain entry."""
    home = f"runs/{run.key['run_key']}/{run.generation}"
    parts = {}
    for name, rows in (("image", run.images), ("detection", run.detections), ("intent", run.intents)):
        rows = sorted(rows, key=lambda one: (one["image_id"] or "", one["source_ref"]))
        data = to_parquet(f"facefog_{name}", rows, compacted=bool(rows))
        audit.create(f"{home}/{name}.parquet", data)
        about = {"sha256": sealed.sha256(data), "rows": len(rows), "bytes": len(data)}
        parts[name] = {"key": f"{home}/{name}.parquet", **about}
    head = chain.read_head(audit)
    manifest = {
        "format": "facefog-manifest/2", **run.key, "counts": {"listed": len(run.images)}, "parts": parts, "run": run.row(**row),
        "previous": {"seq": head.seq, "sha256": head.sha256},
    }  # fmt: skip
    data = sealed.seal(manifest, signer)
    audit.create(f"{home}/manifest.json", data)
    about = {"key": f"{home}/manifest.json", "sha256": sealed.sha256(data)}
    body = {"kind": chain.RUN, **run.key, "manifest": about, "counts": manifest["counts"]}
    chain.append(audit, body, signer, same=lambda entry: entry.run == tuple(run.key.values()))


def plant(audit: Store) -> None:
    """The whole audit: nine runs, one of them failed, an erasure, two transfers, names of some sources."""
    for run, more in (*_ordinary(), *_odd()):
        seal(audit, run, **more)
    failed = Run("failed", 9)
    audit.create(
        f"runs/{run_key('failed')}/0/run.parquet", to_parquet("facefog_run", [failed.row(status="failed", listed=7)])
    )
    _erase(audit, digest("image first 1499"))
    _egress(audit)
    refs = [digest(f"ref first {n:04d}") for n in range(20)]
    rows = [
        {"source_ref": ref, "source_uri": f"s3://raw/{ref[:4]}", "bytes": 10, "expires_at": "2999-01-01"}
        for ref in refs
    ]
    audit.create(f"sources/{run_key('first')}/0.parquet", to_parquet("facefog_source", rows))


def _ordinary() -> Iterable[tuple[Run, Row]]:
    first = Run("first", 1)
    for n in range(FIRST):
        first.add(f"first {n:04d}", faces=3 if n % 10 else 0)
    yield first, {}
    second = Run("second", 2)
    for n in range(40):
        second.add(f"first {n:04d}", "skipped", reason="already_done", done_run_key=run_key("first"))
    for n in range(40, 45):
        second.add(f"first {n:04d}", "quarantined", reason="verify_failed", error_class="ImageError")
    for n in range(4):
        second.add(f"lost {n}", "failed", reason="source_missing", image_id=None)
    yield second, {}
    third = Run("third", 3, policy="p2", model="v2")
    for n in range(100, 100 + WIDE):
        third.add(f"first {n:04d}")
    yield third, {}
    fourth = Run("fourth", 4)
    for n in range(12):
        fourth.add(f"fourth {n}")
    yield fourth, {}
    again = Run("fourth", 5, generation=1)
    for n in range(12):
        again.add(f"fourth {n}", "skipped", reason="already_done", done_run_key=run_key("fourth"))
    again.add("fourth 12")
    yield again, {}


def _odd() -> Iterable[tuple[Run, Row]]:
    marked = Run("marked", 6, destination="s3://clean/other")
    for n in range(3):
        first = digest("ref marked 3") if n else None
        marked.add(f"marked {n}", n_dropped=n, detect_floor=0.1 if not n else None, image_id=digest("image marked 3"),
                   duplicate_of=first, output_sha256=digest("out marked 3 p1"))  # fmt: skip
    marked.add("marked 3", duplicate_of=digest("ref marked 0"))
    marked.add("marked 4", refogged=1)
    marked.add("marked 5", refogged=1)
    for n in range(4):
        marked.add(f"linkable {n}", irreversible=0)
    for row in marked.detections[-6:]:
        row["source"] = "human"
    near = marked.add("near", faces=2)
    for row, confidence in zip(marked.detections[-2:], (0.25, 0.2999), strict=True):
        assert row["source_ref"] == near["source_ref"]
        row["confidence"] = confidence
    yield marked, {}
    yield _leaking(), {}
    wrong = Run("wrong", 8, destination="s3://clean/odd")
    wrong.add("wrong 0")
    yield wrong, {"listed": 2, "published": 2}


def _leaking() -> Run:
    """Rows that must never be: each kind of leak once, images that contradict themselves, missing intents."""
    run = Run("leaking", 7, destination="s3://clean/odd")
    leaks: list[Row] = [
        {"action": "below_threshold"}, {"action": "kept"}, {"fx1": None}, {"fx2": 4}, {"fx2": 700}, {"fx1": 16}, {"method": None},
    ]  # fmt: skip
    for n, more in enumerate(leaks):
        run.add(f"leak {n}", faces=1, n_fogged=int(more.get("action", "fogged") == "fogged"))
        run.detections[-1] |= more
    polygon = run.add("polygon", faces=1)
    run.detections[-1] |= {"polygon": "[[12, 12], [20, 12], [20, 20]]", "fx1": 16}
    assert polygon["n_fogged"] == 1
    for n, more in enumerate(
        [
            {"output_uri": None},
            {"verify_coverage": None},
            {"verify_coverage": 0.5},
            {"verify_worst_score": 1.5},
            {"n_fogged": 4},
        ]
    ):
        run.add(f"odd {n}", **more)
    run.add("odd 5", "skipped")
    run.add("odd 6", "quarantined")
    run.add("count", n_detections=9)
    run.add("no intent 0", intent=False)
    run.add("no intent 1", intent=False)
    run.add("conflict", image_id=digest("image first 0002"), faces=0)
    run.intents.append({**run.intents[0], "output_sha256": digest("residue"), "output_key": "data/residue.jpg"})
    return run


def _erase(audit: Store, image_id: str) -> None:
    import pyarrow.compute as pc

    ledger = open_ledger(audit)
    run = ledger.find(run_key("first"), 0)
    assert run is not None
    request = amendments.Request("e" * 32, "erasure", "dpo")
    amended = amendments.remove_rows(
        audit, amendments.Cursor.after(ledger), run, request, lambda table: pc.equal(table["image_id"], image_id), None
    )
    assert amended is not None


def _egress(audit: Store) -> None:
    for n, kind in enumerate(("inference", "upload")):
        row = {
            "run_key": run_key("first"), "generation": 0, "source_ref": digest("ref first 0001"), "attempt_id": "a" * 36,
            "egress_idx": n, "image_id": digest("image first 0001"), "kind": kind, "host": "api.example", "bytes": 77,
            "project": "labels" if n else None, "sent_at": f"2026-05-01T01:00:0{n}.000000+00:00",
        }  # fmt: skip
        audit.create(f"egress/{run_key('first')}/{'a' * 36}/{n}.parquet", to_parquet("facefog_egress", [row]))
