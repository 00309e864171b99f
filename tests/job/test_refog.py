"""A reported face: the picture is fogged again, the old output is gone everywhere, and everything else stays as it was."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
from erasekit import Lake
from jobkit import KEYS, attempt, picture, save
from refogkit import BOX, TEXT, detections, faults, image_id, output, refog, rows_of, shown, touched

from airflow_facefog.audit import regions
from airflow_facefog.audit.chain import read_entries
from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.audit.parquet import read_arrow
from airflow_facefog.audit.sealed import SigningKey
from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.core.errors import ConfigurationError, PermanentError
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy, load_policy
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.plan import make_plan
from airflow_facefog.job.record.amending import unfinished
from airflow_facefog.job.record.diff_policy import diff_policy
from airflow_facefog.job.record.expire import Retention, expire_audit
from airflow_facefog.job.record.refog import preview_refog, refog_image
from airflow_facefog.job.record.refog_run import covered
from airflow_facefog.publish.snapshots import open_dataset

KEY = SigningKey.generate()


@pytest.fixture
def lake(tmp_path):
    """Three photos; the detector finds the marker at the left, nobody at ``BOX``."""
    lake = Lake(tmp_path)
    lake.photos = lake.world.photos(3)
    return lake


LAYOUTS = ["named", "content"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_old_output_is_gone_everywhere_and_the_new_one_stays_fogged(lake, layout):
    """Replaced for consumers, withdrawn from older versions, its hash in no object; nightly runs keep the region."""
    lake.run("r1", layout=layout)
    photo, others = lake.photos[1], [output(lake, lake.photos[i]) for i in (0, 2)]
    old = output(lake, photo)
    result = refog(lake, photo, actor="dpo", note="ticket 4")
    (change,) = result["datasets"]
    assert (result["rows_removed"], result["objects_removed"], result["regions"]) == (1, 1, 1)
    delta = [name for name in lake.state() if name.endswith(change["delta_uri"].rpartition("/")[2])]
    assert delta
    assert touched(lake, photo) > 8
    assert old not in (output(lake, photo), None)
    assert lake.holding(old) == []
    assert rows_of(lake, photo, 1) == []
    assert not faults(lake)
    assert not unfinished(lake.store(lake.audit))
    lake.run("night", layout=layout)
    lake.run("other", layout=layout, policy=FogPolicy(record_floor=0.2))
    assert touched(lake, photo) > 8
    assert [output(lake, lake.photos[i]) for i in (0, 2)] == others
    assert lake.holding(old) == []
    assert not faults(lake)


def test_the_amendment_says_it_and_spares_other_rows(lake):
    """Signed, reason erasure, one image row of the old run; the rows of the other pictures are the same ones."""
    (ref,) = make_plan(lake.request("r1"), KEYS)
    run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)
    finalise(ref["plan"], attempt=attempt(), keys=KEYS, signer=KEY)
    audit = lake.store(lake.audit)
    run = open_ledger(audit).runs[0]
    before = read_arrow("facefog_image", audit.read(run.parts["image"].key)).to_pylist()
    with pytest.raises(ConfigurationError, match="signed"):
        refog(lake, lake.photos[1])
    refog(lake, lake.photos[1], signer=KEY, actor="dpo", note="ticket 4")
    (entry,) = [e.document for e in read_entries(audit) if e.kind == "amendment"]
    assert (entry["reason"], entry["actor"], entry["note"], entry["signed"]) == ("erasure", "dpo", "ticket 4", True)
    assert (entry["run_key"], entry["rows_removed"]["image"]) == (run.run_key, 1)
    run = open_ledger(audit).runs[0]
    left = read_arrow("facefog_image", audit.read(run.parts["image"].key)).to_pylist()
    assert left == [row for row in before if row["image_id"] != image_id(lake.photos[1])]
    assert not faults(lake)


def test_the_new_rows_say_who_saw_it(lake):
    """Source and detector are human, confidence 1, and the model's detection is there as before."""
    before = detections(lake, lake.run("r1"))
    refog(lake, lake.photos[1], f"{TEXT},Face", "8,80,40.5,112,licence_plate")
    run = open_ledger(lake.store(lake.audit)).runs[-1]
    rows = read_arrow("facefog_detection", lake.store(lake.audit).read(run.parts["detection"].key)).to_pylist()
    human = {(row["class_name"], row["detector"], row["confidence"]) for row in rows if row["source"] == "human"}
    assert human == {("Face", "human", 1.0), ("licence_plate", "human", 1.0)}
    (model,) = [row for row in rows if row["source"] == "model"]
    (old,) = [row for row in before if row["image_id"] == model["image_id"]]
    assert all(model[name] == old[name] for name in ("x1", "fx1", "fy2", "method", "confidence"))


