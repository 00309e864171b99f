"""``prove`` against histories and spoilt records: superseded, uncommitted, two datasets, bookkeeping, runs meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from provekit import KEYS, World, counts, encode, found, pictures
from upath import UPath

from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.audit.sealed import LedgerError, SigningKey
from airflow_facefog.audit.tombstones import raise_tombstones
from airflow_facefog.core.errors import PolicyError
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy, Limits
from airflow_facefog.core.records import Status
from airflow_facefog.job.model import Place
from airflow_facefog.job.record.prove_store import ProveRequest, prove_store
from airflow_facefog.publish import parts as p
from airflow_facefog.publish.prove import proof as proof_module
from airflow_facefog.publish.prove.proof import Settings, prove
from airflow_facefog.publish.store import Store

FILL = FogPolicy(rules={"face": {"method": "fill"}})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One run over four pictures; never changed."""
    world = World(tmp_path_factory.mktemp("made")).fill()
    world.run()
    return world


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """A copy of it; its audit names the first destination."""
    return made.copy(tmp_path / "w")


@pytest.fixture
def fresh(tmp_path: Path) -> World:
    """A world without a run, to make histories in."""
    return World(tmp_path / "fresh").fill()


def test_another_policy_supersedes(fresh: World) -> None:
    """Outputs of an earlier policy were published once: still proven, and told apart; the unfogged one is the same."""
    fresh.run()
    fresh.run(policy=FILL)
    report = fresh.prove()
    assert report.clean
    assert {name: n for name, n in report.document["states"].items() if n} == {"current": 4, "superseded": 3}


def test_a_crash_leaves_uncommitted_objects(fresh: World) -> None:
    """Objects of a run that was never sealed are known by their intents, before and after other runs."""
    fresh.batches(fresh.plan(policy=FILL))
    fresh.put("data/raw.jpg", fresh.raws["coffee.jpg"])
    report = fresh.prove()
    assert {key: f["class"] for key, f in found(report).items()} == {"data/raw.jpg": "raw-match"}
    assert report.document["states"]["uncommitted"] == 4
    fresh.run()
    states = fresh.prove().document["states"]
    assert (states["current"], states["uncommitted"]) == (4, 3)


def test_an_object_of_an_attempt_that_lost_is_uncommitted(world: World) -> None:
    """Its intent lies beside those of the sealed run and in no part of it."""
    from airflow_facefog.audit.parquet import from_parquet, to_parquet

    (intent,) = world.audit.glob("intents/*/*/*/*/intent-0000.parquet")
    row = from_parquet("facefog_intent", intent.read_bytes())[0]
    data = b"output of a zombie"
    import hashlib

    other = {
        **row,
        "attempt_id": "zombie",
        "output_key": "data/z.jpg",
        "output_sha256": hashlib.sha256(data).hexdigest(),
    }
    (intent.parent.parent / "zombie").mkdir()
    (intent.parent.parent / "zombie" / "intent-0000.parquet").write_bytes(to_parquet("facefog_intent", [other]))
    world.put("data/z.jpg", data)
    report = world.prove()
    assert (report.clean, report.document["states"]["uncommitted"]) == (True, 1)


def test_two_datasets_share_a_destination(fresh: World) -> None:
    """Each has its own newest snapshot; an object is current when either shows it, missing when either lacks it."""
    fresh.run()
    fresh.run(policy=FILL, dataset="filled")
    report = fresh.prove()
    assert report.clean, report.document["findings"]
    assert report.document["states"]["current"] == 7
    assert [d["dataset"] for d in report.document["datasets"]] == ["default", "filled"]
    from airflow_facefog.publish.snapshots import open_dataset

    keys = open_dataset(Store(UPath(str(fresh.clean))), dataset="filled")["uri"].to_pylist()
    gone = next(Path(uri.removeprefix("file://")) for uri in keys if "astronaut" in uri)
    gone.unlink()
    assert {f["class"] for f in fresh.prove().document["findings"]} == {"missing"}


@pytest.mark.parametrize("layout", ["named", "content"])
def test_keyless_runs_are_proven_too(tmp_path: Path, layout: str) -> None:
    """Plain sha256 ids: a raw copy is recognised without any key, and with a key that has nothing to do with the audit."""
    world = World(tmp_path / "k", KeyRing.from_master(None)).fill()
    world.run(layout=layout)
    assert world.prove().clean
    key = world.put("data/x.jpg", world.raws["astronaut.jpg"])
    for keys in (KeyRing.from_master(None), KEYS):
        assert found(world.prove(keys=keys))[key]["class"] == "raw-match"


