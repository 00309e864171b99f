"""Erasure: nothing is left of the picture, everything is left of the others, and the record still verifies."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from erasekit import Lake, needles, readable
from jobkit import KEYS, World, attempt, picture, run, save

from airflow_facefog.audit.chain import read_entries
from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.audit.parquet import read_arrow
from airflow_facefog.audit.sealed import Signature, SigningKey, check
from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.core.errors import ConfigurationError, GateError, PermanentError
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.model import Place
from airflow_facefog.job.plan import make_plan
from airflow_facefog.job.record.amending import unfinished
from airflow_facefog.job.record.erase import EraseOptions, erase_images, find_images
from airflow_facefog.job.record.expire import Retention, expire_audit
from airflow_facefog.job.record.verify_audit import VerifyRequest, verify_audit
from airflow_facefog.job.record.whois import whois
from airflow_facefog.publish.snapshots import newest_seq, open_dataset, read_snapshot

KEY = SigningKey.generate()


@pytest.fixture
def lake(tmp_path):
    """No photos yet."""
    return Lake(tmp_path)


def verify(lake):
    """What a deep verification finds wrong in a lake."""
    return errors(lake.audit)


def errors(place):
    """What a deep verification finds wrong."""
    result = verify_audit(VerifyRequest(place, deep=True))
    return [found for found in result["findings"] if found["level"] == "error"]


def left_behind(lake, photo, *more):
    """Objects that still hold a trace, without the documented one: the erasure's own delta, which names the item."""
    return [name for name in lake.holding(*needles(photo), *more) if "/withdrawals/" not in name]


def shown(lake, version=None):
    """Paths of what a version shows."""
    return sorted(open_dataset(lake.store(lake.clean), version)["path"].to_pylist())


def photo_output(lake, photo):
    """Hash of a photo's published object."""
    rows = open_dataset(lake.store(lake.clean)).to_pylist()
    return next(row["sha256"] for row in rows if row["path"] == photo.name)


@pytest.mark.parametrize("asked", ["raw file", "published file", "image_id", "source_ref", "item_id", "output", "uri"])
def test_whatever_names_the_picture_finds_it(lake, asked, tmp_path):
    """A raw file, a published file, a URI and every kind of id lead to the same rows, and to their end."""
    photo = lake.world.photos(3)[1]
    lake.run("r1")
    output = photo_output(lake, photo)
    row = next(row for row in open_dataset(lake.store(lake.clean)).to_pylist() if row["sha256"] == output)
    published = tmp_path / "published.jpg"
    published.write_bytes(lake.store(lake.clean).read(row["uri"].partition("/clean/")[2]))
    image_id, ref, item_id, _ = needles(photo)
    names = {
        "raw file": photo, "published file": published, "image_id": image_id, "source_ref": ref, "item_id": item_id,
        "output": output, "uri": row["uri"],
    }  # fmt: skip
    result = lake.erase(names[asked])
    assert (result["images"], result["rows_removed"], result["objects_removed"]) == (1, 1, 1)
    assert not left_behind(lake, photo, output)
    assert shown(lake) == ["photo_000.jpg", "photo_002.jpg"]


def test_all_bytes_are_searched_after_an_erasure(lake, tmp_path):
    """Audit, destination and SQLite hold no id, name, hash or object of it; no version shows it; the rest is unchanged."""
    photo = lake.world.photos(3)[1]
    sql = SqlSink(f"sqlite:///{tmp_path}/facefog.db")
    run(lake.request("r1"), workers=1, sql=sql)
    lake.world.photos(1, start=7)
    run(lake.request("r2"), workers=1, sql=sql)
    output = photo_output(lake, photo)
    assert b"photo_001" in everything(tmp_path), "the search finds what is there"
    result = lake.erase(photo, sql=sql, actor="dpo", note="request 17")
    assert result["sql_rows_removed"] > 0
    sql.close()
    assert not left_behind(lake, photo, output)
    assert not any(needle.encode() in everything(tmp_path) for needle in [*needles(photo), output])
    assert not unfinished(lake.store(lake.audit))
    for version, count in ((1, 2), (2, 3), (3, 3)):
        assert len(shown(lake, version)) == count
    assert not verify(lake)


