"""Sealing whole runs: what a manifest says, two finalisers, crashes between the steps, old audits, clocks, lost entries."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultkit import ended, process, rows, shown, small_photos, together
from jobkit import KEYS, World, attempt, audit_rows
from upath import UPath

from airflow_facefog.audit import chain, sealed
from airflow_facefog.audit.leaves import leaf_of
from airflow_facefog.audit.ledger import SealedRun, open_ledger
from airflow_facefog.audit.sealed import LedgerError, Signature, SigningKey
from airflow_facefog.audit.tree import proof as proof_of
from airflow_facefog.audit.tree import root, root_from_proof
from airflow_facefog.job import sealing
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.plan import make_plan
from airflow_facefog.publish.store import Store

KEY = SigningKey.generate()
TRUST = {KEY.key_id: KEY.public}
DROPPED = {"image": ["pixel_id", "leaf_idx"]}
"""Columns that schema version 1 did not have."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Three small photos."""
    made = World(tmp_path)
    small_photos(made, 3)
    return made


def ready(world: World, run_id: str = "run-1") -> str:
    """The plan of a run whose batches are committed."""
    refs = make_plan(world.request(run_id, batch_images=2), KEYS)
    for ref in refs:
        run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)
    return str(refs[0]["plan"])


def do_final(plan: str, signer: SigningKey | None = KEY) -> dict[str, Any]:
    """Finalise."""
    return finalise(plan, attempt=attempt(), keys=KEYS, signer=signer)


def store(world: World) -> Store:
    """The audit."""
    return Store(UPath(world.audit))


def only_run(world: World) -> SealedRun:
    """The one sealed run of the audit."""
    (found,) = open_ledger(store(world)).runs
    return found


def files(*folders: Path) -> dict[str, bytes]:
    """Every file below."""
    return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def folder_of(world: World) -> Path:
    """The folder of the one sealed run."""
    (manifest,) = world.audit.glob("runs/*/*/manifest.json")
    return manifest.parent


def make_old(world: World) -> None:
    """Turn every sealed run into one of the release before: schema version 1, plain JSON, no tree, no chain."""
    for path in world.audit.glob("runs/*/*/manifest.json"):
        manifest = json.loads(path.read_bytes())
        for name in ("tree", "previous", "sealed_at", "signer", "signature"):
            del manifest[name]
        del manifest["parts"]["leaf"]
        for name, part in manifest["parts"].items():
            found = pq.read_table(pa.BufferReader((world.audit / part["key"]).read_bytes()))
            found = found.drop_columns(DROPPED.get(name, []))
            metadata = {**found.schema.metadata, b"facefog_schema_version": b"1"}
            pq.write_table(found.replace_schema_metadata(metadata), world.audit / part["key"], compression="zstd")
            digest = hashlib.sha256((world.audit / part["key"]).read_bytes()).hexdigest()
            manifest["parts"][name] = {"key": part["key"], "sha256": digest, "rows": part["rows"]}
        (path.parent / "leaf.parquet").unlink()
        old = {**manifest, "format": "facefog-manifest/1", "signed": False}
        path.write_bytes(json.dumps(old, indent=1, sort_keys=True).encode())
    for folder in ("chain", "keys"):
        shutil.rmtree(world.audit / folder, ignore_errors=True)