def test_pixel_ids_take_a_key(tmp_path: Path) -> None:
    """A keyless run that asks for them is refused before anything is planned; they are no part of the recipe."""
    world = World(tmp_path / "k", KeyRing.from_master(None)).fill()
    with pytest.raises(PolicyError, match="record_pixel_id"):
        world.run(policy=FogPolicy(record_pixel_id=True))
    assert not world.audit.exists()


def test_a_raw_image_that_was_refused_is_recognised(fresh: World) -> None:
    """Quarantined images are raw too: their ids are in the audit, though nothing was published."""
    cut = fresh.raws["coffee.jpg"][:30_000]
    (fresh.raw / "cut.jpg").write_bytes(cut)
    result = fresh.run()
    assert result["counts"][Status.QUARANTINED] == 1
    key = fresh.put("data/cut.jpg", cut)
    assert found(fresh.prove())[key]["class"] == "raw-match"


def test_an_erased_raw_image_is_recognised(world: World) -> None:
    """Its tombstone is all that is left: it has no run and no source, and is a raw match."""
    data = b"a picture that was erased"
    raise_tombstones(Store(UPath(str(world.audit))), KEYS, [KEYS.image_id(data)], "0" * 32)
    key = world.put("data/back.jpg", data)
    finding = found(world.prove())[key]
    assert (finding["class"], "run_key" in finding) == ("raw-match", False)
    assert "erased" in finding["detail"]


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON file as our own writers form it."""
    body = json.loads(path.read_bytes())
    change(body)
    path.write_bytes(json.dumps(body, indent=1 if len(body) > 1 else None).encode())


def spoil_part(home: Path) -> None:
    """Replace a part by one with fewer rows."""
    (path,) = home.glob("runs/*/*/part.parquet")
    path.write_bytes(p.encode(p.decode(path.read_bytes()).slice(1)))


def stuff_delta(home: Path) -> None:
    """Hide bytes in the delta, which no snapshot names by a hash."""
    import pyarrow.parquet as pq

    (path,) = home.glob("runs/*/*/delta-*.parquet")
    table = p.decode(path.read_bytes())
    pq.write_table(table.replace_schema_metadata({"hidden": "x" * 40_000}), path)


SPOILS: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "part changed": (spoil_part, {"tampered"}),
    "part deleted": (lambda home: next(home.glob("runs/*/*/part.parquet")).unlink(), {"missing"}),
    "delta stuffed": (stuff_delta, {"tampered"}),
    "snapshot deleted": (lambda home: (home / "snapshots/0000000001.json").unlink(), {"missing"}),
    "snapshot edited": (lambda home: edit(home / "snapshots/0000000001.json", lambda b: b.update(note="x" * 9000)), {"tampered"}),
    "snapshot renumbered": (lambda home: (home / "snapshots/0000000001.json").rename(home / "snapshots/0000000007.json"),
                            {"tampered", "missing"}),
    "latest forged": (lambda home: (home / "latest.json").write_text('{"seq": 999999999}'), {"missing"}),
    "dataset emptied": (lambda home: (home / "dataset.json").write_bytes(b""), {"tampered"}),
    "foreign run": (lambda home: next(home.glob("runs/*")).rename(home / "runs" / ("0" * 32)), {"tampered", "missing"}),
    "unknown file": (lambda home: (home / "notes.json").write_text("{}"), {"orphan"}),
    "all gone": (lambda home: [path.unlink() for path in home.rglob("*") if path.is_file()], {"missing"}),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILS)
def test_spoilt_bookkeeping_is_found(made: World, world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in ``_facefog/`` is ours only as far as it is what our writers make; objects stay proven."""
    spoil, classes = SPOILS[name]
    home = world.clean / "_facefog"
    spoil(home)
    if name == "all gone":  # then only its place tells that the store is a destination
        monkeypatch.setattr("airflow_facefog.publish.prove.proof._Proving._places", lambda self: [world.clean.as_uri()])
    report = world.prove()
    assert not report.clean
    assert {finding["class"] for finding in report.document["findings"]} == classes
    assert counts(report)["proven"] == 4


