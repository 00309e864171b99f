"""Exports of the published set: right for their readers, deterministic, resumable, and no more than may leave the audit."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import jobkit
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobkit import World

from airflow_facefog.core.errors import ConfigurationError, PermanentError
from airflow_facefog.core.policy import load_policy
from airflow_facefog.job.model import Place
from airflow_facefog.job.record.exports.export import Form, export
from airflow_facefog.job.record.exports.samples import Disclose, Sample
from airflow_facefog.job.record.exports.webdataset import cut

INDEX = {
    Form.COCO: "labels.json", Form.FIFTYONE: "samples.json", Form.WEBDATASET: "shards.json",
    Form.HF: "train/metadata.parquet",
}  # fmt: skip
POLICY = {"rules": {"face": {"min_confidence": 0.5}}, "accept_high_threshold": True}


def make_world(root: Path, **request: Any) -> World:
    """Three photos and a PNG in folders, one picture without a face; faces at the left border, one below the threshold."""
    world = World(root)
    jobkit.save(world.raw / "anna" / "1.first.jpg", jobkit.picture(1, markers=[(40, 30, 72, 70)]))
    jobkit.save(world.raw / "anna" / "2.jpg", jobkit.picture(2, markers=[(0, 30, 30, 70), (100, 80, 140, 110)]))
    jobkit.save(world.raw / "bob.png", jobkit.picture(3, (96, 64), markers=[(40, 20, 60, 44)]))
    jobkit.save(world.raw / "empty.jpg", jobkit.picture(4))
    jobkit.run(world.request(policy=load_policy(POLICY), **request))
    return world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Made once; tests only read it."""
    return make_world(tmp_path_factory.mktemp("exports"))


def run(world: World, to: Path, form: Form, **options: Any) -> dict[str, Any]:
    """Export this world."""
    return export(Place.parse(world.clean), Place.parse(to), form=form, **options)