def test_a_sealed_run_is_what_its_manifest_says(world: World) -> None:
    """Signed, canonical, every part with hash and size, a leaf for each row."""
    result = do_final(ready(world))
    folder = folder_of(world)
    manifest = sealed.read_sealed((folder / "manifest.json").read_bytes(), sealing.FORMAT)
    assert sealed.check(manifest, TRUST) is Signature.VALID
    assert set(manifest["parts"]) == {"image", "detection", "intent", "leaf"}
    for part in manifest["parts"].values():
        data = (world.audit / part["key"]).read_bytes()
        assert (part["sha256"], part["bytes"]) == (sealed.sha256(data), len(data))
    leaves = pq.read_table(pa.BufferReader((folder / "leaf.parquet").read_bytes())).to_pylist()
    images, detections = audit_rows(world, result), audit_rows(world, result, "detection")
    assert [row["leaf_idx"] for row in images] == [0, 1, 2]
    assert [row["image_id"] for row in images] == sorted(row["image_id"] for row in images)
    for row, leaf in zip(images, leaves, strict=True):
        own = [found for found in detections if found["source_ref"] == row["source_ref"]]
        assert leaf_of(row, own, leaf["salt"]) == leaf["leaf"]
    hashes = [leaf["leaf"] for leaf in leaves]
    assert manifest["tree"] == {"algorithm": "rfc6962-sha256", "root": root(hashes).hex(), "size": 3}
    assert root_from_proof(hashes[1], 1, 3, proof_of(hashes, 1)).hex() == manifest["tree"]["root"]
    assert (world.audit / f"keys/{KEY.key_id}.pem").read_bytes() == KEY.public.pem


def test_runs_are_chained_and_say_what_came_before(world: World) -> None:
    """Each manifest names the head that it saw and the manifest before; each result anchors its own entry."""
    first, second = do_final(ready(world)), do_final(ready(world, "run-2"))
    ledger = open_ledger(store(world))
    assert [run.seq for run in ledger.runs] == [first["chain_seq"], second["chain_seq"]] == [1, 2]
    assert [f"{entry.seq}:{entry.sha256}" for entry in ledger.entries] == [first["chain_head"], second["chain_head"]]
    assert [sealed.check(entry.document, TRUST) for entry in ledger.entries] == [Signature.VALID] * 2
    assert ledger.runs[1].manifest["previous"] == {"seq": 1, "sha256": ledger.entries[0].sha256}
    assert ledger.runs[1].row["prev_manifest_sha256"] == first["manifest_sha256"]
    assert ledger.runs[0].row["prev_manifest_sha256"] is None


def test_finalising_again_says_the_same_and_writes_nothing(world: World) -> None:
    """Whoever retries, also with another key, gets the first answer."""
    plan = ready(world)
    first = do_final(plan)
    before = files(world.audit, world.clean)
    assert do_final(plan) == first
    assert do_final(plan, None) == first
    assert do_final(plan, SigningKey.generate()) == first
    assert files(world.audit, world.clean) == before