@pytest.mark.parametrize("name", ["latest.json", "snapshots/0000000002.json", "unmerged/1-{run}-0.json", "raw.jpg",
                                  "runs/{run}/0/part.parquet", "runs/{run}/0/part-0123456789abcdef.parquet"])  # fmt: skip
def test_a_raw_image_among_the_bookkeeping_is_found(world: World, name: str) -> None:
    """Under any name that bookkeeping has, or another: it is seen to be raw."""
    (folder,) = (world.clean / "_facefog" / "runs").iterdir()
    key = world.put("_facefog/" + name.format(run=folder.name), world.raws["astronaut.jpg"])
    report = world.prove()
    assert found(report)[key]["raw"] is True
    assert found(report)[key]["class"] in ("tampered", "raw-match")


def test_a_snapshot_that_shows_what_nobody_published_is_tampered(world: World) -> None:
    """A forged part and a snapshot that names its hash: consumers would be led to an object of nobody."""
    import hashlib

    (part,) = world.clean.glob("_facefog/runs/*/*/part.parquet")
    table = p.decode(part.read_bytes())
    column = table["sha256"].to_pylist()
    column[0] = hashlib.sha256(world.raws["coffee.jpg"]).hexdigest()
    import pyarrow as pa

    index = table.schema.get_field_index("sha256")
    data = p.encode(table.set_column(index, table.schema.field("sha256"), pa.array(column)))
    part.write_bytes(data)
    edit(
        world.clean / "_facefog/snapshots/0000000001.json",
        lambda body: body["parts"][0].update(sha256=hashlib.sha256(data).hexdigest()),
    )
    finding = found(world.prove())["_facefog/snapshots/0000000001.json"]
    assert (finding["class"], "shows 1 objects" in finding["detail"]) == ("tampered", True)


