"""Images and detectors that break the worker: crash isolation, hanging images, the canary."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import cv2
import faultkit
import pytest
from faultkit import attempt_batch, bad_photo, check_invariants, ended, intents, objects, process
from faultydetectors import faulty
from jobkit import KEYS, World, attempt, audit_rows, picture, save

from airflow_facefog.core.errors import DetectorError, ImageError, InternalError, TransientError
from airflow_facefog.core.policy import FogPolicy
from airflow_facefog.core.raw import RawImage
from airflow_facefog.job import batch, child
from airflow_facefog.job.attempt import AttemptLog
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.child import ChildEngine
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.model import open_root_plain
from airflow_facefog.job.opening import open_plan
from airflow_facefog.job.plan import make_plan


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Six photos; one of them breaks a faulty detector."""
    made = World(tmp_path)
    made.photos(5)
    bad_photo(made)
    return made


def plan(world: World, detector: Any) -> dict[str, Any]:
    """Plan one batch."""
    policy = FogPolicy(accept_no_canary=True)
    (ref,) = make_plan(world.request(batch_images=100, detector=detector, policy=policy), KEYS)
    return ref


def mark_as_dead(world: World, ref: dict[str, Any]) -> None:
    """Leave what an attempt leaves that died without an exception."""
    frozen, audit = open_plan(ref["plan"], open_root_plain, None)
    batch_id = ref["batch"].rpartition("/")[2].removesuffix(".json")
    AttemptLog(audit, frozen.attempt_prefix(batch_id, "dead")).start()


def encoded(image: Any) -> bytes:
    """A picture as PNG."""
    return bytes(cv2.imencode(".png", image)[1])