def everything(folder):
    """All bytes of the SQLite files."""
    return b"".join(path.read_bytes() for path in Path(folder).glob("facefog.db*"))


def test_sql_says_what_was_done_and_to_no_other_row(lake, tmp_path):
    """One row of facefog_erasure per part; rows of other pictures stay."""
    photo = lake.world.photos(3)[0]
    sql = SqlSink(f"sqlite:///{tmp_path}/facefog.db")
    run(lake.request("r1"), workers=1, sql=sql)
    lake.erase(photo, sql=sql, actor="dpo")
    with sql.engine.connect() as connection:
        counts = {
            name: connection.exec_driver_sql(f"select count(*) from facefog_{name}").scalar()
            for name in ("image", "detection", "intent", "source", "run")
        }
        rows = connection.exec_driver_sql(
            "select part, reason, rows_removed, actor, seq from facefog_erasure"
        ).fetchall()
    assert counts == {"image": 2, "detection": 2, "intent": 2, "source": 2, "run": 1}
    assert sorted(rows) == [
        (part, "erasure", removed, "dpo", 2)
        for part, removed in (("detection", 1), ("image", 1), ("intent", 1), ("leaf", 0))
    ]


def test_the_chain_says_it_signed_and_the_other_leaves_stand(lake):
    """Counts of the run stay; the amendment is signed; only the erased leaf lost its salt, none its hash."""
    photo = lake.world.photos(4)[2]
    run_signed(lake, "r1")
    store = lake.store(lake.audit)
    before = leaf_part(lake)
    lake.erase(photo, signer=KEY)
    entry = list(read_entries(store))[-1]
    assert check(entry.document, {KEY.key_id: KEY.public}) is Signature.VALID
    assert entry.document["rows_removed"] == {"image": 1, "detection": 1, "intent": 1}
    sealed = open_ledger(store).runs[0]
    assert sealed.row["listed"] == 4
    after = leaf_part(lake)
    assert after["leaf"].to_pylist() == before["leaf"].to_pylist()
    images = read_arrow("facefog_image", store.read(sealed.parts["image"].key))
    kept = set(images["leaf_idx"].to_pylist())
    assert images["image_id"].to_pylist() == sorted(images["image_id"].to_pylist()), "order is kept"
    assert [index for index, salt in enumerate(after["salt"].to_pylist()) if salt] == sorted(kept)
    assert not verify(lake)


def run_signed(lake, run_id):
    """A whole run, sealed with the test's key."""
    refs = make_plan(lake.request(run_id), KEYS)
    for ref in refs:
        run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)
    return finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS, signer=KEY)


def leaf_part(lake):
    """The leaf part of the first run, as it is now."""
    import io

    import pyarrow.parquet as pq

    store = lake.store(lake.audit)
    return pq.read_table(io.BytesIO(store.read(open_ledger(store).runs[0].parts["leaf"].key)))


def test_a_signed_audit_takes_no_unsigned_amendment(lake):
    """Before anything is changed."""
    photo = lake.world.photos(2)[0]
    run_signed(lake, "r1")
    before = lake.state()
    with pytest.raises(ConfigurationError, match="signing key"):
        lake.erase(photo)
    assert lake.state() == before


@pytest.mark.parametrize("layout", ["named", "content"])
def test_duplicates_go_together(lake, layout):
    """Equal bytes are one picture, whatever the files are called."""
    photo = lake.world.photos(3)[1]
    (photo.parent / "twin.jpg").write_bytes(photo.read_bytes())
    lake.run("r1", layout=layout)
    result = lake.erase(photo)
    assert result["rows_removed"] == 2
    assert result["objects_removed"] == (2 if layout == "named" else 1)
    assert not left_behind(lake, photo, "twin")
    assert open_dataset(lake.store(lake.clean)).num_rows == 2


