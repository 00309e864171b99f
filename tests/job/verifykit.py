"""A real audit of three signed runs, and the tools of an attacker who can write to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobkit import KEYS, World, attempt, picture, save

from airflow_facefog.audit.parquet import from_parquet, to_parquet
from airflow_facefog.audit.sealed import SigningKey, seal, sha256
from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.model import Place, PlanRequest
from airflow_facefog.job.plan import make_plan
from airflow_facefog.job.record.verify_audit import VerifyRequest, verify_audit

Edit = Callable[[dict[str, Any]], None]


def run_signed(request: PlanRequest, signer: SigningKey | None, sql: SqlSink | None = None) -> dict[str, Any]:
    """Plan, all batches, finalise with a signing key."""
    refs = make_plan(request, KEYS)
    for ref in refs:
        run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)
    return finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS, sql=sql, signer=signer)


@dataclass
class Record:
    """An audit folder, the key that signed it, the destination that it names, and its anchor."""

    root: Path
    clean: Path
    signer: SigningKey
    head: str

    def path(self, key: str) -> Path:
        """The file of an audit key."""
        return self.root / key

    def json(self, key: str) -> dict[str, Any]:
        """A document."""
        return dict(json.loads(self.path(key).read_bytes()))

    def entry(self, seq: int) -> dict[str, Any]:
        """A chain entry."""
        return self.json(f"chain/{seq:010d}.json")

    def write(self, key: str, document: dict[str, Any], signer: SigningKey | None) -> bytes:
        """Seal a document over the one that is there."""
        data = seal(document, signer)
        self.path(key).write_bytes(data)
        return data

    def home(self, seq: int) -> str:
        """``runs/<run_key>/<generation>`` of the run in entry ``seq``."""
        return str(self.entry(seq)["manifest"]["key"]).rpartition("/")[0]

    def part(self, name: str, seq: int = 2) -> str:
        """Key of a file in the folder of a run."""
        return f"{self.home(seq)}/{name}"

    def flip(self, key: str, at: int = -1, mask: int = 1) -> None:
        """Flip bits of one byte; -1: the one in the middle."""
        data = bytearray(self.path(key).read_bytes())
        data[len(data) // 2 if at < 0 else at] ^= mask
        self.path(key).write_bytes(data)

    def rewrite(
        self, signer: SigningKey | None, edit: Edit = lambda manifest: None, edit_entry: Edit = lambda entry: None
    ) -> None:
        """Write manifests, rows and chain anew, each consistent with the others: what only another key shows."""
        hashes: dict[int, str | None] = {0: None}
        newest = None
        for seq in range(1, len(list(self.path("chain").iterdir())) + 1):
            entry = self.entry(seq)
            if entry["kind"] == "run":
                newest = self._rewrite_run(entry, signer, edit, hashes, newest)
            entry["previous"] = hashes[seq - 1]
            edit_entry(entry)
            hashes[seq] = sha256(self.write(f"chain/{seq:010d}.json", entry, signer))

    def _rewrite_run(
        self, entry: dict[str, Any], signer: SigningKey | None, edit: Edit, hashes: dict[int, str | None],
        newest: str | None,
    ) -> str:  # fmt: skip
        key = entry["manifest"]["key"]
        manifest = self.json(key)
        edit(manifest)
        manifest["previous"]["sha256"] = hashes[manifest["previous"]["seq"]]
        manifest["run"]["prev_manifest_sha256"] = newest
        digest = sha256(self.write(key, manifest, signer))
        entry["manifest"]["sha256"], entry["counts"] = digest, manifest["counts"]
        row_key = self.path(key.replace("manifest.json", "run.parquet"))
        uri = from_parquet("facefog_run", row_key.read_bytes())[0]["manifest_uri"]
        row = {**manifest["run"], "manifest_uri": uri, "manifest_sha256": digest}
        data = to_parquet("facefog_run", [row])
        row_key.write_bytes(data)
        if "run_part" in entry:
            entry["run_part"] |= {"sha256": sha256(data), "bytes": len(data)}
        return digest

    def reseal_part(self, key: str, data: bytes, rows: int | None = None) -> None:
        """Put other bytes in the place of a part and let the right key sign that: a finaliser that lies."""
        self.path(key).write_bytes(data)

        def edit(manifest: dict[str, Any]) -> None:
            for part in manifest["parts"].values():
                if part["key"] == key:
                    part |= {"sha256": sha256(data), "bytes": len(data), "rows": part["rows"] if rows is None else rows}

        self.rewrite(self.signer, edit)

    def verify(self, *, pinned: bool = True, **options: Any) -> dict[str, Any]:
        """Verify with the right public key."""
        sql = options.pop("sql", None)
        if pinned:
            options.setdefault("public_keys", (self.signer.public.pem.decode(),))
        return verify_audit(VerifyRequest(Place.parse(self.root), **options), sql=sql)


def build(root: Path) -> Record:
    """Three runs: photos; more photos, one with nothing on it; a broken file, which leaves a note of refusal."""
    world, signer = World(root), SigningKey.generate()
    sql = SqlSink(f"sqlite:///{root}/facefog.db")
    world.photos(4)
    run_signed(world.request("run-1"), signer, sql)
    world.photos(2, 4)
    save(world.raw / "nobody.jpg", picture(77))
    run_signed(world.request("run-2"), signer, sql)
    world.photos(1, 6)
    (world.raw / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    result = run_signed(world.request("run-3"), signer, sql)
    sql.close()
    return Record(world.audit, world.clean, signer, result["chain_head"])


def copies(record: Record, folder: Path) -> Iterator[Record]:
    """A copy of the audit to tamper with; what was done to the destination is undone afterwards."""
    copy, kept = folder / "audit", folder / "clean"
    shutil.copytree(record.root, copy)
    shutil.copytree(record.clean, kept)
    yield Record(copy, record.clean, record.signer, record.head)
    shutil.rmtree(record.clean, ignore_errors=True)
    shutil.move(kept, record.clean)


def said(result: dict[str, Any], level: str = "error") -> set[tuple[str, str]]:
    """(code, object) of each finding of this level."""
    return {(found["code"], found["object"]) for found in result["findings"] if found["level"] == level}
