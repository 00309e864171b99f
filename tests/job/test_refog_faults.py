"""Refogging while others work and while it dies: nothing without the reported region stays visible, and it is finished."""

from __future__ import annotations

import pytest
from erasekit import Lake, dies_at
from jobkit import KEYS, attempt
from refogkit import faults, image_id, output, refog, report, rows_of, touched

from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.core.errors import GateError, PermanentError, StoreError
from airflow_facefog.core.policy import FogPolicy, load_policy
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.plan import make_plan
from airflow_facefog.job.record.amending import unfinished
from airflow_facefog.publish.snapshots import open_dataset

STRIDE = 5
"""Every how many writes a refog is killed; 1 takes two minutes and holds too."""


@pytest.fixture
def lake(tmp_path):
    """Three photos; the detector finds the marker at the left, nobody at ``BOX``."""
    lake = Lake(tmp_path)
    lake.photos = lake.world.photos(3)
    return lake


def test_a_run_under_way_does_not_bring_the_old_output_back(lake):
    """Listed and fogged before the report, finalised after it."""
    lake.run("r1")
    old = output(lake, lake.photos[1])
    (ref,) = make_plan(lake.request("slow"), KEYS)
    run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)
    (other,) = make_plan(lake.request("slow2", policy=FogPolicy(record_floor=0.2)), KEYS)
    run_batch(other["plan"], other["batch"], attempt=attempt(), keys=KEYS, workers=1)
    refog(lake, lake.photos[1])
    new = output(lake, lake.photos[1])
    for late in (ref, other):
        finalise(late["plan"], attempt=attempt(), keys=KEYS)
        assert output(lake, lake.photos[1]) == new
    assert touched(lake, lake.photos[1]) > 8
    assert not lake.holding(old)
    assert not faults(lake)


def test_another_report_while_one_is_made_hides_the_picture_until_both_are_fogged(lake, monkeypatch):
    """Between its batch and its end: nothing without the second region is shown, and a later run and call finish it."""
    from airflow_facefog.job.record import refog_run

    lake.run("r1")
    photo, other = lake.photos[1], (8.0, 80.0, 40.0, 112.0)
    old, end = output(lake, photo), refog_run.finalise

    def late(*args, **options):
        report(lake, photo, other)
        return end(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(refog_run, "finalise", late)
        with pytest.raises(PermanentError, match="let the next run"):
            refog(lake, photo)
    assert rows_of(lake, photo) == []
    lake.run("night")
    assert min(touched(lake, photo), touched(lake, photo, other)) > 8
    assert refog(lake, photo)["regions"] == 2
    assert not lake.holding(old)
    assert not faults(lake)


def test_a_report_while_the_run_is_sealed_is_taken_up_by_the_next_call(lake, monkeypatch):
    """Sealed without the second region and never merged: the same command makes another generation."""
    from airflow_facefog.job import sealing

    lake.run("r1")
    photo, other = lake.photos[1], (8.0, 80.0, 40.0, 112.0)
    old, seal = output(lake, photo), sealing.seal_run

    def late(*args):
        done = seal(*args)
        report(lake, photo, other)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "seal_run", late)
        with pytest.raises(GateError):
            refog(lake, photo)
    assert output(lake, photo) == old
    refog(lake, photo)
    assert min(touched(lake, photo), touched(lake, photo, other)) > 8
    assert not lake.holding(old)
    assert not faults(lake)


@pytest.mark.parametrize("night", [False, True], ids=["alone", "a run in between"])
def test_a_refog_killed_at_a_write_is_finished_by_the_same_call(tmp_path, monkeypatch, night):
    """Writes and deletes all over it: what is shown is recorded, and the end shows the new picture, nothing of the old."""
    lake = Lake(tmp_path)
    lake.photos = lake.world.photos(2)
    lake.run("r1")
    photo = lake.photos[1]
    old, before, n, finished = output(lake, photo), lake.state(), 2 * night, False
    while not finished:
        n += STRIDE
        lake.restore(before)
        with dies_at(monkeypatch, n):
            try:
                refog(lake, photo)
                finished = True
            except StoreError:
                check_halfway(lake, photo)
        if not finished:
            if night:
                lake.run("night")
            done = refog(lake, photo)
            assert done["regions"] == 1, n
        assert not lake.holding(old), n
        assert len(rows_of(lake, photo)) == 1, n
        assert not unfinished(lake.store(lake.audit)), n
        assert len(open_dataset(lake.store(lake.clean)).to_pylist()) == 2, n
        if n % 3 == 0 or finished:
            assert touched(lake, photo) > 8, n
            assert not faults(lake), n
    assert n > 30, "every step writes something"


def check_halfway(lake, photo):
    """Whoever opens the newest snapshot sees a picture with its object and its row."""
    store, audit = lake.store(lake.clean), lake.store(lake.audit)
    (row,) = rows_of(lake, photo)
    assert store.exists(row["uri"].partition("/clean/")[2])
    run = open_ledger(audit).find(row["run_key"], row["generation"])
    assert row["sha256"].encode() in audit.read(run.parts["image"].key)


def test_an_erasure_ends_what_a_refused_report_began(lake):
    """The refused report left its journal and a run that was never finished; the erasure leaves no id of the picture."""
    lake.run("r1")
    photo = lake.photos[1]
    with pytest.raises(PermanentError):
        refog(lake, photo, policy=load_policy({"rules": {}, "other_classes": "ignore"}))
    assert len(unfinished(lake.store(lake.audit))) == 1
    lake.erase(photo)
    assert not unfinished(lake.store(lake.audit))
    assert not lake.holding(image_id(photo), photo.stem)
