"""Zombies, races and late finishers: killed, stopped and concurrent attempts end in one consistent result."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import faultkit
import pytest
from faultkit import attempt_batch, check_invariants, ended, process, shown, small_photos, together, wait_stopped
from faultydetectors import faulty
from jobkit import KEYS, MARKER, World, attempt, audit_rows, picture, run, save

from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.model import Place
from airflow_facefog.job.plan import make_plan

STOPS = {"before_intent": (2, "before"), "before_put": (3, "before"), "between_puts": (4, "before"),
         "before_commit": (8, "before")}  # fmt: skip
"""Write numbers of a batch attempt: started, intent, three objects, two parts, commit."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Three small photos."""
    made = World(tmp_path)
    small_photos(made, 3)
    return made


def plan(world: World, run_id: str = "run-1", **changes: Any) -> dict[str, Any]:
    """Plan one batch."""
    (ref,) = make_plan(world.request(run_id, batch_images=100, **changes), KEYS)
    return ref


def do_batch(ref: dict[str, Any]) -> dict[str, Any]:
    """One attempt."""
    return run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)


def do_final(ref: dict[str, Any]) -> dict[str, Any]:
    """Finalise."""
    return finalise(ref["plan"], attempt=attempt(), keys=KEYS)


def commits(world: World) -> list[Path]:
    """All commits."""
    return list(world.audit.glob("commits/*/*/*.json"))


@pytest.mark.parametrize("detector", [MARKER, faulty("drift")], ids=["same_bytes", "other_bytes"])
@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS.keys())
def test_a_zombie_that_wakes_up_returns_the_winners_answer(
    world: World, tmp_path: Path, stop: tuple[int, str], detector: Any
) -> None:
    """Attempt A is stopped, B does everything, A goes on: one commit, B's; A says what B said; no alarm.

    Where attempts differ in bytes, the zombie's objects are recorded and seen by nobody.
    """
    ref = plan(world, detector=detector)
    zombie = process(attempt_batch, ref, "attempt-a", str(tmp_path / "a.json"), stop)
    wait_stopped(zombie)
    check_invariants(world)
    winner = do_batch(ref)
    result = do_final(ref)
    seen, there = shown(world), faultkit.objects(world)
    assert zombie.pid is not None
    os.kill(zombie.pid, signal.SIGCONT)
    assert ended(zombie) == 0
    assert json.loads((tmp_path / "a.json").read_text()) == winner
    (commit,) = commits(world)
    assert json.loads(commit.read_text())["attempt_id"] != "attempt-a"
    assert shown(world) == seen
    assert set(there.items()) <= set(faultkit.objects(world).items()), "a published object was overwritten"
    assert (faultkit.objects(world) == there) or detector is not MARKER
    assert do_final(ref)["manifest_sha256"] == result["manifest_sha256"]
    check_invariants(world)


def test_a_key_that_holds_other_bytes_is_not_overwritten(world: World, tmp_path: Path) -> None:
    """The short hash of a key is taken by a stranger: both intents are recorded, the full hash names the object."""
    twin = World(tmp_path / "twin")
    run(twin.request(source=Place.parse(world.raw)))
    taken = sorted(faultkit.objects(twin))[0]
    (world.clean / taken).parent.mkdir(parents=True)
    (world.clean / taken).write_bytes(b"a stranger")
    ref = plan(world)
    do_batch(ref)
    do_final(ref)
    assert (world.clean / taken).read_bytes() == b"a stranger"
    assert sorted(shown(world).values()) == sorted(faultkit.objects(twin).values())
    keys = {key for key, _ in faultkit.intents(world)}
    (full,) = keys - set(faultkit.objects(twin))
    assert taken in keys
    assert faultkit.objects(world)[full] in full


def test_two_attempts_at_the_same_time_make_one_commit(world: World) -> None:
    """Two workers take the same batch: both succeed with one answer, and every row is one attempt's."""
    ref = plan(world)
    one, other = together(lambda: do_batch(ref), lambda: do_batch(ref))
    assert one == other
    assert one["published"] == 3
    assert len(commits(world)) == 1
    result = do_final(ref)
    assert len({row["attempt_id"] for row in audit_rows(world, result)}) == 1
    check_invariants(world)


