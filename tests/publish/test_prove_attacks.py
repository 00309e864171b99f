"""``prove`` against somebody who can write the store and the audit, but has no signing key."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from provekit import KEYS, World, counts, encode, found, pictures

from airflow_facefog.audit.parquet import from_parquet, to_parquet
from airflow_facefog.audit.sealed import SigningKey
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.job.model import Attempt, Place
from airflow_facefog.job.record.prove_store import ProveRequest
from airflow_facefog.publish import parts as p
from airflow_facefog.publish.prove import proof as proof_module

SIGNER = SigningKey.generate()
PINNED: dict[str, Any] = {"public_keys": (SIGNER.public.pem.decode(),)}
FORGED = "f" * 32


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One signed run over four pictures; never changed."""
    from airflow_facefog.job.finalise import finalise

    world = World(tmp_path_factory.mktemp("made")).fill()
    refs = world.plan()
    world.batches(refs)
    finalise(refs[0]["plan"], attempt=Attempt("finalise0000"), keys=KEYS, signer=SIGNER)
    return world


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """A copy of it to attack."""
    return made.copy(tmp_path / "w")


def hidden() -> str:
    """A raw picture, saved again, as text."""
    return base64.b64encode(encode(pictures()["astronaut.jpg"], quality=60)).decode()


def forge_intent(world: World, key: str, data: bytes) -> None:
    """An intent of a run that nobody planned: these bytes are an output."""
    (intent,) = world.audit.glob("intents/*/*/*/*/intent-0000.parquet")
    row = from_parquet("facefog_intent", intent.read_bytes())[0]
    row |= {"run_key": FORGED, "output_key": key, "output_sha256": hashlib.sha256(data).hexdigest()}
    path = world.audit / "intents" / FORGED / "0/0/a/intent-0000.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(to_parquet("facefog_intent", [row]))
    world.put(key, data)


def rewrite(world: World, pattern: str, change: Callable[[dict[str, Any]], object]) -> str:
    """Change one bookkeeping file and write it as our own writers form it; returns its key."""
    (path,) = (world.clean / "_facefog").glob(pattern)
    body = json.loads(path.read_bytes())
    indent = 1 if path.read_bytes().startswith(b"{\n") else None
    change(body)
    path.write_bytes(json.dumps(body, indent=indent).encode())
    return str(path.relative_to(world.clean))


def test_as_it_was_signed_it_is_clean(made: World) -> None:
    """What the attacks start from."""
    assert made.prove(**PINNED, require_signed=True).clean


STUFFED: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "a text where a list was counted": ("runs/*/*/committed.json", lambda b: b.update(dropped=hidden())),
    "a text where parts were counted": ("runs/*/*/committed.json", lambda b: b.update(parts=hidden())),
    "a field more": ("snapshots/*.json", lambda b: b.update(note=hidden()[:3000])),
    "a field more in a part": ("snapshots/*.json", lambda b: b["parts"][0].update(x=hidden()[:2000])),
    "a part that is none": ("snapshots/*.json", lambda b: b["parts"].extend([hidden()[:2000]] * 9)),
    "a field more in the delta": ("snapshots/*.json", lambda b: b["delta"].update(x=hidden()[:2000])),
    "a number that is a text": ("latest.json", lambda b: b.update(seq=hidden()[:3000])),
    "a format that is none": ("dataset.json", lambda b: b.update(layout=hidden()[:3000])),
    "runs that nobody knows": ("snapshots/*.json", lambda b: b["parts"][0].update(kept_from=[["a" * 32, 0]] * 100)),
    "a place of its own": ("snapshots/*.json", lambda b: b["delta"].update(uri=f"x://{hidden()[:900]}/{b['delta']['key']}")),
}  # fmt: skip


@pytest.mark.parametrize("name", STUFFED)
def test_json_has_no_room_for_a_picture(world: World, name: str) -> None:
    """Every field of our bookkeeping has a form; what has another one is named."""
    key = rewrite(world, *STUFFED[name])
    assert found(world.prove())[key]["class"] == "tampered"


def test_a_raw_photo_that_a_forged_note_calls_a_part(world: World) -> None:
    """Who can write a part can write the note that names its hash: it must be a part all the same."""
    (folder,) = (world.clean / "_facefog/runs").glob("*/*")
    run, data = folder.parent.name, world.raws["coffee.jpg"]
    key = world.put(f"_facefog/runs/{run}/0/part-0123456789abcdef.parquet", data)
    (listed,) = json.loads((world.clean / "_facefog/snapshots/0000000001.json").read_bytes())["parts"]
    note = {**listed, "key": key, "sha256": hashlib.sha256(data).hexdigest(), "uri": (world.clean / key).as_uri()}
    world.put(f"_facefog/unmerged/5-{run}-0.json", json.dumps(note).encode())
    finding = found(world.prove())[key]
    assert (finding["class"], finding["raw"]) == ("tampered", True)


@pytest.mark.parametrize(
    "column", ["path", "uri", "key", "item_id", "sha256", "format", "recipe_hash", "run_key", "change"]
)
def test_rows_have_no_room_for_a_picture(world: World, column: str) -> None:
    """A table of the right form with a picture in one of its texts."""
    (path,) = world.clean.glob("_facefog/runs/*/*/part.parquet")
    rows = p.decode(path.read_bytes()).to_pylist()
    rows[1][column] = hidden()
    data = p.encode(pa.Table.from_pylist(rows, schema=p.part_schema()))
    key = world.put(f"{path.parent.relative_to(world.clean)}/part-0123456789abcdef.parquet", data)
    assert found(world.prove())[key]["class"] == "tampered"