def test_an_object_that_another_picture_shares_stays(lake):
    """Two files with other bytes and the same pixels share one object in the content layout; each has its own row."""
    first = save(lake.world.raw / "a.png", picture(1))
    data = first.read_bytes()
    (first.parent / "b.png").write_bytes(data[:33] + b"\0\0\0\x05tEXta\0xyz" + _crc(b"tEXta\0xyz") + data[33:])
    save(lake.world.raw / "c.png", picture(2))
    lake.run("r1", layout="content")
    assert len({row["uri"] for row in open_dataset(lake.store(lake.clean)).to_pylist()}) == 2, "they do share it"
    result = lake.erase(first)
    assert (result["rows_removed"], result["objects_removed"]) == (1, 0)
    store = lake.store(lake.clean)
    rows = open_dataset(store).to_pylist()
    assert len(rows) == 2
    with pytest.raises(PermanentError, match="nothing found"):
        lake.erase(KEYS.image_id(data))
    assert all(store.exists(row["uri"].partition("/clean/")[2]) for row in rows)


def _crc(data):
    import zlib

    return zlib.crc32(data).to_bytes(4, "big")


def test_another_picture_of_the_same_source_stays(lake):
    """A camera that overwrites its file: one picture goes, the newer one stays visible, and the older one never returns."""
    photo = lake.world.photos(2)[0]
    lake.run("r1")
    old = photo.read_bytes()
    save(photo, picture(77, markers=[(40, 30, 72, 70)]))
    lake.run("r2")
    image_id = KEYS.image_id(old)
    assert lake.erase(image_id)["datasets"][0]["withdrawn"] == 0
    assert len(shown(lake)) == 2
    assert len(shown(lake, 1)) == 1
    assert not lake.holding(image_id)
    newest = KEYS.image_id(photo.read_bytes())
    lake.erase(newest)
    assert shown(lake) == ["photo_001.jpg"]
    assert not left_behind(lake, photo)


def test_the_erased_picture_does_not_come_back(lake):
    """The same file again is refused without a trace of its bytes, does not trip the gate, and never counts as a bad run."""
    photo = lake.world.photos(2)[0]
    lake.run("r1")
    lake.erase(photo)
    result = lake.run("r2")
    assert (result["counts"]["quarantined"], result["counts"]["skipped"]) == (1, 1)
    assert not lake.holding(KEYS.image_id(photo.read_bytes()))
    assert shown(lake) == ["photo_001.jpg"]
    again = lake.erase(photo)
    assert (again["rows_removed"], again["tombstones"]) == (1, 0)
    assert not left_behind(lake, photo)
    assert not verify(lake)


def test_only_erased_pictures_left_is_no_failed_run(lake):
    """A folder whose every picture was erased: the run finishes and shows nothing."""
    photo = lake.world.photos(1)[0]
    lake.run("r1")
    lake.erase(photo)
    assert lake.run("r2")["counts"]["quarantined"] == 1
    assert shown(lake) == []


def test_raw_deletes_the_source_only_while_it_holds_the_picture(lake):
    """A file that was overwritten since is another picture."""
    first, second, _ = lake.world.photos(3)
    lake.run("r1")
    ids = [KEYS.image_id(path.read_bytes()) for path in (first, second)]
    save(second, picture(50))
    assert lake.erase(*ids, raw=True)["raw_removed"] == 1
    assert not first.exists()
    assert second.exists()


def test_nothing_found_changes_nothing(lake):
    """An unknown id, an unknown file, and text that no database or store should ever run."""
    lake.world.photos(2)
    lake.run("r1")
    before = lake.state()
    for asked in ("0" * 64, "/nowhere/x.jpg", "' or 1=1; drop table facefog_image; --", "../../x", "*"):
        with pytest.raises(PermanentError, match="nothing found"):
            lake.erase(asked)
        assert not find_images(lake.audit, [asked], keys=KEYS)["found"]
    assert lake.state() == before


@pytest.mark.parametrize("request_id", ["x", "../../../../etc", "A" * 32, "0" * 33])
def test_a_request_id_is_32_hex_digits(request_id):
    """It becomes part of keys."""
    with pytest.raises(ConfigurationError, match="32"):
        EraseOptions(request_id=request_id)


