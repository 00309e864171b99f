"""Whole runs without Airflow: what ends where, what is seen downstream, what a retry does."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import jobkit
import numpy as np
import pytest
from jobkit import KEYS, World, attempt, audit_rows, picture, run, save

from airflow_facefog.audit.parquet import from_parquet
from airflow_facefog.core.errors import (
    ConfigurationError,
    GateError,
    PermanentError,
    PlanMismatchError,
    PolicyError,
)
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import load_policy
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.model import Place
from airflow_facefog.job.plan import find_plan, make_plan, preview
from airflow_facefog.job.staged import detect_batch, fog_detected_batch


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Fresh folders."""
    return World(tmp_path)


def has_marker(data: bytes) -> bool:
    """Whether any magenta is left in an encoded picture."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return len(jobkit.MarkerDetector().detect(image, 0.0)) > 0


def test_every_photo_is_published_fogged_and_recorded(world: World) -> None:
    """Each listed photo ends published, without its marker, with an intent, an image row and a detection row."""
    world.photos(6)
    result = run(world.request())
    assert result["counts"] == {
        "listed": 6, "published": 6, "quarantined": 0, "failed": 0, "skipped": 0, "detections": 6, "fogged": 6,
    }  # fmt: skip
    objects = world.published()
    assert len(objects) == 6
    assert not any(has_marker(data) for data in objects.values())
    hashes = {hashlib.sha256(data).hexdigest() for data in objects.values()}
    assert {row["output_sha256"] for row in audit_rows(world, result)} == hashes
    assert {row["output_sha256"] for row in audit_rows(world, result, "intent")} == hashes
    assert {row["action"] for row in audit_rows(world, result, "detection")} == {"fogged"}
    assert all(row["verify_coverage"] == 1.0 for row in audit_rows(world, result))


def test_a_second_run_skips_everything_and_moves_nothing(world: World) -> None:
    """Same input, same recipe: all skipped with a pointer to the run that did it, no new snapshot, no new object."""
    world.photos(5)
    first = run(world.request("run-1"))
    before, snapshots = world.published(), world.snapshots()
    second = run(world.request("run-2"))
    assert second["counts"]["skipped"] == 5
    assert not second["changed"]
    assert world.published() == before
    assert world.snapshots() == snapshots
    run_key = json.loads(Path(first["manifest_uri"].removeprefix("file://")).read_text())["run_key"]
    assert {row["done_run_key"] for row in audit_rows(world, second)} == {run_key}


@pytest.mark.parametrize("layout", ["named", "content"])
def test_equal_bytes_are_one_object_in_content_layout_only(world: World, layout: str) -> None:
    """The same photo twice in a batch and once in another: one row per item, later ones point to the first."""
    data = save(world.raw / "a.jpg", picture(1, markers=[(40, 30, 72, 70)])).read_bytes()
    for name in ("b.jpg", "c.jpg"):
        (world.raw / name).write_bytes(data)
    result = run(world.request(layout=layout, batch_images=2))
    assert result["counts"]["published"] == 3
    assert len(world.published()) == (3 if layout == "named" else 1)
    assert sum(row["duplicate_of"] is not None for row in audit_rows(world, result)) == 2


def test_a_retried_run_gives_the_same_bytes(world: World, tmp_path: Path) -> None:
    """Two independent destinations from the same input, policy, model and key hold the same objects."""
    world.photos(3)
    run(world.request())
    other = World(tmp_path / "other")
    run(other.request(source=Place.parse(world.raw)))
    assert other.published() == world.published()


def test_staged_and_single_pass_publish_the_same_bytes(world: World, tmp_path: Path) -> None:
    """Detect and fog in two tasks: byte-identical objects, even where a prediction is missing or forged."""
    world.photos(5)
    run(world.request())
    other = World(tmp_path / "other")
    refs = make_plan(other.request(source=Place.parse(world.raw)), KEYS)
    for index, ref in enumerate(refs):
        seen = detect_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
        path = Path(seen["predictions"].removeprefix("file://"))
        if index == 0:  # the first batch's predictions are damaged: detect again, never "no faces"
            path.write_bytes(path.read_bytes().replace(b"0.9", b"0.1"))
        fog_detected_batch(ref["plan"], ref["batch"], seen["predictions"], attempt=attempt(), keys=KEYS)
    finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)
    assert other.published() == world.published()


def test_bad_images_are_quarantined_and_named_by_reason(world: World) -> None:
    """Broken files are rows with a reason, the rest of the batch is published."""
    world.photos(8)
    (world.raw / "zero.jpg").write_bytes(b"")
    (world.raw / "text.jpg").write_bytes(b"hello")
    result = run(world.request())
    assert result["counts"]["quarantined"] == 2
    reasons = {row["reason"] for row in audit_rows(world, result) if row["status"] == "quarantined"}
    assert reasons == {"empty_file", "unknown_format"}
    again = run(world.request("run-2"))
    assert {row["reason"] for row in audit_rows(world, again) if row["status"] == "quarantined"} == {
        "already_quarantined"
    }


def test_on_bad_image_fail_stops_the_run(world: World) -> None:
    """A policy that says fail turns the first refused image into a permanent error; nothing is committed."""
    world.photos(2)
    (world.raw / "text.jpg").write_bytes(b"hello")
    refs = make_plan(world.request(policy=load_policy({"on_bad_image": "fail"})), KEYS)
    with pytest.raises(PermanentError, match="on_bad_image"):
        run_batch(refs[0]["plan"], refs[0]["batch"], attempt=attempt(), keys=KEYS)
    with pytest.raises(GateError):
        finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)


def test_on_bad_image_fail_also_stops_at_what_was_refused_before(world: World) -> None:
    """The refusal that an earlier, milder run remembered is no way around it."""
    world.photos(9)
    (world.raw / "text.jpg").write_bytes(b"hello")
    assert run(world.request())["counts"]["quarantined"] == 1
    with pytest.raises(PermanentError, match="on_bad_image"):
        run(world.request("run-2", policy=load_policy({"on_bad_image": "fail"})))


def test_above_max_quarantined_nothing_is_published(world: World) -> None:
    """The gate refuses a run with too many bad images: no manifest, no snapshot."""
    world.photos(2)
    for name in ("x", "y"):
        (world.raw / name).write_bytes(b"no picture")
    with pytest.raises(GateError, match="max_quarantined"):
        run(world.request())
    assert world.snapshots() == []


def test_a_missing_batch_fails_the_run_until_it_is_cleared(world: World) -> None:
    """One batch without a commit: the run fails and leaves incomplete.json; finishing that batch finishes the run."""
    world.photos(8)
    refs = make_plan(world.request(), KEYS)
    run_batch(refs[0]["plan"], refs[0]["batch"], attempt=attempt(), keys=KEYS)
    with pytest.raises(GateError, match="1 of 2 batches"):
        finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)
    assert list(world.audit.rglob("incomplete.json"))
    assert not list(world.audit.rglob("manifest.json"))
    assert world.snapshots() == []
    for ref in refs:
        run_batch(ref["plan"], ref["batch"], attempt=attempt(2), keys=KEYS)
    assert finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)["counts"]["published"] == 8


def test_a_committed_batch_reads_no_pixel_again(world: World) -> None:
    """A cleared batch finds its commit and returns the same answer although the photos are gone."""
    world.photos(3)
    ref = make_plan(world.request(), KEYS)[0]
    first = run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
    for path in world.raw.iterdir():
        path.unlink()
    assert run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS) == first


def test_planning_again_returns_the_unsealed_plan_and_then_a_new_generation(world: World) -> None:
    """A retry of the list task changes nothing, even when photos arrived meanwhile; after the seal it plans afresh."""
    world.photos(2)
    refs = make_plan(world.request(), KEYS)
    world.photos(1, start=50)
    assert make_plan(world.request(), KEYS) == refs
    assert find_plan(Place.parse(world.audit), jobkit.plan_of(refs[0])["run_key"]) == refs
    run(world.request())
    again = make_plan(world.request(), KEYS)
    assert jobkit.plan_of(again[0])["generation"] == 1
    assert sum(ref["n"] for ref in again) == 3


def test_finalising_again_moves_nothing(world: World) -> None:
    """A sealed generation returns its manifest; no file in destination or audit changes."""
    world.photos(3)
    ref = make_plan(world.request(), KEYS)[0]
    run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
    first = finalise(ref["plan"], attempt=attempt(), keys=KEYS)
    before = {str(p): p.read_bytes() for p in world.root.rglob("*") if p.is_file()}
    second = finalise(ref["plan"], attempt=attempt(), keys=KEYS)
    after = {str(p): p.read_bytes() for p in world.root.rglob("*") if p.is_file()}
    assert (first["manifest_sha256"], first["snapshot_seq"]) == (second["manifest_sha256"], second["snapshot_seq"])
    assert before == after


def test_an_empty_folder_still_finalises(world: World) -> None:
    """No images: one empty batch, a sealed run, no snapshot."""
    result = run(world.request())
    assert result["counts"]["listed"] == 0
    assert not result["changed"]


def test_a_photo_that_changed_since_the_listing_fails(world: World) -> None:
    """Gone and changed files end failed with their reason; they are not passed through."""
    photos = world.photos(8)
    refs = make_plan(world.request(batch_images=100), KEYS)
    photos[0].unlink()
    save(photos[1], picture(77))
    run_batch(refs[0]["plan"], refs[0]["batch"], attempt=attempt(), keys=KEYS)
    policy_limit = finalise_or_none(refs[0]["plan"])
    assert policy_limit is None  # 2 of 8 is above 0.2
    rows = committed_rows(world)
    assert sorted(row["reason"] for row in rows if row["status"] == "failed") == ["source_changed", "source_missing"]


def finalise_or_none(plan: str) -> object:
    """Finalise, or None when the gate refuses."""
    try:
        return finalise(plan, attempt=attempt(), keys=KEYS)
    except GateError:
        return None


def committed_rows(world: World) -> list[dict[str, object]]:
    """Image rows of all attempts."""
    from airflow_facefog.audit.parquet import from_parquet

    parts = world.audit.glob("intents/*/*/*/*/image.parquet")
    return [row for part in parts for row in from_parquet("facefog_image", part.read_bytes())]


def test_links_out_of_the_source_are_not_followed(world: World, tmp_path: Path) -> None:
    """A link to a file elsewhere, to a folder and to nothing: failed, each with a reason; inner links are read."""
    world.photos(16)
    outside = save(tmp_path / "outside.jpg", picture(5, markers=[(40, 30, 72, 70)]))
    (world.raw / "out.jpg").symlink_to(outside)
    (world.raw / "folder").symlink_to(tmp_path)
    (world.raw / "dangling.jpg").symlink_to(world.raw / "nothing.jpg")
    (world.raw / "inner.jpg").symlink_to(world.raw / "photo_000.jpg")
    os.mkfifo(world.raw / "pipe.jpg")
    result = run(world.request(policy=load_policy({"max_quarantined": 0.5})))
    failed = sorted(row["reason"] for row in audit_rows(world, result) if row["status"] == "failed")
    assert failed == ["source_missing", "source_outside", "source_outside", "source_unreadable"]
    assert result["counts"]["published"] == 17


@pytest.mark.parametrize(
    ("source", "destination", "audit"),
    [("a", "a", "b"), ("a", "a/x", "b"), ("a/x", "a", "b"), ("a", "b", "a/x"), ("a/x", "b", "a"), ("a", "b", "b/x"),
     ("a", "b", "b"), ("a", "link", "b"), ("a", "b", "link/x")],
)  # fmt: skip
def test_overlapping_places_are_refused(tmp_path: Path, source: str, destination: str, audit: str) -> None:
    """Any overlap of source with destination or audit, or the audit inside the destination, also through links."""
    (tmp_path / "a" / "x").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    world = World(tmp_path / "w")
    request = world.request(
        source=Place.parse(tmp_path / source),
        destination=Place.parse(tmp_path / destination),
        audit=Place.parse(tmp_path / audit),
    )
    with pytest.raises(ConfigurationError):
        make_plan(request, KEYS)


@pytest.mark.parametrize("place", ["destination", "audit"])
def test_a_place_that_cannot_be_written_fails_the_run(world: World, tmp_path: Path, place: str) -> None:
    """A file where a folder should be: an error before anything is published."""
    world.photos(2)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((ConfigurationError, OSError, Exception)) as caught:
        run(world.request(**{place: Place.parse(tmp_path / "file" / "x")}))
    assert type(caught.value).__name__ in {"ConfigurationError", "StoreError"}
    assert world.published() == {}


def test_another_key_or_policy_is_a_mismatch(world: World) -> None:
    """A batch task that holds another key than the plan's stops with advice."""
    world.photos(1)
    ref = make_plan(world.request(), KEYS)[0]
    other = KeyRing.from_master(b"x" * 32)
    with pytest.raises(PlanMismatchError, match="clear the list task"):
        run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=other)