@pytest.mark.parametrize("value", [None, "x", "ab" * 31 + "zz"])
def test_a_shown_row_without_a_hash_is_a_finding(world: World, value: str | None) -> None:
    """A forged part that the newest snapshot names is read by the proof itself: it is named, and nothing breaks."""
    (part,) = world.clean.glob("_facefog/runs/*/*/part.parquet")
    rows = p.decode(part.read_bytes()).to_pylist()
    rows[0]["sha256"] = value
    part.write_bytes(p.encode(pa.Table.from_pylist(rows, schema=p.part_schema())))
    sha256 = hashlib.sha256(part.read_bytes()).hexdigest()
    rewrite(world, "snapshots/*.json", lambda body: body["parts"][0].update(sha256=sha256))
    report = world.prove()
    assert not report.clean
    assert found(report)[str(part.relative_to(world.clean))]["class"] == "tampered"


def test_a_forged_intent_does_not_make_a_raw_photo_fine(world: World) -> None:
    """Nobody signs an intent on its own: a raw file stays raw, whatever one says of it."""
    forge_intent(world, "data/x.jpg", world.raws["coffee.jpg"])
    finding = found(world.prove())["data/x.jpg"]
    assert (finding["class"], finding["raw"]) == ("raw-match", True)


def test_with_signatures_required_an_intent_alone_proves_nothing(world: World) -> None:
    """A raw photo saved again has no id: without ``require_signed`` it passes for a crash's output, and a note says so."""
    forge_intent(world, "data/x.jpg", encode(pictures()["coffee.jpg"], quality=60))
    report = world.prove(**PINNED)
    assert (report.clean, report.document["states"]["uncommitted"]) == (True, 1)
    assert any("known by intents alone" in note for note in report.document["notes"])
    strict = world.prove(**PINNED, require_signed=True)
    assert not strict.clean
    assert found(strict)["data/x.jpg"]["class"] == "orphan"
    assert counts(strict)["proven"] == 4


def test_a_snapshot_does_not_show_what_only_an_intent_knows(world: World) -> None:
    """Snapshots come after the seal: one that shows an unsealed object was forged, and consumers would read it."""
    data = encode(pictures()["coffee.jpg"], quality=60)
    digest = hashlib.sha256(data).hexdigest()
    forge_intent(world, f"data/x.jpg.{digest[:12]}.jpg", data)
    (part,) = world.clean.glob("_facefog/runs/*/*/part.parquet")
    rows = p.decode(part.read_bytes()).to_pylist()
    key = f"data/x.jpg.{digest[:12]}.jpg"
    rows[0] |= {"key": key, "uri": (world.clean / key).as_uri(), "sha256": digest, "path": "x.jpg", "format": "jpeg"}
    part.write_bytes(p.encode(pa.Table.from_pylist(rows, schema=p.part_schema())))
    sha256 = hashlib.sha256(part.read_bytes()).hexdigest()
    snapshot = rewrite(world, "snapshots/*.json", lambda body: body["parts"][0].update(sha256=sha256))
    classes = {key: finding["class"] for key, finding in found(world.prove()).items()}
    assert classes == {snapshot: "tampered", str(part.relative_to(world.clean)): "tampered"}


def test_a_run_that_is_forged_while_it_proves_is_verified_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was recorded since the record was verified proves nothing before it was verified as well."""
    data = encode(pictures()["coffee.jpg"], quality=60)
    walk = proof_module.walk

    def meanwhile(store: Any) -> Any:
        if not (world.audit / "runs" / FORGED).exists():
            forge_run(world, data)
        return walk(store)

    monkeypatch.setattr(proof_module, "walk", meanwhile)
    report = world.prove(**PINNED)
    assert report.document["record"]["verified"] is False
    assert not report.clean


def forge_run(world: World, data: bytes) -> None:
    """A manifest of a run that nobody signed, with one image part, and the object that it vouches for."""
    (path,) = world.audit.glob("runs/*/0/manifest.json")
    manifest = json.loads(path.read_bytes())
    row = from_parquet("facefog_image", (path.parent / "image.parquet").read_bytes())[0]
    row |= {"run_key": FORGED, "output_uri": (world.clean / "data/x.jpg").as_uri(),
            "output_sha256": hashlib.sha256(data).hexdigest()}  # fmt: skip
    part, home = to_parquet("facefog_image", [row]), world.audit / "runs" / FORGED / "0"
    home.mkdir(parents=True)
    (home / "image.parquet").write_bytes(part)
    about = {
        "key": f"runs/{FORGED}/0/image.parquet",
        "sha256": hashlib.sha256(part).hexdigest(),
        "rows": 1,
        "bytes": len(part),
    }
    manifest |= {"run_key": FORGED, "parts": {"image": about}, "signed": False, "signer": None, "signature": None}
    manifest["run"] |= {"run_key": FORGED}
    (home / "manifest.json").write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")))
    world.put("data/x.jpg", data)


def test_leaving_everything_out_proves_nothing(world: World, tmp_path: Path) -> None:
    """Neither a glob for all, nor a text that was meant as a list of globs and is one of characters."""
    other = tmp_path / "copy"
    other.mkdir()
    (other / "x.jpg").write_bytes(world.raws["coffee.jpg"])
    assert not world.prove(store=other, ignore=("*",)).clean
    with pytest.raises(ConfigurationError, match="ignore is one text"):
        ProveRequest(Place.parse(other), Place.parse(world.audit), ignore="*.tmp")