def test_another_key_is_named_and_nothing_is_half_erased(lake):
    """By id the rows are found, by another key their items cannot be named: refused, with the right key's id."""
    photo = lake.world.photos(2)[0]
    lake.run("r1")
    other = KeyRing.from_master(bytes(32))
    before = lake.state()
    with pytest.raises(ConfigurationError, match=KEYS.key_id):
        lake.erase(KEYS.image_id(photo.read_bytes()), keys=other)
    with pytest.raises(PermanentError, match=KEYS.key_id):
        lake.erase(photo, keys=other)
    assert lake.state() == before


def test_a_keyless_audit_works_by_plain_hashes(lake):
    """Ids are sha256; the tombstone is another hash."""
    photo = lake.world.photos(2)[0]
    none = KeyRing.from_master(None)
    run(lake.request("r1"), keys=none, workers=1)
    digest = hashlib.sha256(photo.read_bytes()).hexdigest()
    assert whois(lake.audit, digest, keys=none).rows
    lake.erase(photo, keys=none)
    assert not lake.holding(digest)
    assert whois(lake.audit, str(photo), keys=none).erased


def test_a_destination_that_moved_is_refused_first(lake):
    """What cannot be reached cannot be erased there; a person may say that it is gone."""
    photo = lake.world.photos(2)[0]
    lake.run("r1")
    state = lake.state()
    lake.restore({name: data for name, data in state.items() if "/clean/" not in name})
    with pytest.raises(ConfigurationError, match="without-destination"):
        lake.erase(photo)
    assert lake.erase(photo, without_destination=True)["rows_removed"] == 1


def test_a_run_that_is_not_sealed_still_adds_up(lake):
    """One batch committed, one not: the picture goes out of both, and the run is finished without it."""
    photos = lake.world.photos(4)
    refs = make_plan(lake.request("r1", batch_images=2), KEYS)
    run_batch(refs[0]["plan"], refs[0]["batch"], attempt=attempt(), keys=KEYS, workers=1)
    result = lake.erase(photos[1], photos[3])
    assert result["unfinished_runs"]
    assert result["objects_removed"] == 1
    assert not left_behind(lake, photos[1])
    run_batch(refs[1]["plan"], refs[1]["batch"], attempt=attempt(), keys=KEYS, workers=1)
    counts = finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)["counts"]
    assert (counts["published"], counts["quarantined"]) == (2, 2)
    assert shown(lake) == ["photo_000.jpg", "photo_002.jpg"]
    assert not lake.holding(*(KEYS.image_id(photo.read_bytes()) for photo in photos[1::2]))
    assert not verify(lake)


def test_a_batch_that_committed_after_the_tombstone_is_filtered_at_the_seal(lake, monkeypatch):
    """An attempt that read the tombstones before: its rows are blanked when the run is finalised, and erased again later."""
    photo = lake.world.photos(3)[0]
    lake.run("r0")
    refs = make_plan(lake.request("r1", retry_quarantined=True, policy=policy_of(2)), KEYS)
    with monkeypatch.context() as patch:
        patch.setattr("airflow_facefog.audit.tombstones.read_tombstones", lambda audit: frozenset())
        lake.erase(photo)
        for ref in refs:
            run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)
    assert lake.holding(KEYS.image_id(photo.read_bytes()))
    finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)
    assert "photo_000.jpg" not in shown(lake)
    lake.erase(photo)
    assert not left_behind(lake, photo)
    assert not verify(lake)


def policy_of(number):
    """A policy with another recipe, so that everything is processed again."""
    from airflow_facefog.core.policy import load_policy

    return load_policy({"name": f"p{number}", "record_floor": 0.1 * number})