def test_two_finalisers_at_the_same_time_make_one_snapshot(world: World) -> None:
    """Both return the same manifest and snapshot; there is one snapshot and it is shown."""
    ref = plan(world)
    do_batch(ref)
    one, other = together(lambda: do_final(ref), lambda: do_final(ref))
    assert one == other
    assert world.snapshots() == ["0000000001.json"]
    assert len(shown(world)) == 3
    check_invariants(world)


def test_two_plans_of_one_run_at_the_same_time_are_one_plan(world: World) -> None:
    """A list task that is tried twice at once: both get the plan that won, whole."""
    one, other = together(lambda: plan(world), lambda: plan(world))
    assert one == other
    do_batch(one)
    assert do_final(one)["counts"]["published"] == 3


def test_two_runs_into_one_destination_at_the_same_time(world: World) -> None:
    """Both seal, the snapshots follow each other, and the newest shows each photo once."""
    first, second = together(
        lambda: run(world.request("run-1", batch_images=2)), lambda: run(world.request("run-2", batch_images=2))
    )
    assert {first["counts"]["listed"], second["counts"]["listed"]} == {3}
    assert len(shown(world)) == 3
    assert {first["snapshot_seq"], second["snapshot_seq"]} <= {1, 2}
    check_invariants(world)


def test_an_older_plan_that_finishes_late_replaces_nothing_newer(world: World) -> None:
    """Planned first, finalised last: the newer listing's row stays; what only the older one listed is added."""
    old = plan(world, "run-old")
    do_batch(old)
    save(world.raw / "photo_0.jpg", picture(70, (64, 48), markers=[(16, 12, 32, 28)]))
    (world.raw / "photo_2.jpg").unlink()
    new = plan(world, "run-new")
    do_batch(new)
    do_final(new)
    newest = shown(world)
    result = do_final(old)
    late = shown(world)
    assert result["changed"]
    assert {name: late[name] for name in newest} == newest
    assert set(late) - set(newest) == {"photo_2.jpg"}
    check_invariants(world)


def test_a_late_withdrawal_withdraws_nothing_newer(world: World) -> None:
    """The older plan saw a broken file, the newer one a good one: whichever finishes last, the photo stays."""
    good = (world.raw / "photo_0.jpg").read_bytes()
    (world.raw / "photo_0.jpg").write_bytes(b"broken")
    old = plan(world, "run-old", policy=lenient())
    do_batch(old)
    (world.raw / "photo_0.jpg").write_bytes(good)
    new = plan(world, "run-new", policy=lenient())
    do_batch(new)
    do_final(new)
    do_final(old)
    assert set(shown(world)) == {"photo_0.jpg", "photo_1.jpg", "photo_2.jpg"}


def test_a_plan_killed_before_it_was_written_lists_again_with_all_sources(world: World, monkeypatch: Any) -> None:
    """The list task dies before ``plan.json`` and photos arrive before its retry: the source table knows them all."""
    from airflow_facefog.publish.store import Store

    create = Store.create
    with monkeypatch.context() as patch:
        patch.setattr(Store, "create", lambda self, key, data: die() if "plan.json" in key else create(self, key, data))
        with pytest.raises(InterruptedRun):
            plan(world)
    small_photos(world, 5)
    ref = plan(world)
    do_batch(ref)
    do_final(ref)
    (part,) = world.audit.glob("sources/*/*.parquet")
    uris = {row["source_uri"].rpartition("/")[2] for row in faultkit.rows("source", part)}
    assert uris == {f"photo_{i}.jpg" for i in range(5)}


class InterruptedRun(BaseException):
    """Stands for a process that ended here."""


def die() -> bool:
    """End the run here."""
    raise InterruptedRun


def lenient() -> Any:
    """A policy whose gate lets anything pass."""
    from airflow_facefog.core.policy import load_policy

    return load_policy({"max_quarantined": 1.0})