def test_unsigned_works_and_says_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Without a key: `signed` is false everywhere, one warning says what that means, and there is no key to trust."""
    with caplog.at_level(logging.INFO):
        result = do_final(ready(world), None)
    assert result["signed"] is False
    assert sealed.check(only_run(world).manifest, TRUST) is Signature.UNSIGNED
    assert not (world.audit / "keys").exists()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "not signed" in warning
    assert any(result["chain_head"] in record.getMessage() for record in caplog.records)


def finalise_into(plan: str, answer: str) -> None:
    """Child process: finalise, and leave the result."""
    Path(answer).write_text(json.dumps(do_final(plan)))


def test_two_processes_that_finalise_at_once_seal_one_manifest(world: World, tmp_path: Path) -> None:
    """All take the salts, the signature and the chain entry of the first; what the others wrote is gone."""
    plan = ready(world)
    answers = [tmp_path / f"{n}.json" for n in range(3)]
    running = [process(finalise_into, plan, str(answer)) for answer in answers]
    assert [ended(one) for one in running] == [0, 0, 0]
    results = [json.loads(answer.read_text()) for answer in answers]
    assert results[0] == results[1] == results[2]
    assert len(open_ledger(store(world)).entries) == 1
    assert sealing.seal_outsiders(store(world), None)["damaged"] == []
    assert len(list(folder_of(world).iterdir())) == 6


@pytest.mark.parametrize("number", range(1, 13))
def test_a_finaliser_that_is_overtaken_at_any_write_says_what_the_other_said(
    world: World, monkeypatch: Any, number: int
) -> None:
    """Before its n-th new object, another one (another key, other salts) does everything: one manifest, nothing left over."""
    plan, numbers, other = ready(world), itertools.count(1), {}
    create = Store.create

    def overtaken(self: Store, key: str, data: bytes) -> bool:
        if next(numbers) == number:
            other.update(do_final(plan, SigningKey.generate()))
        return create(self, key, data)

    monkeypatch.setattr(Store, "create", overtaken)
    assert do_final(plan) == other
    run = only_run(world)
    assert (run.seq, len(open_ledger(store(world)).entries)) == (1, 1)
    assert sealing.sealed_tables(store(world), run).counts() == other["counts"]
    assert len(list(folder_of(world).iterdir())) == 6
    assert len(shown(world)) == 3


def test_many_runs_end_in_one_chain(world: World) -> None:
    """Six runs finalised at the same moment: six linked entries, none lost."""
    plans = [ready(world, f"run-{n}") for n in range(6)]
    results = together(*(lambda plan=plan: do_final(plan) for plan in plans))
    entries = open_ledger(store(world)).entries
    assert sorted(result["chain_head"] for result in results) == [f"{e.seq}:{e.sha256}" for e in entries]
    assert [e.document["previous"] for e in entries] == [None, *(e.sha256 for e in entries[:-1])]


def test_a_finaliser_with_other_rows_leaves_the_winners_bytes_alone(world: World, monkeypatch: Any) -> None:
    """Parts of the loser and of a crashed finaliser have names of their own and are gone once the run is sealed."""
    plan = ready(world)
    winner: dict[str, Any] = {}
    write = sealing._write_parts

    def overtaken(*args: Any) -> Any:
        monkeypatch.setattr(sealing, "_write_parts", write)
        (world.audit / "runs" / args[0].home).mkdir(parents=True, exist_ok=True)
        (world.audit / "runs" / args[0].home / "image.parquet").write_bytes(b"of a crash")
        winner.update(do_final(plan, None))
        return write(*args)

    monkeypatch.setattr(sealing, "_write_parts", overtaken)
    assert do_final(plan) == winner
    run = only_run(world)
    assert run.parts["image"].key.rpartition("/")[2] == f"image-{run.parts['image'].sha256[:16]}.parquet"
    names = {path.name for path in folder_of(world).iterdir()}
    named = {part.key.rpartition("/")[2] for part in run.parts.values()}
    assert names == named | {"manifest.json", "run.parquet"}
    assert len(shown(world)) == 3
    again = do_final(ready(world, "run-2"))
    assert again["counts"]["skipped"] == 3


def test_a_crash_between_seal_and_chain_is_made_good(world: World, monkeypatch: Any) -> None:
    """The manifest is there, its entry is not: a retry appends it, signed, and publishes; so does `audit seal`."""
    plan = ready(world)
    with monkeypatch.context() as patch:
        patch.setattr(chain, "append", lambda *a, **k: (_ for _ in ()).throw(LedgerError("killed")))
        with pytest.raises(LedgerError, match="killed"):
            do_final(plan)
    assert only_run(world).seq is None
    assert shown(world) == {}
    assert sealing.seal_outsiders(store(world), KEY)["chained"] == [only_run(world).home]
    result = do_final(plan)
    assert (result["chain_seq"], len(open_ledger(store(world)).entries), len(shown(world))) == (1, 1, 3)


def test_parts_are_the_same_bytes_however_often_they_are_made(world: World) -> None:
    """Everything but the salted leaves is a function of what was committed."""
    plan = ready(world)
    do_final(plan)
    names = ("image.parquet", "detection.parquet", "intent.parquet")
    before = [(folder_of(world) / name).read_bytes() for name in names]
    salted = (folder_of(world) / "leaf.parquet").read_bytes()
    for folder in ("runs", "chain"):
        shutil.rmtree(world.audit / folder)
    do_final(plan)
    assert [(folder_of(world) / name).read_bytes() for name in names] == before
    assert (folder_of(world) / "leaf.parquet").read_bytes() != salted


def test_a_clock_that_jumps_back_changes_no_order(world: World, monkeypatch: Any) -> None:
    """Each entry is dated a year before the one before it; order and links are those of the chain."""
    now = iter(datetime.now(UTC) - timedelta(days=365 * n) for n in range(100))

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return next(now)

    monkeypatch.setattr(chain, "datetime", Clock)
    monkeypatch.setattr(sealing, "datetime", Clock)
    results = [do_final(ready(world, f"run-{n}")) for n in range(3)]
    ledger = open_ledger(store(world))
    assert [entry.at for entry in ledger.entries] == sorted((entry.at for entry in ledger.entries), reverse=True)
    assert [run.manifest_sha256 for run in ledger.runs] == [result["manifest_sha256"] for result in results]
    assert ledger.runs[2].row["prev_manifest_sha256"] == results[1]["manifest_sha256"]
    assert [do_final(result["plan_uri"]) for result in results] == results


def test_an_audit_of_the_release_before_goes_on(world: World) -> None:
    """Old runs are read, new ones finalise beside them and skip what they did, and `audit seal` chains the old ones."""
    old = do_final(ready(world), None)
    make_old(world)
    before = only_run(world)
    assert (before.seq, before.sealed_after, set(before.parts)) == (None, chain.START, {"image", "detection", "intent"})
    small_photos(world, 4)
    new = do_final(ready(world, "run-2"))
    assert (new["counts"]["skipped"], new["counts"]["published"], new["chain_seq"]) == (3, 1, 1)
    done = sealing.seal_outsiders(store(world), KEY)
    assert (done["chained"], done["damaged"]) == ([before.home], [])
    assert done["chain_head"] == str(chain.read_head(store(world)))
    assert sealing.seal_outsiders(store(world), KEY)["chained"] == []
    again = do_final(old["plan_uri"])
    assert (again["chain_seq"], again["signed"], again["changed"]) == (2, False, old["changed"])
    assert [row["leaf_idx"] for row in sealing.sealed_tables(store(world), before).images.to_pylist()] == [None] * 3


def test_a_run_that_an_older_release_planned_is_finished_by_this_one(world: World) -> None:
    """Batch parts of schema version 1 are sealed as parts of this version, with leaves."""
    plan = ready(world)
    for commit in world.audit.glob("commits/*/*/*.json"):
        body = json.loads(commit.read_bytes())
        path = world.audit / body["image"]["key"]
        found = pq.read_table(pa.BufferReader(path.read_bytes())).drop_columns(DROPPED["image"])
        found = found.replace_schema_metadata({**found.schema.metadata, b"facefog_schema_version": b"1"})
        pq.write_table(found, path)
        body["image"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        commit.write_bytes(json.dumps(body).encode())
    result = do_final(plan)
    assert [row["leaf_idx"] for row in audit_rows(world, result)] == [0, 1, 2]


def test_damaged_old_runs_are_not_chained(world: World) -> None:
    """The chain would vouch for the damage: the run stays outside and is named, others are appended."""
    do_final(ready(world), None)
    do_final(ready(world, "run-2"), None)
    make_old(world)
    damaged = sorted(world.audit.glob("runs/*/*/image.parquet"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\0")
    done = sealing.seal_outsiders(store(world), KEY)
    assert len(done["chained"]) == 1
    assert damaged.relative_to(world.audit).as_posix() in done["damaged"][0]
    assert [run.seq for run in open_ledger(store(world)).runs] == [1, None]


@pytest.mark.parametrize("gone", ["chain", "leaf", "rows"])
def test_a_retry_over_a_damaged_audit_publishes_nothing_new(world: World, gone: str) -> None:
    """A chain that lost the entry that a manifest names, and rows that were edited: an error, not a new entry."""
    do_final(ready(world))
    plan = ready(world, "run-2")
    do_final(plan)
    if gone == "chain":
        for path in (world.audit / "chain").iterdir():
            path.unlink()
    path = world.audit / open_ledger(store(world)).runs[-1].parts["image"].key
    if gone == "rows":
        path.write_bytes(path.read_bytes() + b"\0")
    if gone == "leaf":
        path.unlink()
    before = files(world.clean, world.audit / "runs")
    with pytest.raises(LedgerError, match=r"chain entry 1|image\.parquet is missing or does not hold"):
        do_final(plan)
    assert files(world.clean, world.audit / "runs") == before


def test_expired_rows_are_not_published_again(world: World) -> None:
    """After the image rows of a run expired, a retry cannot know what to publish: an error, nothing moves."""
    plan = ready(world)
    do_final(plan)
    run = only_run(world)
    part = {"key": None, "sha256": None, "rows": 0, "replaces": run.parts["image"].sha256}
    body = {
        "kind": chain.AMENDMENT,
        "run_key": run.run_key,
        "generation": 0,
        "request_id": "q",
        "parts": {"image": part},
    }
    chain.append(store(world), body, KEY, after=run.sealed_after, same=lambda _: False)
    with pytest.raises(LedgerError, match="expired"):
        do_final(plan)


def test_an_empty_run_is_sealed(world: World) -> None:
    """A day without photos has an empty tree and a place in the chain."""
    for path in world.raw.iterdir():
        path.unlink()
    result = do_final(ready(world))
    assert only_run(world).manifest["tree"] == {
        "algorithm": "rfc6962-sha256", "root": hashlib.sha256(b"").hexdigest(), "size": 0,
    }  # fmt: skip
    assert (result["chain_seq"], result["signed"]) == (1, True)


def test_run_rows_in_parquet_name_their_manifest(world: World) -> None:
    """``run.parquet`` is the manifest's run row with its URI and hash."""
    result = do_final(ready(world))
    (row,) = rows("run", folder_of(world) / "run.parquet")
    assert (row["manifest_uri"], row["manifest_sha256"]) == (result["manifest_uri"], result["manifest_sha256"])