@pytest.mark.parametrize(
    ("policy", "keyed", "match"),
    [
        ({"rules": {"plate": {}}}, True, "no configured detector"),
        ({"require_key": True}, False, "master key"),
        ({"rules": {"face": {"method": "pixelate"}}, "accept_linkable": True}, False, "master key"),
    ],
)
def test_a_policy_that_cannot_be_carried_out_is_refused_before_the_first_image(
    world: World, policy: dict[str, object], keyed: bool, match: str
) -> None:
    """Rules of classes nobody detects and missing keys stop the plan."""
    with pytest.raises(PolicyError, match=match):
        make_plan(world.request(policy=load_policy(policy)), KEYS if keyed else KeyRing.from_master(None))
    assert not list(world.audit.rglob("*.json"))


def test_the_default_policy_goes_with_a_detector_of_other_classes(world: World) -> None:
    """Nobody wrote the default rule for faces, so a plate model fogs its plates under it, at every step."""
    world.photos(1)
    counts = run(world.request(detector={"kind": "python", "factory": "jobkit:PlateDetector"}))["counts"]
    assert (counts["published"], counts["fogged"]) == (1, 1)


def test_a_file_that_became_bad_withdraws_its_published_row(world: World) -> None:
    """The same name, later unreadable: the consumer's table loses the row; the old object and audit stay."""
    from airflow_facefog.publish.snapshots import open_dataset

    photos = world.photos(6)
    run(world.request("run-1"))
    assert open_dataset(str(world.clean)).num_rows == 6
    photos[0].write_bytes(b"broken now")
    result = run(world.request("run-2"))
    assert result["changed"]
    assert open_dataset(str(world.clean)).num_rows == 5
    assert open_dataset(str(world.clean), version=1).num_rows == 6