def test_a_run_sealed_at_the_moment_of_the_erasure_is_not_published(lake, monkeypatch):
    """The seal held the picture: finalise refuses to show it, a second erasure completes the first, then it goes on."""
    from airflow_facefog.job import erased

    photo = lake.world.photos(3)[0]
    refs = make_plan(lake.request("r1"), KEYS)
    run_batch(refs[0]["plan"], refs[0]["batch"], attempt=attempt(), keys=KEYS, workers=1)
    real, looks = erased.Erasures.among, []

    def among(self, images):
        looks.append(1)
        if len(looks) == 2:
            from airflow_facefog.audit.tombstones import raise_tombstones

            store = lake.store(lake.audit)
            raise_tombstones(store, KEYS, [KEYS.image_id(photo.read_bytes())], "0" * 32)
            return real(erased.Erasures(store, KEYS), images)
        return real(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(erased.Erasures, "among", among)
        with pytest.raises(GateError, match="erased while"):
            finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)
    assert newest_seq(lake.store(lake.clean)) is None
    lake.erase(photo)
    finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)
    assert shown(lake) == ["photo_001.jpg", "photo_002.jpg"]
    assert not left_behind(lake, photo)


@pytest.mark.parametrize("moment", ["before its part", "before its number"])
def test_a_run_that_publishes_meanwhile_does_not_bring_it_back(lake, monkeypatch, moment):
    """A finaliser holds the kept row in memory while the erasure goes by: it reads the note before it takes a number."""
    from airflow_facefog.publish import snapshots

    photo = lake.world.photos(3)[1]
    lake.run("r1")
    lake.world.photos(1, start=8)
    refs = make_plan(lake.request("r2"), KEYS)
    run_batch(refs[0]["plan"], refs[0]["batch"], attempt=attempt(), keys=KEYS, workers=1)
    name = {"before its part": "_write_part", "before its number": "_find_committed"}[moment]
    real, done = getattr(snapshots, name), []

    def late(*args, **kwargs):
        if not done:
            done.append(lake.erase(photo))
        return real(*args, **kwargs)

    monkeypatch.setattr(snapshots, name, late)
    finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)
    assert shown(lake) == ["photo_000.jpg", "photo_002.jpg", "photo_008.jpg"]
    lake.erase(photo) if left_behind(lake, photo) else None
    assert not left_behind(lake, photo)
    assert not verify(lake)


def test_two_erasures_of_one_run_keep_both(lake, monkeypatch):
    """The second one read the ledger before the first one's amendment: it is overtaken and starts from the new parts."""
    from airflow_facefog.audit import amendments

    first, second, _ = lake.world.photos(3)
    lake.run("r1")
    real, done = amendments._chain, []

    def late(*args, **kwargs):
        if not done:
            done.append(1)
            lake.erase(second)
        return real(*args, **kwargs)

    monkeypatch.setattr(amendments, "_chain", late)
    lake.erase(first)
    assert not left_behind(lake, first)
    assert not left_behind(lake, second)
    assert not verify(lake)


def test_finalising_an_erased_run_again_moves_nothing(lake):
    """The sealed run is read through the ledger."""
    photo = lake.world.photos(3)[0]
    refs = make_plan(lake.request("r1"), KEYS)
    run_batch(refs[0]["plan"], refs[0]["batch"], attempt=attempt(), keys=KEYS, workers=1)
    finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)
    lake.erase(photo)
    before = lake.state()
    again = finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)
    assert again["counts"]["published"] == 3, "the counts were true"
    assert lake.state() == before


def test_consumers_get_a_delta_that_withdraws_by_item_only(lake):
    """The item, and neither where it lay nor what it was called."""
    import io

    import pyarrow.parquet as pq

    photo = lake.world.photos(2)[0]
    lake.run("r1")
    result = lake.erase(photo)["datasets"][0]
    store = lake.store(lake.clean)
    snapshot = read_snapshot(store, "default", result["snapshot_seq"])
    (row,) = pq.read_table(io.BytesIO(store.read(snapshot.delta["key"]))).to_pylist()
    assert (row["item_id"], row["change"]) == (needles(photo)[2], "withdrawn")
    assert not any(row[name] for name in ("key", "uri", "path", "sha256"))