def test_the_chain_names_the_row_of_a_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry by a release that would write other bytes leaves what the chain names; lost or damaged, it comes back."""
    plan = ready(world)
    do_final(plan)
    audit, key = store(world), only_run(world).row_key
    data = audit.read(key)
    (entry,) = chain.read_entries(audit)
    assert entry.document["run_part"] == {"key": key, "sha256": sealed.sha256(data), "bytes": len(data)}
    with monkeypatch.context() as patch:
        patch.setattr("airflow_facefog.job.finalise._encoded", lambda row: b"as another pyarrow writes it")
        do_final(plan)
    assert audit.read(key) == data
    for damage in (lambda: audit.delete(key), lambda: audit.replace(key, data[:-1])):
        damage()
        do_final(plan)
        assert audit.read(key) == data
    assert len(list(chain.read_entries(audit))) == 1


def test_a_chain_takes_many_writers_and_amendments(world: World) -> None:
    """The manifest before is found behind any number of amendments; a gap on the way is an error."""
    do_final(ready(world))
    audit = store(world)
    for n in range(5):
        body = {"kind": chain.AMENDMENT, "run_key": "r", "generation": 0, "request_id": str(n), "parts": {}}
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: chain.append(audit, body, None, same=lambda e: False), range(2)))  # noqa: B023
    head = chain.read_head(audit)
    assert head.seq == 11
    assert sealing.newest_manifest(audit, head) == only_run(world).manifest_sha256
    audit.delete(chain.entry_key(9))
    with pytest.raises(LedgerError, match="entry 9 is missing"):
        sealing.newest_manifest(audit, head)