def ended_as(world: World, ref: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """Finalise; file name → (status, reason)."""
    result = finalise(ref["plan"], attempt=attempt(), keys=KEYS)
    part = next(world.audit.glob("sources/*/*.parquet"))
    names = {row["source_ref"]: row["source_uri"].rpartition("/")[2] for row in faultkit.rows("source", part)}
    return {names[row["source_ref"]]: (row["status"], row["reason"]) for row in audit_rows(world, result)}


ONE_CRASHED = {
    **{f"photo_{i:03d}.jpg": ("published", None) for i in range(5)},
    "photo_bad.jpg": ("quarantined", "crashed"),
}


@pytest.mark.parametrize(("fault", "code"), [("exit", 7), ("segfault", -signal.SIGSEGV)])
def test_an_image_that_kills_its_process_is_quarantined_alone(
    world: World, tmp_path: Path, fault: str, code: int
) -> None:
    """The first attempt dies; the second runs in a spawned child and quarantines exactly that image as crashed."""
    ref = plan(world, faulty(fault))
    assert ended(process(attempt_batch, ref, "first", str(tmp_path / "a.json"))) == code
    check_invariants(world)
    assert objects(world) == {}
    assert run_batch(ref["plan"], ref["batch"], attempt=attempt(2), keys=KEYS)["quarantined"] == 1
    assert ended_as(world, ref) == ONE_CRASHED
    check_invariants(world)


def test_an_image_that_kills_even_the_isolated_attempt_is_not_run_a_third_time(world: World, tmp_path: Path) -> None:
    """Two attempts die with the image in hand; the third quarantines it without a look."""
    ref = plan(world, faulty("attempt"))
    for name in ("first", "second"):
        assert ended(process(attempt_batch, ref, name, str(tmp_path / "a.json"))) == -signal.SIGKILL
        check_invariants(world)
    assert ended(process(attempt_batch, ref, "third", str(tmp_path / "a.json"))) == 0
    assert json.loads((tmp_path / "a.json").read_text())["published"] == 5
    assert ended_as(world, ref) == ONE_CRASHED


def test_an_image_that_hangs_is_ended_and_quarantined(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that holds the child longer than allowed counts as a crash; the others are published."""
    ref = plan(world, faulty("hang"))
    mark_as_dead(world, ref)
    frozen, _ = open_plan(ref["plan"], open_root_plain, None)
    hanging = KEYS.source_ref(f"{frozen.source.uri}/photo_bad.jpg")
    holds = AttemptLog.holds

    def hold(self: AttemptLog, source_ref: str) -> None:
        monkeypatch.setattr(child, "IMAGE_TIMEOUT_S", 1.0 if source_ref == hanging else 120.0)
        holds(self, source_ref)

    monkeypatch.setattr(AttemptLog, "holds", hold)
    run_batch(ref["plan"], ref["batch"], attempt=attempt(2), keys=KEYS)
    assert ended_as(world, ref) == ONE_CRASHED


@pytest.mark.parametrize(("factory", "error"), [("hanging", InternalError), ("busy", TransientError)])
def test_a_child_that_does_not_start_blames_no_image(
    monkeypatch: pytest.MonkeyPatch, factory: str, error: type[Exception]
) -> None:
    """Its start is bounded too, and what stops it fails the attempt: the image was never looked at."""
    monkeypatch.setattr(child, "IMAGE_TIMEOUT_S", 5.0)
    engine = ChildEngine({"kind": "python", "factory": f"faultydetectors:{factory}"}, {}, FogPolicy(), KEYS)
    with pytest.raises(error):
        engine.process(RawImage(bytes(3_000_000), "a" * 64), None)
    engine.close()


def test_what_left_before_a_crash_is_not_forgotten() -> None:
    """The audit must not claim less than was sent: the sums of a dead child stay, and the next child's are added."""
    engine = ChildEngine({"kind": "python", "factory": "faultydetectors:Counting"}, {}, FogPolicy(), KEYS)
    photo, killer = (encoded(picture(size=size)) for size in ((160, 120), (160, 64)))
    engine.process(RawImage(photo, "a" * 64), None)
    with pytest.raises(ImageError, match="ended the process"):
        engine.process(RawImage(killer, "b" * 64), None)
    engine.process(RawImage(photo, "a" * 64), None)
    engine.close()
    assert engine.egress() == {"far": {"calls": 2, "bytes": 20, "credits": 1.0}}


def test_a_killed_attempt_has_told_what_it_sent(world: World, tmp_path: Path) -> None:
    """What left for a remote host is recorded with each micro-batch, not only when an attempt ends by itself."""
    for index in range(64):
        save(world.raw / f"a{index:02d}.png", picture(size=(32, 32)))
    save(world.raw / "z.png", picture(size=(160, 64)))
    ref = plan(world, {"kind": "python", "factory": "faultydetectors:Counting"})
    assert ended(process(attempt_batch, ref, "first", str(tmp_path / "a.json"))) == 7
    (told,) = world.audit.rglob("egress.json")
    assert json.loads(told.read_text())["far"]["calls"] >= 64


@pytest.mark.parametrize("fault", ["value", "memory", "distrust"])
@pytest.mark.parametrize("isolated", [False, True])
def test_a_detector_that_raises_fails_the_attempt_and_publishes_nothing(
    world: World, fault: str, isolated: bool
) -> None:
    """Only ImageError quarantines: anything else fails the attempt, in this process and in the child, with one class."""
    ref = plan(world, faulty(fault))
    if isolated:
        mark_as_dead(world, ref)
    with pytest.raises(Exception, match=r"withheld|out of memory|model file") as caught:
        run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
    assert type(caught.value).__name__ == {"distrust": "DetectorError"}.get(fault, "InternalError")
    assert (objects(world), intents(world)) == ({}, set())
    assert not list(world.audit.glob("commits/*/*/*"))
    ended_marks = [path for path in world.audit.glob("intents/*/*/*/*/ended") if path.parent.name != "dead"]
    assert len(ended_marks) == 1, "an exception is an end: the next attempt need not be isolated"


@pytest.mark.parametrize("answer", [None, {}, {"predictions": []}, "", [[1, 2, 3, 4]], [None]], ids=repr)
def test_an_answer_that_is_no_list_of_detections_never_reads_as_nothing_found(world: World, answer: Any) -> None:
    """Whatever a broken detector returns: the attempt fails, nothing is published."""
    ref = plan(world, faulty("nonsense", answer=answer))
    with pytest.raises(DetectorError, match="no list of Detection"):
        run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
    assert objects(world) == {}


@pytest.mark.parametrize("isolated", [False, True])
def test_a_detectors_own_error_classes_keep_their_meaning(world: World, isolated: bool) -> None:
    """A subclass of ImageError quarantines, one of TransientError asks for a later retry, also from the child."""
    ref = plan(world, faulty("refuse"))
    waiting = make_plan(
        world.request("run-2", batch_images=100, detector=faulty("wait"), retry_quarantined=True), KEYS
    )[0]
    for each in (ref, waiting) if isolated else ():
        mark_as_dead(world, each)
    assert run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)["quarantined"] == 1
    assert ended_as(world, ref)["photo_bad.jpg"] == ("quarantined", "detector_refused")
    with pytest.raises(TransientError, match="too many requests") as caught:
        run_batch(waiting["plan"], waiting["batch"], attempt=attempt(), keys=KEYS)
    assert caught.value.retry_after_s == 7.0


@pytest.mark.parametrize(("after", "published"), [(0, 0), (3, 2), (4, 4), (5, 4)])
def test_a_detector_that_goes_blind_publishes_nothing_more(
    world: World, monkeypatch: pytest.MonkeyPatch, after: int, published: int
) -> None:
    """The canary is missed before the intents of the micro-batch in which sight was lost: none of it is published."""
    monkeypatch.setattr(batch, "MICRO_IMAGES", 2)
    ref = plan(world, faulty("blind", after=after))
    with pytest.raises(DetectorError, match="canary"):
        run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)
    assert len(objects(world)) == published
    assert len(intents(world)) == published
    assert not list(world.audit.glob("commits/*/*/*"))
    check_invariants(world)


def test_a_detector_that_stays_sighted_publishes_all(world: World) -> None:
    """The counter-check of the one above."""
    ref = plan(world, faulty("blind", after=6))
    assert run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)["published"] == 6


@pytest.mark.parametrize("isolated", [False, True])
def test_no_core_dump_can_hold_raw_pixels(world: World, isolated: bool) -> None:
    """RLIMIT_CORE is 0 while a detector holds pixels, in this process and in the child."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    ref = plan(world, faulty("core"))
    if isolated:
        mark_as_dead(world, ref)
    run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
    result = finalise(ref["plan"], attempt=attempt(), keys=KEYS)
    seen = {row["class_name"] for row in audit_rows(world, result, "detection")}
    assert seen == {f"core_0_{isolated}"}