def tree(folder: Path) -> dict[str, bytes]:
    """Relative name → bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_coco(world: World, tmp_path: Path) -> None:
    """Images, categories and annotations fit together; boxes are xywh of the fogged regions; results name the same."""
    run(world, tmp_path, Form.COCO)
    labels = json.loads((tmp_path / "labels.json").read_text())
    results = json.loads((tmp_path / "results.json").read_text())
    names = {image["id"]: image["file_name"] for image in labels["images"]}
    assert sorted(names.values()) == ["anna/1.first.jpg", "anna/2.jpg", "bob.png", "empty.jpg"]
    assert all((tmp_path / "data" / name).is_file() for name in names.values())
    assert labels["categories"] == [{"id": 1, "name": "face", "supercategory": ""}]
    assert [a["id"] for a in labels["annotations"]] == [1, 2, 3, 4]
    boxes = {names[a["image_id"]]: [] for a in labels["annotations"]}
    for a in labels["annotations"]:
        boxes[names[a["image_id"]]].append(a["bbox"])
        assert (a["category_id"], a["iscrowd"], a["fogged"], a["action"], a["method"]) == (1, 0, True, "fogged", "fog")
        assert a["area"] == a["bbox"][2] * a["bbox"][3]
        assert a["score"] == 0.9
    image_rows = jobkit.audit_rows(world, sealed(world))
    rows = jobkit.audit_rows(world, sealed(world), "detection")
    uris = {row["source_ref"]: row["output_uri"] for row in image_rows}
    left = next(row for row in rows if "2.jpg" in uris[row["source_ref"]] and row["fx1"] == 0)
    x1, y1, x2, y2 = (left[name] for name in ("fx1", "fy1", "fx2", "fy2"))
    assert [x1, y1, x2 - x1, y2 - y1] in boxes["anna/2.jpg"]
    assert [(r["image_id"], r["category_id"], r["bbox"], r["score"]) for r in results] == [
        (a["image_id"], a["category_id"], a["bbox"], a["score"]) for a in labels["annotations"]
    ]


def sealed(world: World) -> dict[str, Any]:
    """The only run, as ``jobkit.audit_rows`` wants it."""
    (manifest,) = (world.audit / "runs").glob("*/0/manifest.json")
    return {"manifest_uri": f"file://{manifest}"}


def test_fiftyone(world: World, tmp_path: Path) -> None:
    """Relative file paths, relative boxes, and a metadata file without the key that marks a database dump."""
    run(world, tmp_path, Form.FIFTYONE)
    samples = json.loads((tmp_path / "samples.json").read_text())["samples"]
    about = json.loads((tmp_path / "metadata.json").read_text())
    assert "version" not in about
    assert about["info"]["classes"] == ["face"]
    by_path = {sample["filepath"]: sample for sample in samples}
    assert set(by_path) == {"data/anna/1.first.jpg", "data/anna/2.jpg", "data/bob.png", "data/empty.jpg"}
    (box,) = by_path["data/bob.png"]["detections"]["detections"]
    assert by_path["data/bob.png"]["metadata"]["mime_type"] == "image/png"
    assert (box["_cls"], box["label"], box["confidence"]) == ("Detection", "face", 0.9)
    x, y, width, height = box["bounding_box"]
    assert (x * 96 % 8, y * 64 % 8, width * 96 % 8, height * 64 % 8) == (0, 0, 0, 0)
    assert x <= 40 / 96
    assert y <= 20 / 64
    assert x + width >= 60 / 96
    assert y + height >= 44 / 64
    assert by_path["data/empty.jpg"]["detections"]["detections"] == []


def test_webdataset(world: World, tmp_path: Path) -> None:
    """Image and JSON share a key without dots; owner, time and mode are constants; shards keep the order."""
    done = run(world, tmp_path, Form.WEBDATASET, shard_bytes=1)
    listed = json.loads((tmp_path / "shards.json").read_text())
    assert done["exported"] == 4
    assert [shard["name"] for shard in listed["shards"]] == [f"shard-000001-{n:06d}.tar" for n in range(4)]
    seen = []
    for shard in listed["shards"]:
        with tarfile.open(tmp_path / shard["name"]) as tar:
            members = tar.getmembers()
            assert {(m.uid, m.gid, m.mtime, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
            image, meta = (tar.extractfile(member).read() for member in members)  # type: ignore[union-attr]
        assert [member.name.count(".") for member in members] == [1, 1]
        assert members[0].name.split(".")[0] == members[1].name.split(".")[0]
        seen.append((json.loads(meta)["file_name"], image[:2]))
    jpeg, png = b"\xff\xd8", b"\x89P"
    assert seen == [("anna/1.first.jpg", jpeg), ("anna/2.jpg", jpeg), ("bob.png", png), ("empty.jpg", jpeg)]


def test_huggingface(world: World, tmp_path: Path) -> None:
    """One row per image beside the images; the lists in ``objects`` have equal lengths."""
    run(world, tmp_path, Form.HF)
    rows = pq.read_table(tmp_path / "train" / "metadata.parquet").to_pylist()
    assert all((tmp_path / "train" / row["file_name"]).stat().st_size for row in rows)
    assert {row["file_name"]: len(row["objects"]["bbox"]) for row in rows} == {
        "anna/1.first.jpg": 1, "anna/2.jpg": 2, "bob.png": 1, "empty.jpg": 0,
    }  # fmt: skip
    assert all(len({len(values) for values in row["objects"].values()}) == 1 for row in rows)


@pytest.mark.parametrize("form", Form)
def test_twice_the_same(form: Form, world: World, tmp_path: Path) -> None:
    """Two folders get the same names and bytes; repeating an export writes nothing."""
    first, second = tmp_path / "first", tmp_path / "second"
    run(world, first, form)
    run(world, second, form)
    assert tree(first) == tree(second)
    assert run(world, first, form)["exported"] == 0
    assert tree(first) == tree(second)


@pytest.mark.parametrize("form", Form)
def test_a_stopped_export_is_completed(form: Form, world: World, tmp_path: Path) -> None:
    """With half of its files there, an export makes the same whole."""
    whole, half = tmp_path / "whole", tmp_path / "half"
    run(world, whole, form, shard_bytes=1)
    shutil.copytree(whole, half)
    names = [name for name in tree(half) if name != INDEX.get(form)]
    for name in [*names[::2], *([INDEX[form]] if form in INDEX else [])]:
        (half / name).unlink()
    run(world, half, form, shard_bytes=1)
    assert tree(half) == tree(whole)


@pytest.mark.parametrize("form", INDEX)
def test_another_snapshot_is_refused_before_anything_is_copied(form: Form, tmp_path: Path) -> None:
    """A folder holds one snapshot: a later one goes elsewhere, and leaves no file behind here."""
    world = make_world(tmp_path)
    out = tmp_path / "out"
    run(world, out, form)
    before = tree(out)
    jobkit.save(world.raw / "new.jpg", jobkit.picture(9, markers=[(40, 30, 72, 70)]))
    jobkit.run(world.request("run-2", policy=load_policy(POLICY)))
    with pytest.raises(PermanentError, match="another snapshot"):
        run(world, out, form)
    assert tree(out) == before
    assert run(world, tmp_path / "elsewhere", form)["snapshot_seq"] == 2


@pytest.mark.parametrize("form", Form)
def test_what_is_in_the_way_stays(form: Form, world: World, tmp_path: Path) -> None:
    """A file of another content is never overwritten."""
    run(world, tmp_path / "model", form)
    name = next(name for name in tree(tmp_path / "model") if name.endswith((".jpg", ".tar")))
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).write_bytes(b"precious")
    with pytest.raises(PermanentError, match="in the way"):
        run(world, tmp_path / "out", form)
    assert (tmp_path / "out" / name).read_bytes() == b"precious"


@pytest.mark.parametrize("form", Form)
def test_a_changed_object_is_not_exported(form: Form, tmp_path: Path) -> None:
    """Bytes that are not the recorded ones stop the export; there is no index then."""
    world = make_world(tmp_path)
    victim = next(path for path in sorted((world.clean / "data").rglob("*")) if "bob" in path.name)
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes() + b"x")
    with pytest.raises(PermanentError, match="recorded bytes"):
        run(world, tmp_path / "out", form)
    assert INDEX.get(form, "bob.png") not in tree(tmp_path / "out")


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("disclose", Disclose)
def test_no_id_of_the_audit_leaves(form: Form, disclose: Disclose, world: World, tmp_path: Path) -> None:
    """No image_id, source_ref, run_key or place of the raw photos is in any file, and no raw file is."""
    run(world, tmp_path, form, disclose=disclose)
    files = tree(tmp_path)
    everything = b"".join(files.values()) + "\n".join(files).encode()
    rows = jobkit.audit_rows(world, sealed(world))
    secrets = {row[name] for row in rows for name in ("image_id", "source_ref", "source_group", "run_key")}
    assert secrets
    for secret in [*secrets, str(world.raw), str(world.audit)]:
        assert secret.encode() not in everything
    for raw in world.raw.rglob("*.*"):
        assert raw.read_bytes() not in everything


@pytest.mark.parametrize("form", INDEX)
def test_nothing_of_the_detections_without_asking(form: Form, world: World, tmp_path: Path) -> None:
    """``none`` names no class and needs no audit at all: it may be gone."""
    copy = tmp_path / "clean"
    shutil.copytree(world.clean, copy)
    record = copy / "_facefog" / "dataset.json"
    record.chmod(0o644)
    record.write_text(json.dumps({**json.loads(record.read_text()), "audit": f"file://{tmp_path}/gone"}))
    out = tmp_path / "out"
    export(Place.parse(copy), Place.parse(out), form=form, disclose=Disclose.NONE)
    index = (out / INDEX[form]).read_bytes()
    assert b'"face"' not in index
    with pytest.raises(ConfigurationError, match="no detections of 4 of 4"):
        export(Place.parse(copy), Place.parse(tmp_path / "out2"), form=form)
    assert not (tmp_path / "gone").exists()
    done = export(Place.parse(copy), Place.parse(tmp_path / "out3"), form=form, audit=Place.parse(world.audit))
    assert done["exported"] == 4


def test_all_detections(tmp_path: Path) -> None:
    """``all`` has also what stayed visible, with the detector's own boxes; ``fogged`` has neither."""
    world = World(tmp_path)
    jobkit.save(world.raw / "a.jpg", jobkit.picture(1, markers=[(40, 30, 72, 70)]))
    high = {"rules": {"face": {"min_confidence": 0.95}}, "accept_high_threshold": True}
    jobkit.run(world.request(policy=load_policy(high)))
    run(world, tmp_path / "fogged", Form.COCO)
    run(world, tmp_path / "all", Form.COCO, disclose=Disclose.ALL)
    assert json.loads((tmp_path / "fogged" / "labels.json").read_text())["annotations"] == []
    (seen,) = json.loads((tmp_path / "all" / "labels.json").read_text())["annotations"]
    assert (seen["fogged"], seen["action"], seen["region"]) == (False, "below_threshold", None)
    assert [round(v) for v in seen["bbox"]] == pytest.approx([40, 30, 32, 40], abs=2)