def test_every_dataset_that_shows_it_lets_it_go(lake):
    """Two datasets in one destination."""
    photo = lake.world.photos(2)[0]
    lake.run("r1")
    lake.run("r2", dataset="second")
    result = lake.erase(photo)
    assert sorted(done["dataset"] for done in result["datasets"]) == ["default", "second"]
    assert open_dataset(lake.store(lake.clean), dataset="second").num_rows == 1
    assert not left_behind(lake, photo)


def test_caches_refusals_and_stored_predictions_forget_it(lake):
    """What no run owns: made by hand here, as detectors that cost money and broken files leave it."""
    photo = lake.world.photos(2)[0]
    image_id, ref, _, _ = needles(photo)
    lake.run("r1")
    store = lake.store(lake.audit)
    home = open_ledger(store).runs[0].home
    store.create(f"predictions/cache/{'0' * 32}/{image_id[:2]}/{image_id}", image_id.encode())
    store.create(f"refusals/{'1' * 64}/{home.replace('/', '-')}", f"{'a' * 64}\n{image_id}".encode())
    store.create(f"predictions/{home}/b/a.jsonl", f"{ref} {image_id}\n{'c' * 64} x".encode())
    lake.erase(photo)
    assert not left_behind(lake, photo)
    assert "a" * 64 in readable("", store.read(f"refusals/{'1' * 64}/{home.replace('/', '-')}"))
    assert "c" * 64 in readable("", store.read(f"predictions/{home}/b/a.jsonl"))


def test_who_got_the_raw_picture_is_told_before_the_row_goes(lake):
    """The person who erases must ask there too."""
    from airflow_facefog.audit.parquet import to_parquet

    photo = lake.world.photos(2)[0]
    lake.run("r1")
    store = lake.store(lake.audit)
    run_key, _, generation = open_ledger(store).runs[0].home.partition("/")
    image_id, ref, _, _ = needles(photo)
    row = {
        "run_key": run_key, "generation": int(generation), "source_ref": ref, "attempt_id": "a", "egress_idx": 0,
        "image_id": image_id, "kind": "upload", "host": "api.example.org", "project": None, "bytes": 9, "sent_at": "x",
    }  # fmt: skip
    store.create(f"egress/{run_key}/a/0.parquet", to_parquet("facefog_egress", [row]))
    assert lake.erase(photo)["recipients"] == ["api.example.org"]
    assert not left_behind(lake, photo)


def test_a_dry_run_prints_the_trace_and_changes_nothing(lake):
    """Rows, objects, files and raw files."""
    photo = lake.world.photos(2)[0]
    lake.run("r1")
    before = lake.state()
    found = find_images(lake.audit, [str(photo)], keys=KEYS)
    assert lake.state() == before
    assert {row["status"] for row in found["rows"]} == {"published", "intent"}
    assert len(found["objects"]) == 1
    assert found["raw_files"] == [Place.parse(photo).uri]
    json.dumps(found)


def test_the_local_store_and_a_local_world_work_too(tmp_path):
    """Files, fsync and links instead of memory."""
    world = World(tmp_path)
    photo = world.photos(2)[0]
    run(world.request("r1"))
    place = Place.parse(world.audit)
    erase_images(place, [str(photo)], keys=KEYS)
    found = [path for path in tmp_path.rglob("*") if "raw" not in path.parts and photo.stem in str(path)]
    assert not found
    assert not errors(place)


@pytest.mark.parametrize("asked", ["path", "item_id"])
def test_what_is_shown_can_be_erased_after_its_rows_expired(lake, asked):
    """The audit holds no row any more; the dataset still names the item."""
    photo = lake.world.photos(2)[0]
    lake.run("r1")
    expire_audit(lake.audit, Retention(sources=0, work=0, images=0, published=True))
    result = lake.erase({"path": photo, "item_id": needles(photo)[2]}[asked])
    assert (result["rows_removed"], result["objects_removed"]) == (0, 1)
    assert shown(lake) == ["photo_001.jpg"]
    assert not left_behind(lake, photo)
    with pytest.raises(PermanentError, match="nothing found"):
        lake.erase("f" * 64)
