"""Regions that people reported stand for their picture: every later run fogs them, or does not publish the picture."""

from __future__ import annotations

import pytest
from erasekit import Lake
from jobkit import KEYS, attempt, run
from refogkit import BOX, detections, human_rows, report, shown, touched

from airflow_facefog.audit import regions
from airflow_facefog.core.errors import GateError, SourceError
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy, load_policy
from airflow_facefog.core.records import Detection
from airflow_facefog.core.regions import decide
from airflow_facefog.job.attempt import AttemptLog
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.plan import make_plan
from airflow_facefog.job.staged import detect_batch, fog_detected_batch
from airflow_facefog.publish.snapshots import newest_seq

BARE = KeyRing.from_master(None)


@pytest.fixture
def lake(tmp_path):
    """Six photos; the detector finds the marker at the left, nobody at ``BOX``."""
    lake = Lake(tmp_path)
    lake.photos = lake.world.photos(6)
    return lake


MODES = {
    "same recipe": {}, "other policy": {"policy": FogPolicy(record_floor=0.2)}, "content": {"layout": "content"},
    "keep nothing": {"policy": load_policy({"rules": {}, "other_classes": "ignore"})},
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_every_later_run_fogs_what_was_reported(lake, mode):
    """Under the same recipe (where it would be skipped), another one, another layout, and where its class is ignored."""
    changes = MODES[mode]
    first = {"layout": changes["layout"]} if "layout" in changes else {}
    lake.run("r1", **first)
    assert touched(lake, lake.photos[1]) < 4
    report(lake, lake.photos[1], BOX)
    for run_id in ("r2", "r3"):
        result = lake.run(run_id, **changes)
        (row,) = human_rows(lake, result)
        assert (row["detector"], row["confidence"], row["action"], row["class_name"]) == (
            "human",
            1.0,
            "fogged",
            "face",
        )
        assert (row["x1"], row["y1"], row["x2"], row["y2"]) == BOX
        assert touched(lake, lake.photos[1]) > 8
        assert touched(lake, lake.photos[0]) < 4


def test_the_model_still_counts(lake):
    """What the detector finds is fogged as before, also where a reported region overlaps it."""
    report(lake, lake.photos[0], (44, 34, 76, 74), BOX)
    result = lake.run("r1")
    ref = KEYS.source_ref(f"file://{lake.photos[0]}")
    mine = [row for row in detections(lake, result) if row["source_ref"] == ref]
    assert sorted(row["source"] for row in mine) == ["human", "human", "model"]
    assert all(row["action"] == "fogged" for row in mine)
    assert touched(lake, lake.photos[0], (40, 30, 72, 70)) > 8


def test_staged_and_isolated_runs_fog_it_too(lake):
    """Stored predictions, and the child process after an attempt died."""
    report(lake, lake.photos[1], BOX)
    for run_id, staged in (("staged", True), ("isolated", False)):
        (ref,) = make_plan(lake.request(run_id, batch_images=9), KEYS)
        if staged:
            seen = detect_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
            fog_detected_batch(ref["plan"], ref["batch"], seen["predictions"], attempt=attempt(), keys=KEYS)
        else:
            prefix = ref["batch"].rpartition("/")[2].removesuffix(".json")
            home = ref["plan"].partition("/plans/")[2].removesuffix("/plan.json")
            AttemptLog(lake.store(lake.audit), f"intents/{home}/{prefix}/dead/").start()
            run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)
        result = finalise(ref["plan"], attempt=attempt(), keys=KEYS)
        assert len(human_rows(lake, result)) == 1
        assert touched(lake, lake.photos[1]) > 8


@pytest.mark.parametrize("again", [False, True])
def test_a_report_during_a_run_takes_the_picture_out_of_it(lake, again):
    """The batch had looked before: its row fails and the picture is not shown; the next run publishes it with the region."""
    if again:
        lake.run("r0")
    (ref,) = make_plan(lake.request("r1", batch_images=9), KEYS)
    run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)
    report(lake, lake.photos[1], BOX)
    result = finalise(ref["plan"], attempt=attempt(), keys=KEYS)
    assert (result["counts"]["failed"], result["counts"]["skipped"]) == (1, 5 if again else 0)
    assert shown(lake, lake.photos[1]) is None
    lake.run("r2")
    assert touched(lake, lake.photos[1]) > 8