def test_content_layout_shares_objects(tmp_path: Path) -> None:
    """Two sources with the same bytes are one object and one sample, named by its hash."""
    world = World(tmp_path)
    jobkit.save(world.raw / "a.jpg", jobkit.picture(1, markers=[(40, 30, 72, 70)]))
    shutil.copy(world.raw / "a.jpg", world.raw / "b.jpg")
    jobkit.run(world.request(layout="content"))
    done = run(world, tmp_path / "out", Form.HF)
    (row,) = pq.read_table(tmp_path / "out" / "train" / "metadata.parquet").to_pylist()
    assert done["exported"] == 1
    assert row["file_name"] == f"{row['sha256'][:2]}/{row['sha256']}.jpg"
    assert row["objects"]["categories"] == ["face"]


def test_a_named_dataset(tmp_path: Path) -> None:
    """Each dataset of a destination is exported by its name; an unknown one is said to be."""
    world = make_world(tmp_path, dataset="street")
    assert run(world, tmp_path / "out", Form.COCO, dataset="street")["exported"] == 4
    with pytest.raises(ConfigurationError, match="default"):
        run(world, tmp_path / "out2", Form.COCO)


@pytest.mark.parametrize("where", ["clean/x", "audit/x", "clean", "audit"])
def test_exports_stay_out_of_clean_and_audit(where: str, world: World) -> None:
    """A folder inside either is refused, whatever the form."""
    with pytest.raises(ConfigurationError, match="overlap"):
        run(world, world.root / where, Form.COCO)