def test_mirror_withdraws_what_is_gone(world: World) -> None:
    """With mirror=True a photo that is no longer listed leaves the consumer's table; without it, it stays."""
    from airflow_facefog.publish.snapshots import open_dataset

    photos = world.photos(6)
    run(world.request("run-1"))
    photos[0].unlink()
    run(world.request("run-2"))
    assert open_dataset(str(world.clean)).num_rows == 6
    run(world.request("run-3", mirror=True))
    assert open_dataset(str(world.clean)).num_rows == 5


def test_preview_writes_nothing(world: World) -> None:
    """A dry run counts and leaves every folder as it was."""
    world.photos(5)
    seen = preview(world.request(), KEYS)
    assert (seen["listed"], seen["batches"]) == (5, 2)
    assert not any(world.audit.iterdir())
    assert not any(world.clean.iterdir())


def test_a_changed_audit_part_stops_the_run(world: World) -> None:
    """A part that does not hash to what its commit names is never sealed."""
    world.photos(2)
    ref = make_plan(world.request(), KEYS)[0]
    run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
    part = next(world.audit.glob("intents/*/*/*/*/image.parquet"))
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(GateError, match="changed"):
        finalise(ref["plan"], attempt=attempt(), keys=KEYS)


def test_a_vanished_object_stops_the_run(world: World) -> None:
    """No row may claim an object that is not there: finalise looks."""
    world.photos(2)
    ref = make_plan(world.request(), KEYS)[0]
    run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
    next(p for p in (world.clean / "data").rglob("*") if p.is_file()).unlink()
    with pytest.raises(GateError, match="missing"):
        finalise(ref["plan"], attempt=attempt(), keys=KEYS)