def test_twice_with_different_boxes_both_stand(lake):
    """The second report takes the first one's output away; the same report again changes nothing."""
    lake.run("r1")
    photo, hashes = lake.photos[1], set()
    for box in (TEXT, "8,80,40,112"):
        hashes.add(output(lake, photo))
        refog(lake, photo, box)
    assert touched(lake, photo) > 8
    assert touched(lake, photo, (8, 80, 40, 112)) > 8
    assert not lake.holding(*hashes)
    state = lake.state()
    again = refog(lake, photo, "8,80,40,112")
    assert (again["rows_removed"], again["objects_removed"], again["regions"]) == (0, 0, 2)
    assert visible(lake.state()) == visible(state)
    assert not faults(lake)


def visible(state):
    """Objects of a state, and what snapshots and chain say."""
    return {name for name in state if "/data/" in name or "/chain/" in name or "/runs/" in name or "/regions/" in name}


def test_a_box_that_is_covered_already_changes_no_pixel_and_keeps_the_picture(lake):
    """The very same bytes come out: nothing is taken away, the report stands."""
    lake.run("r1")
    photo = lake.photos[1]
    old = output(lake, photo)
    result = refog(lake, photo, "48,40,56,48")
    assert output(lake, photo) == old, "the box lies in a region of the model and joins it"
    assert (result["rows_removed"], result["objects_removed"]) == (0, 0)
    assert len(rows_of(lake, photo)) == 1
    assert lake.store(lake.clean).exists(rows_of(lake, photo)[0]["uri"].partition("/clean/")[2])
    assert not faults(lake)
    lake.run("night")
    assert len(rows_of(lake, photo)) == 1
    assert not faults(lake)


def test_copies_of_the_file_and_other_datasets_are_fogged_too(lake):
    """The same bytes under two names, published twice under two policies: four rows, four new outputs."""
    copy = lake.world.raw / "copy.jpg"
    shutil.copy(lake.photos[1], copy)
    lake.run("r1")
    lake.run("r2", dataset="second", policy=FogPolicy(record_floor=0.2))
    result = refog(lake, image_id(lake.photos[1]))
    assert (len(result["datasets"]), result["rows_removed"]) == (2, 4)
    for photo in (lake.photos[1], copy):
        assert touched(lake, photo) > 8
        assert touched(lake, photo, dataset="second") > 8
    assert not faults(lake)