def test_lost_detections_are_no_empty_image(world: World, tmp_path: Path) -> None:
    """A part of fewer rows than the image says is not exported as an image with fewer faces."""
    audit = tmp_path / "audit"
    shutil.copytree(world.audit, audit)
    (manifest,) = (audit / "runs").glob("*/0/manifest.json")
    manifest.unlink()
    shutil.rmtree(audit / "chain", ignore_errors=True)
    with pytest.raises(ConfigurationError, match="no detections"):
        run(world, tmp_path / "out", Form.COCO, audit=Place.parse(audit))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 100))
def test_shards_keep_every_sample_once_and_in_order(sizes: list[int], limit: int) -> None:
    """Nothing is lost between shards, none is empty, and only a single large sample breaks the limit."""
    samples = [Sample(str(n), str(n), "", size, 1, 1, "png", "", "") for n, size in enumerate(sizes)]
    shards = list(cut(samples, limit))
    assert [sample for shard in shards for sample in shard] == samples
    assert all(shard and (len(shard) == 1 or sum(s.size for s in shard) <= limit) for shard in shards)


def test_shards_hold_readable_tars(world: World, tmp_path: Path) -> None:
    """One shard holds all when they fit, and its bytes are a plain ustar archive."""
    run(world, tmp_path, Form.WEBDATASET)
    (shard,) = tmp_path.glob("*.tar")
    data = shard.read_bytes()
    assert data[257:262] == b"ustar"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert len(tar.getnames()) == 8


def test_to_a_place_that_is_no_folder(world: World, tmp_path: Path) -> None:
    """An object store gets the same names and bytes as a folder."""
    from uuid import uuid4

    from upath import UPath

    from airflow_facefog.publish.store import Store

    uri = f"memory://facefog-{uuid4().hex}/out"
    export(Place.parse(world.clean), Place.parse(uri), form=Form.COCO)
    run(world, tmp_path, Form.COCO)
    store = Store(UPath(uri))
    assert {key: store.read(key) for key in store.list()} == tree(tmp_path)
