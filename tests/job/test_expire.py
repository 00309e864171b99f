"""Retention: what is too old goes, level by level; what readers need stays, and the record still verifies."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta

import pytest
from erasekit import Lake
from jobkit import KEYS, World, attempt, picture, run, save

from airflow_facefog.audit import chain
from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.audit.sealed import SigningKey
from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.model import Place
from airflow_facefog.job.plan import make_plan
from airflow_facefog.job.record.expire import Retention, expire_audit
from airflow_facefog.job.record.verify_audit import VerifyRequest, verify_audit
from airflow_facefog.publish.snapshots import open_dataset

ALL = Retention(sources=0, work=0, detections=0, images=0, refusals=0, predictions=0, published=True)


@pytest.fixture
def lake(tmp_path):
    """One run over three photos."""
    lake = Lake(tmp_path)
    lake.world.photos(3)
    lake.run("r1")
    return lake


def in_days(days):
    """A moment from now."""
    return datetime.now(UTC) + timedelta(days=days)


def folders(lake):
    """Top folders of the audit that hold something."""
    prefix = f"/{lake.name}/audit/"
    return {name.removeprefix(prefix).split("/")[0] for name in lake.state() if name.startswith(prefix)}


def test_by_default_only_names_past_their_date_go(lake):
    """90 days after the listing; nothing before."""
    assert expire_audit(lake.audit, Retention(), now=in_days(89))["sources"] == 0
    before = folders(lake)
    assert expire_audit(lake.audit, Retention(), now=in_days(91))["sources"] == 3
    assert folders(lake) == before - {"sources"}


@pytest.mark.parametrize(
    ("keep", "gone", "parts"),
    [
        (Retention(sources=5), {"sources"}, 4),
        (Retention(work=5), {"intents", "commits"}, 4),
        (Retention(detections=5), {"intents", "commits"}, 2),
        (Retention(images=5, published=True), {"intents", "commits"}, 0),
    ],
)
def test_each_level_takes_its_own(lake, keep, gone, parts):
    """Too young: untouched. Too old: that level and copies of its rows, no other; manifest, run row and chain stay."""
    before, state = folders(lake), lake.state()
    expire_audit(lake.audit, keep, now=in_days(4))
    assert lake.state() == state
    expire_audit(lake.audit, keep, now=in_days(6))
    assert folders(lake) == before - gone
    sealed = open_ledger(lake.store(lake.audit)).runs[0]
    assert len(sealed.parts) == parts
    assert sealed.row["published"] == 3
    files = [name for name in lake.store(lake.audit).list(f"runs/{sealed.home}") if name.endswith(".parquet")]
    assert len(files) == parts + 1, "run.parquet, and what is left"


def test_the_record_of_what_is_published_stays(lake):
    """Image rows of pictures that a dataset shows are kept and counted, however old; they go when a newer run replaced all."""
    kept = expire_audit(lake.audit, Retention(images=5), now=in_days(6))
    assert (kept["kept_published"], kept["parts"]) == (1, 0)
    for number in range(3):
        save(lake.world.raw / f"photo_{number:03d}.jpg", picture(number + 50, markers=[(40, 30, 72, 70)]))
    lake.run("r2")
    done = expire_audit(lake.audit, Retention(images=5), now=in_days(6))
    assert (done["kept_published"], done["parts"]) == (1, 4)
    first, second = open_ledger(lake.store(lake.audit)).runs
    assert (len(first.parts), len(second.parts)) == (0, 4)


def test_a_dataset_that_is_not_in_its_place_keeps_its_record(lake):
    """A destination that was moved may be shown elsewhere."""
    store = lake.store(lake.clean)
    for key in store.list("_facefog"):
        store.delete(key)
    assert expire_audit(lake.audit, Retention(images=5), now=in_days(6))["kept_published"] == 1


def test_a_dry_run_counts_and_changes_nothing(lake):
    """The same numbers as the real one."""
    state = lake.state()
    counted = expire_audit(lake.audit, ALL, now=in_days(1), dry_run=True)
    assert lake.state() == state
    done = expire_audit(lake.audit, ALL, now=in_days(1))
    same = ("sources", "work", "parts", "rows", "runs")
    assert {name: counted[name] for name in same} == {name: done[name] for name in same}
    assert (done["parts"], done["rows"], done["sources"]) == (4, 9, 3)


def test_twice_is_once(lake):
    """Nothing is left to do, and no second entry is chained."""
    expire_audit(lake.audit, ALL, now=in_days(1))
    state = lake.state()
    again = expire_audit(lake.audit, ALL, now=in_days(1))
    assert lake.state() == state
    assert (again["parts"], again["sources"], again["work"]) == (0, 0, 0)


def test_the_dataset_is_untouched_and_the_next_run_does_its_work_again(lake):
    """Without its image rows nothing proves that an output was made: it is made again, and is the same."""
    expire_audit(lake.audit, ALL, now=in_days(1))
    before = open_dataset(lake.store(lake.clean)).select(["item_id", "sha256"]).to_pylist()
    assert len(before) == 3
    result = lake.run("r2")
    assert (result["counts"]["published"], result["counts"]["skipped"]) == (3, 0)
    assert open_dataset(lake.store(lake.clean)).select(["item_id", "sha256"]).to_pylist() == before


def test_work_of_a_run_that_is_not_finished_stays_unless_asked(lake):
    """Its batches could still be finished."""
    refs = make_plan(lake.request("open"), KEYS)
    run_batch(refs[0]["plan"], refs[0]["batch"], attempt=attempt(), keys=KEYS, workers=1)
    expire_audit(lake.audit, Retention(work=0), now=in_days(100))
    assert finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)["counts"]["listed"] == 3
    refs = make_plan(lake.request("dead"), KEYS)
    assert expire_audit(lake.audit, Retention(work=0, unfinished=True), now=in_days(100))["work"] > 0
    assert lake.store(lake.audit).list("plans"), "plans stay: generations are counted by them"


def test_a_clock_that_jumped_back_makes_nothing_old(lake, monkeypatch):
    """A run that was recorded as of 1990 is no older than the chain entry before its own."""
    real = datetime

    class Past(datetime):
        @classmethod
        def now(cls, tz=None):
            return real(1990, 1, 1, tzinfo=tz)

    with monkeypatch.context() as patch:
        for module in ("plan", "batch", "sealing", "finalise", "gate"):
            patch.setattr(f"airflow_facefog.job.{module}.datetime", Past, raising=False)
        patch.setattr(chain, "datetime", Past)
        lake.run("r2")
    rows = [run.row["finished_at"][:4] for run in open_ledger(lake.store(lake.audit)).runs]
    assert "1990" in rows
    state = lake.state()
    result = expire_audit(lake.audit, Retention(30, 30, 30, 30, 30, 30), now=in_days(10))
    assert lake.state() == state
    assert result["parts"] == 0


def test_now_in_the_past_deletes_nothing_and_says_so(lake):
    """The machine that expires may have the wrong clock."""
    state = lake.state()
    result = expire_audit(lake.audit, ALL, now=in_days(-1000))
    assert lake.state() == state
    assert result["from_the_future"] == 1


def test_a_signed_audit_takes_no_unsigned_amendment(lake):
    """Nothing is changed before that is known."""
    key = SigningKey.generate()
    refs = make_plan(lake.request("signed"), KEYS)
    run_batch(refs[0]["plan"], refs[0]["batch"], attempt=attempt(), keys=KEYS, workers=1)
    finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS, signer=key)
    state = lake.state()
    with pytest.raises(ConfigurationError, match="signing key"):
        expire_audit(lake.audit, ALL, now=in_days(1))
    assert lake.state() == state
    expire_audit(lake.audit, Retention(work=0), now=in_days(1))
    expire_audit(lake.audit, ALL, now=in_days(1), signer=key)


def test_cached_predictions_and_refusals_go_when_no_young_run_met_them(lake):
    """The picture of a young run keeps its entry, however old the entry is."""
    store = lake.store(lake.audit)
    met = KEYS.image_id((lake.world.raw / "photo_000.jpg").read_bytes())
    for image_id in (met, "b" * 64):
        store.create(f"predictions/cache/{'0' * 32}/{image_id[:2]}/{image_id}", b"x")
    home = open_ledger(store).runs[0].home.replace("/", "-")
    store.create(f"refusals/{'1' * 64}/{home}", b"x")
    keep = Retention(predictions=5, refusals=5)
    young = expire_audit(lake.audit, keep, now=in_days(4))
    assert (young["predictions"], young["refusals"]) == (1, 0)
    old = expire_audit(lake.audit, keep, now=in_days(6))
    assert (old["predictions"], old["refusals"]) == (1, 1)


def test_sql_follows(lake, tmp_path):
    """Rows of parts that are gone, and names; the run row stays and the removal is written down."""
    sql = SqlSink(f"sqlite:///{tmp_path}/facefog.db")
    run(lake.request("r2", policy=other_policy()), workers=1, sql=sql)
    expire_audit(lake.audit, ALL, now=in_days(1), sql=sql)
    with sql.engine.connect() as connection:
        count = {
            name: connection.exec_driver_sql(f"select count(*) from facefog_{name}").scalar()
            for name in ("run", "image", "detection", "intent", "source")
        }
        reasons = set(connection.exec_driver_sql("select reason, new_sha256 from facefog_erasure").fetchall())
    assert count == {"run": 1, "image": 0, "detection": 0, "intent": 0, "source": 0}
    assert reasons == {("expiry", None)}


def other_policy():
    """Another recipe: everything is processed again."""
    from airflow_facefog.core.policy import load_policy

    return load_policy({"name": "other", "record_floor": 0.2})


@pytest.mark.parametrize(
    "keep", [Retention(work=0), Retention(detections=0), Retention(images=0), Retention(images=0, published=True), ALL]
)
def test_the_record_verifies_afterwards_on_disk(tmp_path, keep):
    """Also with a run after it."""
    world = World(tmp_path)
    world.photos(2)
    run(world.request("r1"))
    audit = Place.parse(world.audit)
    expire_audit(audit, keep, now=in_days(1))
    run(world.request("r2"))
    result = verify_audit(VerifyRequest(audit, deep=True))
    assert result["verified"], result["findings"]


def test_leftovers_of_dead_writers_go_after_a_day(tmp_path):
    """A fresh one may belong to a writer that is alive."""
    world = World(tmp_path)
    world.photos(1)
    run(world.request("r1"))
    old, new = (world.audit / f".facefog-{name}.tmp" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 90_000,) * 2)
    assert expire_audit(Place.parse(world.audit), Retention())["temporary"] == 1
    assert (old.exists(), new.exists()) == (False, True)


def test_an_empty_audit_expires_to_nothing(tmp_path):
    """No traceback; but a place where nothing is was misspelt, and there nothing would ever expire."""
    assert expire_audit(Place.parse(tmp_path), ALL)["parts"] == 0
    with pytest.raises(ConfigurationError, match="no audit at that place"):
        expire_audit(Place.parse(tmp_path / "none"), ALL)


def test_negative_days_are_refused():
    """They would take what is yet to come."""
    with pytest.raises(ConfigurationError, match="0 or more"):
        Retention(images=-1)