WRONG = {
    "outside": (["200,10,220,30"], "outside"), "at the edge": (["160,0,170,9"], "outside"),
    "nan": (["nan,1,5,9"], "is none"), "inf": (["1,1,inf,9"], "is none"), "inverted": (["9,9,5,5"], "is none"),
    "empty": (["5,5,5,9"], "is none"), "three": (["1,2,3"], "is none"), "text": (["a,b,c,d"], "is none"),
    "long class": ([f"1,1,9,9,{'x' * 99}"], "class"), "control class": (["1,1,9,9,a\x1bb"], "class"),
    "none": ([], "no box"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_box_is_refused_before_anything_is_written(lake, wrong):
    """No report, no journal, no run."""
    boxes, message = WRONG[wrong]
    lake.run("r1")
    before = lake.state()
    with pytest.raises(ConfigurationError, match=message):
        refog_image(lake.audit, str(lake.photos[1]), boxes, keys=KEYS)
    assert lake.state() == before


def test_a_box_over_the_edge_is_clipped(lake):
    """What is inside is fogged."""
    lake.run("r1")
    refog(lake, lake.photos[1], "150,100,900,900")
    folder = regions.folder(KEYS, image_id(lake.photos[1]))
    (name,) = lake.store(lake.audit).list(folder)
    assert json.loads(lake.store(lake.audit).read(name))["regions"] == [["face", 150.0, 100.0, 160.0, 120.0]]


@pytest.mark.parametrize("how", ["gone", "changed", "renamed"])
def test_without_its_raw_file_nothing_is_done(lake, how):
    """The reason is said, and nothing is written; a picture at the same place is not taken for it."""
    lake.run("r1")
    photo, asked = lake.photos[1], image_id(lake.photos[1])
    if how == "changed":
        save(photo, picture(77, markers=[(40, 30, 72, 70)]))
    else:
        photo.rename(photo.with_name("elsewhere.jpg"))
    before = lake.state()
    with pytest.raises(PermanentError, match="another picture" if how == "changed" else "cannot be found"):
        refog(lake, asked)
    if how == "changed":
        with pytest.raises(PermanentError, match="another picture"):
            refog(lake, photo)
    assert lake.state() == before


def test_the_raw_file_itself_will_do_when_its_name_has_expired(lake):
    """The file at the place where the run listed it."""
    lake.run("r1")
    expire_audit(lake.audit, Retention(sources=0, work=0))
    with pytest.raises(PermanentError, match="cannot be found"):
        refog(lake, image_id(lake.photos[1]))
    refog(lake, lake.photos[1])
    assert touched(lake, lake.photos[1]) > 8
    assert not faults(lake)


def test_less_fog_than_before_is_refused_before_it_is_published(lake):
    """A looser policy would show the marker; the old picture stays, and the report stands for later runs."""
    lake.run("r1")
    photo = lake.photos[1]
    old = output(lake, photo)
    loose = load_policy({"rules": {}, "other_classes": "ignore"})
    objects = {name for name in lake.state() if "/data/" in name}
    with pytest.raises(PermanentError, match="1 regions that are fogged now"):
        refog(lake, photo, policy=loose)
    assert {name for name in lake.state() if "/data/" in name} == objects
    assert output(lake, photo) == old
    refog(lake, photo)
    assert touched(lake, photo) > 8
    assert not lake.holding(old)


def test_expired_detections_are_no_excuse_for_less_fog(lake):
    """The same recipe fogs the same; another one cannot be compared."""
    lake.run("r1")
    expire_audit(lake.audit, Retention(detections=0))
    with pytest.raises(PermanentError, match="has expired"):
        refog(lake, lake.photos[1], policy=FogPolicy(record_floor=0.2))
    refog(lake, lake.photos[1])
    assert touched(lake, lake.photos[1]) > 8


def test_an_erasure_takes_the_report_too(lake):
    """Nothing stands for a picture that nobody may publish."""
    lake.run("r1")
    refog(lake, lake.photos[1])
    folder = regions.folder(KEYS, image_id(lake.photos[1]))
    assert lake.store(lake.audit).list(folder)
    lake.erase(lake.photos[1])
    assert not lake.store(lake.audit).list("regions")
    with pytest.raises(PermanentError, match="nothing found"):
        refog(lake, lake.photos[1])
    assert not faults(lake)


def test_keyless(lake):
    """Plain hashes; the same way."""
    from jobkit import run

    bare = KeyRing.from_master(None)
    run(lake.request("r1"), bare, workers=1)
    (old,) = [
        row["sha256"] for row in open_dataset(lake.store(lake.clean)).to_pylist() if row["path"] == "photo_001.jpg"
    ]
    result = refog(lake, lake.photos[1], keys=bare)
    assert (result["rows_removed"], result["objects_removed"]) == (1, 1)
    assert not lake.holding(old)
    run(lake.request("night"), bare, workers=1)
    assert not lake.holding(old)
    assert not faults(lake)


def test_sql_follows(lake, tmp_path):
    """The rows of the old run about the picture are gone, the new ones are there, and the erasure is recorded."""
    from jobkit import run

    sql = SqlSink(f"sqlite:///{tmp_path}/facefog.db")
    run(lake.request("r1"), workers=1, sql=sql)
    old = output(lake, lake.photos[1])
    refog(lake, lake.photos[1], sql=sql)
    with sql.engine.connect() as connection:
        ask = lambda text: connection.exec_driver_sql(text).fetchall()  # noqa: E731
        assert len(ask("select * from facefog_image")) == 3
        assert ask(f"select count(*) from facefog_intent where output_sha256 = '{old}'") == [(0,)]
        assert ask("select source, count(*) from facefog_detection group by 1 order by 1") == [
            ("human", 1),
            ("model", 3),
        ]
        assert ask("select distinct reason from facefog_erasure") == [("erasure",)]
    sql.close()
    assert not any(old.encode() in path.read_bytes() for path in tmp_path.glob("facefog.db*"))


def test_the_replay_knows_what_people_saw(lake):
    """A picture with a human region is undecided under another policy, never silently unchanged; its source is listed."""
    lake.run("r1")
    refog(lake, lake.photos[1])
    found = diff_policy(lake.audit, load_policy({"record_floor": 0.15}))
    (row,) = [row for row in found.images if row["image_id"] == image_id(lake.photos[1])]
    assert "human" in row["reason"]
    assert found.sources == (f"file://{lake.photos[1]}",)


def test_the_preview_changes_nothing(lake):
    """It names the raw file, the dataset and the object that goes."""
    lake.run("r1")
    before = lake.state()
    found = preview_refog(lake.audit, str(lake.photos[1]), [TEXT], keys=KEYS)
    assert found["raw_files"] == [f"file://{lake.photos[1]}"]
    assert found["objects"] == [rows_of(lake, lake.photos[1])[0]["uri"]]
    assert found["regions"] == [[*BOX, "face"]]
    assert lake.state() == before


def test_datasets_under_one_recipe_are_two_runs(lake):
    """Same destination, policy and files: each dataset is replaced."""
    lake.run("r1")
    lake.run("r2", dataset="second")
    assert len(refog(lake, lake.photos[1])["datasets"]) == 2
    assert touched(lake, lake.photos[1]) > 8
    assert touched(lake, lake.photos[1], dataset="second") > 8


def test_a_real_face_that_was_missed(lake, tmp_path):
    """A natural portrait, a detector that misses it: reported, no detector finds the face in what is published."""
    from skimage.data import astronaut

    from airflow_facefog.detectors import resolve

    script = tmp_path / "blind.json"
    script.write_text(json.dumps({"classes": ["face"], "images": {}, "default": []}))
    photo = save(lake.world.raw / "astronaut.jpg", astronaut()[:, :, ::-1])
    lake.run("r1", detector={"kind": "scripted", "path": str(script)})
    yunet = resolve("local")
    face = max(yunet.detect(shown(lake, photo), 0.5), key=lambda one: one.confidence)
    refog(lake, photo, ",".join(f"{value:.1f}" for value in face.xyxy))
    assert not yunet.detect(shown(lake, photo), 0.2)
    before = cv2.imread(str(photo))
    assert np.abs(before[300:, :].astype(int) - shown(lake, photo)[300:, :]).mean() < 3, "the rest is as it was"
    assert not faults(lake)


def test_boxes_are_pixels_of_the_upright_picture(lake):
    """A photo that its EXIF orientation turns: the box lies outside of the stored pixels, inside of the upright ones."""
    from PIL import Image

    photo = lake.world.raw / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(5, (160, 120))[:, :, ::-1].copy()).save(photo, quality=92, exif=exif)
    lake.run("r1")
    assert touched(lake, photo, (40, 124, 80, 156)) < 4
    refog(lake, photo, "40,124,80,156")
    assert touched(lake, photo, (40, 124, 80, 156)) > 8
    assert touched(lake, photo, (0, 0, 120, 60)) < 4


@pytest.mark.parametrize(
    ("region", "by", "is_covered"),
    [
        ((0, 0, 16, 16), [(0, 0, 16, 16)], True), ((0, 0, 16, 16), [(0, 0, 8, 16), (8, 0, 16, 16)], True),
        ((0, 0, 16, 16), [(0, 0, 8, 16)], False), ((0, 0, 13, 5), [(0, 0, 13, 5)], True), ((0, 0, 8, 8), [], False),
    ],
)  # fmt: skip
def test_covered(region, by, is_covered):
    """Block by block; several regions may share one."""
    assert covered(region, by) is is_covered