def test_a_report_while_a_run_is_sealed_stops_it(lake, monkeypatch):
    """Sealed without the region, not yet merged: nothing is published."""
    (ref,) = make_plan(lake.request("r1", batch_images=9), KEYS)
    run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)
    from airflow_facefog.job import sealing

    seal = sealing.seal_run

    def late(*args):
        done = seal(*args)
        report(lake, lake.photos[1], BOX)
        return done

    monkeypatch.setattr(sealing, "seal_run", late)
    with pytest.raises(GateError, match="erase --refog"):
        finalise(ref["plan"], attempt=attempt(), keys=KEYS)
    assert newest_seq(lake.store(lake.clean)) is None


DAMAGES = {
    "empty": lambda data: b"", "cut": lambda data: data[:-9], "no json": lambda data: b"x",
    "moved box": lambda data: data.replace(b"96.0", b"16.0"), "no box": lambda data: data.replace(b"face", b"fac3"),
    "other list": lambda data: b'{"format": "facefog-regions/1", "regions": [], "mac": ""}', "null": lambda data: b"null",
}  # fmt: skip


@pytest.mark.parametrize("keys", [KEYS, BARE], ids=["keyed", "keyless"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_report_is_never_ignored(lake, damage, keys):
    """The picture fails, whatever was done to the file; the others are published, and restoring it is enough."""
    folder, store = report(lake, lake.photos[1], BOX, keys=keys), lake.store(lake.audit)
    (name,) = store.list(folder)
    whole = store.read(name)
    store.replace(name, DAMAGES[damage](whole))
    result = run(lake.request("r1"), keys, workers=1)
    assert (result["counts"]["published"], result["counts"]["failed"]) == (5, 1)
    store.replace(name, whole)
    result = run(lake.request("r2"), keys, workers=1)
    assert (result["counts"]["failed"], len(human_rows(lake, result))) == (0, 1)


def test_a_report_about_another_picture_does_not_pass_for_this_one(lake):
    """Copied into the folder of another picture it does not verify."""
    store = lake.store(lake.audit)
    (name,) = store.list(report(lake, lake.photos[1], BOX))
    other = regions.folder(KEYS, KEYS.image_id(lake.photos[0].read_bytes()))
    store.create(f"{other}/{'0' * 16}.json", store.read(name))
    with pytest.raises(SourceError):
        regions.read_regions(store, KEYS, KEYS.image_id(lake.photos[0].read_bytes()), store.list(other))
    assert lake.run("r1")["counts"]["failed"] == 1


def test_a_region_outside_of_the_picture_fails_it(lake):
    """Boxes are clipped when they are reported; one that is outside belongs to other pixels."""
    report(lake, lake.photos[1], (150, 100, 170, 110))
    assert lake.run("r1")["counts"]["failed"] == 1


def test_reports_say_nothing_without_the_key(lake):
    """No id of the picture in name or content; a report under another key is told of in the log, by its key_id alone."""
    report(lake, lake.photos[1], BOX)
    image_id = KEYS.image_id(lake.photos[1].read_bytes())
    assert not lake.holding(image_id, lake.photos[1].stem)


def test_regions_of_another_key_are_warned_about(lake, caplog):
    """They cannot be told under this key; silence would be a leak."""
    report(lake, lake.photos[1], BOX, keys=BARE)
    lake.run("r1")
    assert "report them again" in caplog.text


def test_reports_add_up(lake):
    """Two people, or one twice: the same report is one file, different ones stand beside each other."""
    other = (8.0, 80.0, 40.0, 112.0)
    folder = report(lake, lake.photos[1], BOX)
    assert report(lake, lake.photos[1], BOX) == folder
    report(lake, lake.photos[1], other)
    assert len(lake.store(lake.audit).list(folder)) == 2
    rows = human_rows(lake, lake.run("r1"))
    assert {(row["x1"], row["y1"], row["x2"], row["y2"]) for row in rows} == {BOX, other}


def test_a_reported_region_is_decided_alone_and_always():
    """It joins no cluster, no threshold or ignored class leaves it out, and it takes nothing from the model's regions."""
    policy = load_policy(
        {"rules": {"face": {"min_confidence": 0.9}}, "other_classes": "ignore", "accept_high_threshold": True}
    )
    seen = [Detection((10, 10, 50, 60), 0.8, "face"), Detection((80, 10, 120, 60), 0.99, "cat")]
    boxes = [((12, 11, 50, 60), "face"), ((12, 11, 51, 60), "face"), ((80, 10, 120, 60), "cat")]
    human = [regions.region(*box) for box in boxes]
    rows = decide([*seen, *human], policy, 200, 100, keyed=True).decisions
    assert [(row.human, row.action.value) for row in rows if row.detector == "human"] == [(True, "fogged")] * 3
    assert sorted(row.action.value for row in rows if not row.human) == ["below_threshold", "class_ignored"]