def test_a_run_that_publishes_meanwhile_is_not_foreign(fresh: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects and bookkeeping of a run that began after the record was read are looked up again."""
    fresh.run()
    walk = proof_module.walk

    def meanwhile(store: Store):
        fresh.run(policy=FILL)
        return walk(store)

    monkeypatch.setattr(proof_module, "walk", meanwhile)
    report = fresh.prove()
    assert report.clean, report.document["findings"]
    assert counts(report)["proven"] == 7


@pytest.mark.parametrize(("gone", "classes"), [("image", {"orphan"}), ("detection", {"orphan"})])
def test_expired_parts_prove_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, gone: str, classes: set[str]
) -> None:
    """Without image and intent rows objects are orphans, without detections nothing is compared; both is said."""
    from airflow_facefog.audit import ledger

    left = {"image": {"detection"}, "detection": {"image", "intent"}}[gone]

    def amended(audit: Store) -> ledger.Ledger:
        whole = open_ledger(audit)
        runs = [replace(run, parts={n: part for n, part in run.parts.items() if n in left}) for run in whole.runs]
        return replace(whole, runs=tuple(runs))

    for intents in world.audit.glob("intents/*/*/*/*/intent-*.parquet"):
        intents.unlink()
    monkeypatch.setattr(ledger, "open_ledger", amended)
    world.put("data/x.jpg", encode(pictures()["coffee.jpg"], quality=70))
    report = world.prove()
    assert {finding["class"] for finding in report.document["findings"]} == classes
    assert any(f"the {gone} rows of 1 runs have expired" in note for note in report.document["notes"])


@pytest.mark.parametrize("part", ["image", "intent"])
def test_a_damaged_audit_proves_nothing(world: World, part: str) -> None:
    """The proof stops at a part that is not what its manifest names."""
    path = next(world.audit.glob(f"runs/*/*/{part}.parquet"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(LedgerError, match="facefog audit verify"):
        world.prove()


def test_another_signer_is_not_trusted(world: World) -> None:
    """A pinned key that signed nothing: the record does not verify as signed, and the head is in the report."""
    report = world.prove(heads=("9:" + "0" * 64,))
    assert not report.clean
    assert report.document["record"]["verified"] is False
    assert "does not verify" in report.html()
    pinned = world.prove(public_keys=(SigningKey.generate().public.pem.decode(),))
    assert (pinned.document["record"]["signed"], pinned.document["record"]["trust"]) == ("none", "pinned")


def in_memory(world: World, name: str) -> Store:
    """The destination as an object store."""
    store = Store(UPath(f"memory://{name}/clean"))
    for path in world.clean.rglob("*"):
        if path.is_file():
            store.create(str(path.relative_to(world.clean)), path.read_bytes())
    return store


def test_an_object_store_is_walked_and_read_in_ranges(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same classes as on disk; objects larger than a range are read piece by piece."""
    monkeypatch.setattr("airflow_facefog.publish.prove.walk.RANGE", 1000)
    store = in_memory(world, "prove-ranges")
    store.create("data/x.jpg", world.raws["coffee.jpg"])
    report = world.prove(store="memory://prove-ranges/clean")
    assert counts(report) == {"proven": 4, "record": 6, "raw-match": 1}


def test_a_bucket_is_walked(world: World) -> None:
    """On S3 every key of the flat listing is an object, also one that ends like a folder or has empty segments."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        options = {"key": "testing", "secret": "testing", "client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
        fs = UPath("s3://prove-bucket/clean", **options).fs
        fs.mkdir("prove-bucket")
        for path in world.clean.rglob("*"):
            if path.is_file():
                fs.pipe_file(f"prove-bucket/clean/{path.relative_to(world.clean)}", path.read_bytes())
        other = (
            f"data/{world.published('coffee.jpg').name}?versionId=1"  # the client would read the object before the "?"
        )
        for key in ("data/x/", "data//y.jpg", "data/z.jpg", other):
            fs.call_s3("put_object", Bucket="prove-bucket", Key=f"clean/{key}", Body=world.raws["coffee.jpg"])

        def open_root(uri: str, conn_id: str | None = None) -> UPath:
            return UPath(uri, **options) if uri.startswith("s3://") else UPath(uri)

        request = ProveRequest(Place.parse("s3://prove-bucket/clean"), Place.parse(world.audit), workers=2)
        report = prove_store(request, keys=KEYS, open_root=open_root)
    finally:
        server.stop()
    assert {key: f["class"] for key, f in found(report).items()} == {
        "data/x/": "raw-match", "data//y.jpg": "raw-match", "data/z.jpg": "raw-match", other: "orphan",
    }  # fmt: skip
    assert counts(report)["proven"] == 4


def test_objects_beyond_the_limits_are_hashed_never_decoded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture above the limits is an orphan that says so; a raw one is still recognised by its bytes."""
    store, audit = Store(UPath(str(world.clean))), Store(UPath(str(world.audit)))
    world.put("data/big.png", encode(pictures()["coffee.jpg"], ".png"))
    world.put("data/raw.jpg", world.raws["coffee.jpg"])
    monkeypatch.setattr("airflow_facefog.publish.prove.strangers.decode", lambda *_: pytest.fail("decoded"))
    settings_ = Settings("x", KEYS, limits=Limits(max_bytes=10_000))
    done = prove(store, audit, lambda: open_ledger(audit), settings_, lambda uri: store)
    assert {f.key: f.cls.value for f in done.tally.findings} == {"data/big.png": "orphan", "data/raw.jpg": "raw-match"}


def test_limits_are_those_of_the_runs(fresh: World) -> None:
    """A run that was allowed to read large pictures lets a raw copy of one be looked at; a smaller limit takes nothing away."""
    from airflow_facefog.job.record.prove_store import _limits

    for limits in ({"max_pixels": 200_000_000, "max_bytes": 1_000_000}, {"max_pixels": 1_000_000}):
        fresh.run(policy=FogPolicy(limits=limits))
    assert _limits(open_ledger(Store(UPath(str(fresh.audit))))) == Limits(max_pixels=200_000_000)


@settings(max_examples=15, deadline=None)
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7), which=st.integers(0, 3))
def test_no_changed_object_is_proven(
    made: World, tmp_path_factory: pytest.TempPathFactory, at: int, bit: int, which: int
) -> None:
    """Whatever single bit of whatever object is turned: one object less is proven, and one is tampered."""
    world = made.copy(tmp_path_factory.mktemp("bit"))
    path = sorted((world.clean / "data").iterdir())[which]
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)
    assert counts(world.prove()) == {"proven": 3, "record": 6, "tampered": 1}