def test_a_refused_gate_can_be_opened_by_the_policy(world: World) -> None:
    """After a refusal the run's row says failed; allowing more and planning again finishes the run."""
    world.photos(2)
    (world.raw / "x").write_bytes(b"no picture")
    with pytest.raises(GateError, match="clear the list task"):
        run(world.request())
    folder = next(world.audit.glob("runs/*/0"))
    assert from_parquet("facefog_run", (folder / "run.parquet").read_bytes())[0]["status"] == "failed"
    assert (folder / "incomplete.json").exists()
    allowed = world.request()
    result = run(replace(allowed, policy=load_policy({**allowed.policy.canonical(), "max_quarantined": 0.5})))
    assert (result["counts"]["published"], result["counts"]["quarantined"]) == (2, 1)
    assert "/1/manifest.json" in result["manifest_uri"]


def test_a_finished_run_leaves_no_word_of_its_earlier_failure(world: World) -> None:
    """incomplete.json goes and the row says final once the missing batch was cleared."""
    world.photos(8)
    refs = make_plan(world.request(), KEYS)
    with pytest.raises(GateError):
        finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)
    for ref in refs:
        run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
    finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)
    folder = next(world.audit.glob("runs/*/0"))
    assert from_parquet("facefog_run", (folder / "run.parquet").read_bytes())[0]["status"] == "final"
    assert not (folder / "incomplete.json").exists()


def test_skipped_images_cost_no_canary(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch in which everything was done before shows its detector one canary, not one per micro-batch."""
    from airflow_facefog.detectors import canary
    from airflow_facefog.job import batch

    world.photos(6)
    run(world.request("run-1"))
    seen: list[object] = []
    monkeypatch.setattr(batch, "MICRO_IMAGES", 2)
    monkeypatch.setattr(canary, "check_canary", seen.append)
    assert run(world.request("run-2", batch_images=100))["counts"]["skipped"] == 6
    assert len(seen) == 1
