"""An erasure, or an expiry, that dies anywhere is finished by the same call again, to the same end."""

from __future__ import annotations

import pytest
from erasekit import Lake, dies_at, needles
from jobkit import KEYS

from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.core.errors import StoreError
from airflow_facefog.job.record.expire import Retention, expire_audit
from airflow_facefog.publish.snapshots import newest_seq, open_dataset


@pytest.fixture
def lake(tmp_path):
    """One run over two photos, one of them there twice."""
    lake = Lake(tmp_path)
    photos = lake.world.photos(2)
    (photos[1].parent / "copy.jpg").write_bytes(photos[1].read_bytes())
    lake.run("r1")
    return lake


def visible(lake):
    """What consumers see, without the run's numbers."""
    store = lake.store(lake.clean)
    seqs = range(1, (newest_seq(store) or 0) + 1)
    return [sorted(open_dataset(store, seq)["item_id"].to_pylist()) for seq in seqs]


def test_an_erasure_killed_at_any_write_is_finished_by_the_same_call(lake, monkeypatch):
    """For every write and delete: the dataset never shows what the audit lacks, and the end is that of one whole call."""
    photo = lake.world.raw / "photo_001.jpg"
    before = lake.state()
    lake.erase(photo)
    names, seen = set(lake.state()), visible(lake)
    n, finished = 0, False
    while not finished:
        n += 1
        lake.restore(before)
        with dies_at(monkeypatch, n):
            try:
                lake.erase(photo)
                finished = True
            except StoreError:
                check_halfway(lake, photo)
        if not finished:
            lake.erase(photo)
        assert set(lake.state()) == names, n
        assert visible(lake) == seen, n
        assert all("withdrawals" in name for name in lake.holding(*needles(photo), "copy"))
    assert n > 25, "every step writes something"


def check_halfway(lake, photo):
    """Whoever opens the newest snapshot sees either the picture with its audit rows, or no picture."""
    store, audit = lake.store(lake.clean), lake.store(lake.audit)
    item = KEYS.item_id(needles(photo)[1])
    shown = [row for row in open_dataset(store).to_pylist() if row["item_id"] == item]
    for row in shown:
        assert store.exists(row["uri"].partition("/clean/")[2])
        run = open_ledger(audit).find(row["run_key"], row["generation"])
        assert row["sha256"].encode() in audit.read(run.parts["image"].key) or run.parts["image"].rows == 3


def test_an_expiry_killed_at_any_write_is_finished_by_the_same_call(lake, monkeypatch):
    """For every write and delete."""
    keep = Retention(sources=0, work=0, images=0, refusals=0, predictions=0, published=True)
    before = lake.state()
    expire_audit(lake.audit, keep)
    names = set(lake.state())
    n, finished = 0, False
    while not finished:
        n += 1
        lake.restore(before)
        with dies_at(monkeypatch, n):
            try:
                expire_audit(lake.audit, keep)
                finished = True
            except StoreError:
                open_ledger(lake.store(lake.audit))
        expire_audit(lake.audit, keep)
        assert set(lake.state()) == names, n
    assert n > 10
