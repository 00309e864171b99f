"""What consumers see: every snapshot is a correct merge, whoever finishes when, and nothing is ever taken back."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from upath import UPath

from airflow_facefog.audit.parquet import to_arrow
from airflow_facefog.core.errors import ConfigurationError, PlanMismatchError, StoreError
from airflow_facefog.core.records import ImageRecord
from airflow_facefog.publish import snapshots
from airflow_facefog.publish.dataset import fix_dataset, home
from airflow_facefog.publish.items import items_of
from airflow_facefog.publish.layout import output_key, source_path
from airflow_facefog.publish.parts import CONSUMER_COLUMNS, PublishedItem, decode, encode, make_part
from airflow_facefog.publish.snapshots import RunManifestRef, commit_snapshot, newest_seq, open_dataset, read_snapshot
from airflow_facefog.publish.store import Store

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
ITEMS = "abcd"


def fresh() -> Store:
    """An empty destination in memory."""
    return Store(UPath(f"memory://{uuid.uuid4().hex}/out"))


def ref(name: str, when: int, listing: str = "L") -> RunManifestRef:
    """A run that listed the source at minute ``when``."""
    return RunManifestRef(name, 0, (EPOCH + timedelta(minutes=when)).isoformat(), "recipe", listing)


def item(item_id: str, content: str) -> PublishedItem:
    """A published object whose bytes are named by ``content``."""
    sha = hashlib.sha256(content.encode()).hexdigest()
    return PublishedItem(
        item_id, output_key("named", f"{item_id}.png", sha, "png"), sha, 7, "png", 4, 3, f"{item_id}.png"
    )


def commit(dest: Store, name: str, when: int, published=(), withdrawn=(), **more):
    """Finalise one run."""
    return commit_snapshot(
        dest,
        dataset="default",
        run=ref(name, when),
        published=[item(i, c) for i, c in published],
        withdrawn=list(withdrawn),
        **more,
    )


def shown(dest: Store, version: int | None = None) -> dict[str, str]:
    """item_id → sha256 that consumers see."""
    table = open_dataset(dest, version)
    return dict(zip(table["item_id"].to_pylist(), table["sha256"].to_pylist(), strict=True))


def sha(content: str) -> str:
    """Hash of an object's bytes."""
    return hashlib.sha256(content.encode()).hexdigest()


def test_a_day_in_the_life():
    """Publish, replace, withdraw, skip: each run's delta and the rows that consumers see."""
    dest = fresh()
    first = commit(dest, "r1", 1, [("a", "1"), ("b", "1")])
    assert (first.seq, first.changed, first.counts) == (1, True, {"added": 2, "replaced": 0, "withdrawn": 0})
    second = commit(dest, "r2", 2, [("a", "2"), ("c", "2")], ["b"])
    assert (second.seq, second.counts) == (2, {"added": 1, "replaced": 1, "withdrawn": 1})
    assert shown(dest) == {"a": sha("2"), "c": sha("2")}
    assert shown(dest, 1) == {"a": sha("1"), "b": sha("1")}
    delta = decode(dest.read(second.delta_uri.removeprefix(dest.uri() + "/")))
    assert dict(zip(delta["item_id"].to_pylist(), delta["change"].to_pylist(), strict=True)) == {
        "a": "replaced", "b": "withdrawn", "c": "added",
    }  # fmt: skip


def test_consumers_get_no_id_of_raw_bytes():
    """The columns of a dataset, and of every file below _facefog, name outputs only."""
    dest = fresh()
    commit(dest, "r1", 1, [("a", "1")], ["z"])
    table = open_dataset(dest)
    assert table.column_names == list(CONSUMER_COLUMNS)
    (row,) = table.to_pylist()
    assert row == {
        "item_id": "a", "uri": dest.uri(item("a", "1").key), "sha256": sha("1"), "size": 7, "format": "png", "width": 4,
        "height": 3, "path": "a.png", "recipe_hash": "recipe", "run_key": "r1", "generation": 0,
    }  # fmt: skip
    for key in dest.list("_facefog"):
        assert b"image_id" not in dest.read(key)
        assert b"source_ref" not in dest.read(key)


def test_an_empty_delta_makes_no_snapshot():
    """A run that skipped everything, or published the same again, moves nothing but still leaves its delta."""
    dest = fresh()
    nothing = commit(dest, "r0", 0)
    assert (nothing.seq, nothing.changed, newest_seq(dest)) == (None, False, None)
    commit(dest, "r1", 1, [("a", "1")])
    for name, rows, gone in (("r2", (), ()), ("r3", [("a", "1")], ()), ("r4", (), ["never-seen"])):
        result = commit(dest, name, 5, rows, gone)
        assert (result.seq, result.changed, newest_seq(dest)) == (1, False, 1)
        assert decode(dest.read(result.delta_uri.removeprefix(dest.uri() + "/"))).num_rows == 0


def test_an_older_listing_that_finishes_late_replaces_nothing_newer():
    """Listing time decides, not finishing time; what only the old listing saw still comes in."""
    dest = fresh()
    commit(dest, "new", 9, [("a", "new")], ["b"])
    commit(dest, "seed", 1, [("b", "seed"), ("a", "seed")])
    late = commit(dest, "late", 5, [("a", "old"), ("b", "old"), ("c", "old")])
    assert late.counts == {"added": 1, "replaced": 0, "withdrawn": 0}
    assert shown(dest) == {"a": sha("new"), "c": sha("old")}


def test_listing_times_are_compared_as_instants():
    """An offset or missing microseconds in listed_at change no order; a time without zone is refused."""
    assert RunManifestRef("r", 0, "2026-01-01T01:00:00+01:00", "").listed_at == "2026-01-01T00:00:00.000000+00:00"
    with pytest.raises(ValueError, match="time zone"):
        RunManifestRef("r", 0, "2026-01-01T00:00:00", "")


def test_committing_again_moves_nothing():
    """The same run generation always gets the same answer, also after others moved on."""
    dest = fresh()
    first = commit(dest, "r1", 1, [("a", "1")])
    commit(dest, "r2", 2, [("a", "2")])
    before = {key: dest.read(key) for key in dest.list()}
    assert commit(dest, "r1", 1, [("a", "1")]) == first
    assert {key: dest.read(key) for key in dest.list()} == before


def test_mirror_withdraws_what_is_gone_from_the_same_listing():
    """What an earlier run of this source pattern published and this one did not list goes; other sources stay."""
    dest = fresh()
    commit(dest, "r1", 1, [("a", "1"), ("b", "1"), ("c", "1")])
    commit_snapshot(dest, dataset="default", run=ref("other", 2, "M"), published=[item("m", "1")], withdrawn=[])
    kept = commit(dest, "r3", 3, [("d", "1")], listed=["a", "d"])
    assert kept.counts["withdrawn"] == 0
    result = commit(dest, "r4", 4, [], ["c"], mirror=True, listed=["a", "c"])
    assert result.counts == {"added": 0, "replaced": 0, "withdrawn": 3}
    assert set(shown(dest)) == {"a", "m"}


def test_mirror_withdraws_what_another_pattern_saw_since():
    """An overlapping source pattern that skips or publishes an item does not take it from the mirror of the first one."""
    dest = fresh()
    commit(dest, "r1", 1, [("a", "1"), ("b", "1"), ("c", "1")])
    other = ref("other", 2, "M")
    commit_snapshot(
        dest, dataset="default", run=other, published=[item("b", "2"), item("m", "1")], withdrawn=[], base=1,
        skipped=["a", "c"],
    )  # fmt: skip
    assert {part.run_key for part in read_snapshot(dest, "default", 2).parts} == {"r1", "other"}
    result = commit(dest, "r3", 3, skipped=["c"], base=2, mirror=True, listed=["c"])
    assert result.counts == {"added": 0, "replaced": 0, "withdrawn": 2}
    assert set(shown(dest)) == {"c", "m"}


def changes(dest: Store, result) -> dict[str, tuple[str, str]]:
    """A delta: item_id → (change, the run that made the row)."""
    delta = decode(dest.read(result.delta_uri.removeprefix(dest.uri() + "/")))
    return {row["item_id"]: (row["change"], row["run_key"]) for row in delta.to_pylist()}


@pytest.mark.parametrize("also", [[("b", "0")], []], ids=["with a new image", "all skipped"])
def test_what_a_newer_listing_skipped_an_older_one_does_not_replace(also):
    """r0 shows a; r1 lists a changed; r2 lists it as r0 did and skips it; r1 finishes last: r0's row stays."""
    dest = fresh()
    commit(dest, "r0", 0, [("a", "v0")])
    newer = commit(dest, "r2", 2, also, skipped=["a"], base=1)
    assert (newer.changed, changes(dest, newer)) == (bool(also), {i: ("added", "r2") for i, _ in also})
    late = commit(dest, "r1", 1, [("a", "v1"), ("c", "v1")])
    assert (late.counts, changes(dest, late)) == ({"added": 1, "replaced": 0, "withdrawn": 0}, {"c": ("added", "r1")})
    assert shown(dest) == {"a": sha("v0"), "c": sha("v1"), **{i: sha(c) for i, c in also}}


@pytest.mark.parametrize(("older", "change"), [([("a", "v1")], "replaced"), ([], "added")])
def test_what_was_kept_comes_back(older, change):
    """An older listing that finished first replaced or withdrew a; the newer one, which skipped a, brings r0's row back."""
    dest = fresh()
    commit(dest, "r0", 0, [("a", "v0")])
    commit(dest, "r1", 1, older, [] if older else ["a"])
    result = commit(dest, "r2", 2, skipped=["a"], base=1)
    assert changes(dest, result) == {"a": (change, "r0")}
    (row,) = open_dataset(dest).to_pylist()
    assert (row["sha256"], row["run_key"], row["recipe_hash"]) == (sha("v0"), "r0", "recipe")
    (part,) = read_snapshot(dest, "default", result.seq).parts
    assert (part.run_key, part.kept_from) == ("r2", (("r0", 0),))


def test_an_empty_delta_is_noted_for_older_listings_only():
    """Published the same again and refused again: noted once, consulted by what listed earlier, not by what listed later."""
    dest = fresh()
    commit(dest, "r0", 0, [("a", "v0")])
    for _ in range(2):
        assert not commit(dest, "r5", 5, [("a", "v0")], ["gone"]).changed
    assert len(dest.list("_facefog/unmerged")) == 1
    commit(dest, "r3", 3, [("a", "v3"), ("gone", "v3"), ("own", "v3")])
    assert shown(dest) == {"a": sha("v0"), "own": sha("v3")}
    commit(dest, "r6", 6, [("a", "v6"), ("gone", "v6")])
    assert shown(dest) == {"a": sha("v6"), "gone": sha("v6"), "own": sha("v3")}
    (note,) = dest.list("_facefog/unmerged")
    dest.replace(note, b"{")
    commit(dest, "r7", 7, [("a", "v7")])
    with pytest.raises(ConfigurationError, match="note"):
        commit(dest, "r4", 4, [("a", "v4")])


def test_an_item_that_the_base_does_not_show_cannot_be_skipped():
    """Nothing would stand for it: the run does not add up, and nothing moves."""
    dest = fresh()
    commit(dest, "r0", 0, [("a", "v0")])
    commit(dest, "r1", 1, [], ["a"])
    for base in (None, 2):
        with pytest.raises(ConfigurationError, match="skipped"):
            commit(dest, "r2", 2, [("b", "v2")], skipped=["a"], base=base)
    assert newest_seq(dest) == 2


def test_kept_rows_let_old_parts_drop_out():
    """Daily runs over a folder that grows: the newest part holds all, and every row names the run that made it."""
    dest = fresh()
    for n in range(5):
        commit(dest, f"r{n}", n, [(f"i{n}", "1")], skipped=[f"i{k}" for k in range(n)], base=n or None)
    (part,) = read_snapshot(dest, "default", 5).parts
    assert (part.run_key, part.rows, part.kept_from) == ("r4", 5, tuple((f"r{n}", 0) for n in range(4)))
    table = open_dataset(dest)
    assert dict(zip(table["item_id"].to_pylist(), table["run_key"].to_pylist(), strict=True)) == {
        f"i{n}": f"r{n}" for n in range(5)
    }


def test_mirror_needs_to_know_the_listing():
    """Without a listing_id a mirror could withdraw another source's items: refused."""
    with pytest.raises(ValueError, match="listing_id"):
        commit_snapshot(fresh(), dataset="default", run=ref("r", 1, ""), published=[], withdrawn=[], mirror=True)


def test_an_item_twice_in_a_run_is_refused():
    """Two rows for one item mean that the run does not add up."""
    with pytest.raises(ConfigurationError, match="twice"):
        commit(fresh(), "r", 1, [("a", "1")], ["a"])


@pytest.mark.parametrize("damage", ["part", "snapshot", "missing"])
def test_damage_is_noticed(damage):
    """A changed or missing part or snapshot is an error for readers and writers, never a smaller dataset."""
    dest = fresh()
    commit(dest, "r1", 1, [("a", "1"), ("b", "1")])
    key = "_facefog/snapshots/0000000001.json" if damage == "snapshot" else "_facefog/runs/r1/0/part.parquet"
    if damage == "missing":
        dest.delete(key)
    else:
        dest.replace(key, dest.read(key)[:-9] + b"123456789")
    with pytest.raises(ConfigurationError):
        open_dataset(dest)
    with pytest.raises(ConfigurationError):
        commit(dest, "r2", 2, [("c", "1")])


def test_no_snapshot_yet():
    """Reading too early, or a number that does not exist, says so."""
    dest = fresh()
    with pytest.raises(ConfigurationError, match="no snapshot"):
        open_dataset(dest)
    commit(dest, "r1", 1, [("a", "1")])
    with pytest.raises(ConfigurationError, match="snapshot 7"):
        open_dataset(dest, 7)


@pytest.mark.parametrize("cache", [None, b"{}", b"not json", b'{"seq": 1}', b'{"seq": 99}', b'{"seq": -4}', b"[]"])
def test_latest_is_only_a_cache(cache):
    """Missing, damaged, stale or wrong: the newest snapshot is found all the same."""
    dest = fresh()
    for n in range(1, 4):
        commit(dest, f"r{n}", n, [("a", str(n))])
    dest.delete("_facefog/latest.json")
    if cache is not None:
        dest.replace("_facefog/latest.json", cache)
    assert newest_seq(dest) == 3
    assert shown(dest) == {"a": sha("3")}


def test_shadowed_parts_are_dropped_and_old_versions_stay_readable():
    """A snapshot lists only parts that decide something, so daily replacement does not make it grow."""
    dest = fresh()
    for n in range(1, 6):
        commit(dest, f"r{n}", n, [("a", str(n))])
    assert [part.run_key for part in read_snapshot(dest, "default", 5).parts] == ["r5"]
    assert [shown(dest, n) for n in range(1, 6)] == [{"a": sha(str(n))} for n in range(1, 6)]


def test_a_moved_destination_still_opens(tmp_path):
    """URIs follow the place that was opened: a mounted or copied destination needs no rewriting."""
    store = Store(UPath(tmp_path / "one"))
    store.create(item("a", "1").key, b"1")
    commit(store, "r1", 1, [("a", "1")])
    (tmp_path / "one").rename(tmp_path / "two words")
    (uri,) = open_dataset(str(tmp_path / "two words"))["uri"].to_pylist()
    assert UPath(uri).read_bytes() == b"1"


def test_datasets_are_apart():
    """Another dataset= in the same destination has its own snapshots; odd names are refused."""
    dest = fresh()
    commit(dest, "r1", 1, [("a", "1")])
    commit_snapshot(dest, dataset="backfill", run=ref("r2", 2), published=[item("b", "1")], withdrawn=[])
    assert set(shown(dest)) == {"a"}
    assert open_dataset(dest, dataset="backfill")["item_id"].to_pylist() == ["b"]
    for name in ("", "../x", "a/b", ".x", "x" * 65):
        with pytest.raises(ConfigurationError):
            home(name)


def test_dataset_json_fixes_the_terms():
    """The first run fixes audit, layout, id scheme and key; a later run that differs is refused by name."""
    dest = fresh()
    terms = {
        "dataset": "default",
        "audit_uri": "s3://a/audit/",
        "layout": "named",
        "id_scheme": "hmac-sha256",
        "key_id": "k1",
    }
    fix_dataset(dest, **terms)
    fix_dataset(dest, **{**terms, "audit_uri": "s3://a/audit"})
    for name, says in (("audit_uri", "audit"), ("layout", "layout"), ("id_scheme", "id_scheme"), ("key_id", "key_id")):
        with pytest.raises(PlanMismatchError, match=says):
            fix_dataset(dest, **{**terms, name: "other"})
    assert json.loads(dest.read("_facefog/dataset.json"))["audit"] == "s3://a/audit"
    dest.replace("_facefog/dataset.json", b"\xff")
    with pytest.raises(PlanMismatchError, match="not readable"):
        fix_dataset(dest, **terms)


def audit_images(dest: Store, layout: str, ends: list[tuple[str, str]]):
    """Rows of ``facefog_image``: (status, relative name) → a table."""
    rows = []
    for number, (status, name) in enumerate(ends):
        key = output_key(layout, name, sha(name), "jpg", full=number % 2 == 1)
        output = (dest.uri(key), sha(name), 5, 8, 9) if status == "published" else (None,) * 5
        names = ("output_uri", "output_sha256", "output_bytes", "width", "height")
        rows.append({"status": status, **dict(zip(names, output, strict=True))})
    base = ImageRecord("r", 0, "", "", "b", "a")
    return to_arrow("facefog_image", [{**asdict(base), "source_ref": f"s{n}", **row} for n, row in enumerate(rows)])


def test_rows_of_the_audit_become_rows_for_consumers():
    """Published rows become items, quarantined and failed ones withdrawals; skipped ones stay apart."""
    dest = fresh()
    ends = [("published", "in/Ä.bmp"), ("quarantined", "a"), ("failed", "b"), ("skipped", "c")]
    images = audit_images(dest, "named", ends)
    published, withdrawn, skipped = items_of(images, pa.array(["i1", "i2", "i3", "i4"]), dest)
    key = output_key("named", "in/Ä.bmp", sha("in/Ä.bmp"), "jpg")
    assert published.to_pylist() == [asdict(PublishedItem("i1", key, sha("in/Ä.bmp"), 5, "jpeg", 8, 9, "in/Ä.bmp"))]
    assert (withdrawn.to_pylist(), skipped.to_pylist()) == (["i2", "i3"], ["i4"])


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30) | st.sampled_from(
    [
        "a.b/c..d.jpg",
        "../x",
        "a//b",
        ".h",
        "~deep/x",
        "a" * 300,
        "%41.png",
        "d/" + "ä" * 90 + ".jpg",
        "x\n.jpg",
        "p/" * 99,
    ]
)


@settings(max_examples=50, deadline=None)
@given(names=st.lists(NAMES, max_size=6), layout=st.sampled_from(["named", "content"]))
def test_columns_say_what_the_layout_says(names, layout):
    """Keys, formats and plain paths made for whole columns are those that ``publish.layout`` makes for each name."""
    dest = fresh()
    images = audit_images(dest, layout, [("published", name) for name in names])
    published, _, _ = items_of(images, pa.array([str(n) for n in range(len(names))], pa.string()), dest)
    keys = [output_key(layout, name, sha(name), "jpg", full=n % 2 == 1) for n, name in enumerate(names)]
    assert published["key"].to_pylist() == keys
    assert published["path"].to_pylist() == [source_path(key) for key in keys]
    assert set(published["format"].to_pylist()) <= {"jpeg"}
    part = make_part(published, [], run_key="r", generation=0, recipe_hash="R", store=dest).to_pylist()
    assert {row["key"]: row["uri"] for row in part} == {key: dest.uri(key) for key in keys}


def test_items_and_columns_make_the_same_part():
    """A part does not depend on whether its rows came as items or as columns, nor on their order or chunks."""
    dest = fresh()
    items = [item(i, "1") for i in "dcab"]
    columns = pa.Table.from_pylist([asdict(one) for one in items])
    run = {"run_key": "r", "generation": 0, "recipe_hash": "R", "store": dest}
    parts = [
        make_part(items, ["z", "y"], **run),
        make_part(pa.concat_tables([columns.slice(2), columns.slice(0, 2)]), pa.array(["y", "z"]), **run),
    ]
    assert encode(parts[0]) == encode(parts[1])
    assert parts[0]["item_id"].to_pylist() == ["a", "b", "c", "d", "y", "z"]
    assert parts[0]["change"].to_pylist() == ["published"] * 4 + ["withdrawn"] * 2


def test_a_small_run_reads_only_what_it_mentions(monkeypatch):
    """The delta of a run comes out right when old parts are read in many pieces."""
    monkeypatch.setattr("airflow_facefog.publish.parts.ROW_GROUP", 7)
    monkeypatch.setattr("airflow_facefog.publish.parts.SCAN_ROWS", 3)
    dest = fresh()
    commit(dest, "r1", 1, [(f"i{n:02}", "1") for n in range(20)])
    second = commit(dest, "r2", 2, [("i03", "2"), ("i17", "1"), ("new", "2")], ["i11"])
    assert second.counts == {"added": 1, "replaced": 1, "withdrawn": 1}
    delta = decode(dest.read(second.delta_uri.removeprefix(dest.uri() + "/"))).to_pylist()
    assert [(row["item_id"], row["change"], row["sha256"]) for row in delta] == [
        ("i03", "replaced", sha("2")), ("i11", "withdrawn", sha("1")), ("new", "added", sha("2")),
    ]  # fmt: skip
    assert json.loads(dest.read("_facefog/snapshots/0000000002.json"))["rows"] == 20


class Crash(Exception):
    """A killed process."""


@pytest.mark.parametrize("step", range(12))
def test_a_crash_at_any_write_is_finished_by_the_next_call(step):
    """Killed before any of its writes, a commit done again gives the result of an undisturbed one."""
    dest = fresh()
    commit(dest, "r1", 1, [("a", "1"), ("b", "1")])
    real_create, real_replace, writes = dest.create, dest.replace, []

    def dying(real):
        def write(key: str, data: bytes):
            if len(writes) == step:
                raise Crash
            writes.append(key)
            return real(key, data)

        return write

    dest.create, dest.replace = dying(real_create), dying(real_replace)
    try:
        commit(dest, "r2", 2, [("a", "2")], ["b"])
        crashed = False
    except Crash:
        crashed = True
    dest.create, dest.replace = real_create, real_replace
    assert crashed == (step < 5)
    if crashed:
        commit(dest, "r3", 3, [("d", "3")])
    result = commit(dest, "r2", 2, [("a", "2")], ["b"])
    assert result.changed
    assert result.counts == {"added": 0, "replaced": 1, "withdrawn": 1}
    assert shown(dest) == {"a": sha("2")} | ({"d": sha("3")} if crashed else {})
    assert newest_seq(dest) == (3 if crashed else 2)


def test_a_store_that_fails_moves_nothing(monkeypatch):
    """A fault before the snapshot leaves consumers with what they had."""
    dest = fresh()
    commit(dest, "r1", 1, [("a", "1")])

    def broken(*_: object) -> bool:
        raise StoreError("down")

    monkeypatch.setattr(dest, "create", broken)
    with pytest.raises(StoreError):
        commit(dest, "r2", 2, [("a", "2")])
    assert shown(dest) == {"a": sha("1")}


@pytest.mark.parametrize("same_run", [False, True])
def test_threads_racing_on_a_local_folder(tmp_path, same_run):
    """Eight finalisers at once: numbers without gaps, every run in, and for one run eight equal answers."""
    start, results = threading.Barrier(8), []

    def finalise(n: int) -> None:
        dest = Store(UPath(tmp_path / "out"))
        rows = [("shared", "x" if same_run else str(n)), ("own" if same_run else f"own{n}", "1")]
        start.wait()
        results.append(commit(dest, "r" if same_run else f"r{n}", 1 if same_run else n, rows))

    threads = [threading.Thread(target=finalise, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    dest = Store(UPath(tmp_path / "out"))
    assert len(results) == 8
    if same_run:
        assert len({(r.seq, r.delta_uri, r.changed) for r in results}) == 1
        assert newest_seq(dest) == 1
    else:
        assert sorted(r.seq for r in results) == list(range(1, 9))
        assert newest_seq(dest) == 8
        assert shown(dest) == {"shared": sha("7")} | {f"own{n}": sha("1") for n in range(8)}


OUTCOMES = st.dictionaries(st.sampled_from(ITEMS), st.sampled_from(["v1", "v2", "withdrawn", "skipped"]))


@settings(max_examples=30, deadline=None)
@given(outcomes=st.lists(OUTCOMES, min_size=1, max_size=5), data=st.data())
def test_the_order_of_finishing_does_not_matter(outcomes, data):
    """Runs that were planned on the same snapshot finish in any order and consumers end with the same rows."""
    runs = [(f"r{n}", n, outcome) for n, outcome in enumerate(outcomes)]
    runs = [(name, n, {i: f"{o}-{n}" if o[0] == "v" else o for i, o in outcome.items()}) for name, n, outcome in runs]
    full = {i: "seed" for o in runs for i in o[2]}
    ends = []
    for order in (runs, data.draw(st.permutations(runs))):
        dest = fresh()
        commit(dest, "seed", -1, list(full.items()) or [("none", "seed")])
        for name, n, outcome in order:
            commit(
                dest,
                name,
                n,
                [(i, o) for i, o in outcome.items() if o[0] == "v"],
                [i for i, o in outcome.items() if o[0] == "w"],
                skipped=[i for i, o in outcome.items() if o == "skipped"],
                base=1,
            )
        ends.append(shown(dest))
    newest: dict[str, str] = dict(full) or {"none": "seed"}
    for _, _, outcome in runs:
        newest |= {i: "seed" if o == "skipped" else o for i, o in outcome.items()}
    assert ends[0] == ends[1] == {i: sha(o) for i, o in newest.items() if o != "withdrawn"}


class Finalisers(RuleBasedStateMachine):
    """Runs plan at one time and finish at another, interleaved, retried and racing; a model says what must be seen."""

    @initialize()
    def begin(self) -> None:
        """An empty destination and model."""
        self.dest = fresh()
        self.clock = 0
        self.open: dict[str, tuple[int, int | None, dict[str, str]]] = {}
        self.finished: dict[str, tuple[int, int | None, dict[str, str], object]] = {}
        self.folded: dict[str, tuple[int, str]] = {}
        self.history: list[dict[str, str]] = [{}]

    @rule(outcome=OUTCOMES)
    def plan(self, outcome) -> None:
        """A run lists the source now, pins the newest snapshot and will end so; it can skip what that one shows."""
        self.clock += 1
        seen = self.history[-1]
        ends = {i: f"{o}-{self.clock}" if o[0] == "v" else o for i, o in outcome.items() if o != "skipped" or i in seen}
        self.open[f"r{self.clock}"] = (self.clock, newest_seq(self.dest), ends)

    @rule()
    def plan_to_skip(self) -> None:
        """A run finds everything as it is shown."""
        self.plan(dict.fromkeys(self.history[-1], "skipped"))

    @rule(outcome=OUTCOMES)
    def overtaken(self, outcome) -> None:
        """A run finds changes, the next one finds everything as it is shown, and finishes first."""
        self.plan(outcome)
        late = f"r{self.clock}"
        self.plan_to_skip()
        self._finish(f"r{self.clock}")
        self._finish(late)

    @rule(data=st.data())
    def finish(self, data) -> None:
        """Some open run finalises; in the middle of it another one may finalise wholly."""
        if not self.open:
            return
        name = data.draw(st.sampled_from(sorted(self.open)))
        rivals = [
            other for other in sorted(set(self.open) - {name}) if not self._is_newer_and_moves_nothing(other, name)
        ]
        rival = data.draw(st.sampled_from([*rivals, None]))
        real = self.dest.create

        def interrupted(key: str, body: bytes) -> bool:
            if "/snapshots/" in key and self.dest.create is interrupted:
                self.dest.create = real
                if rival is not None:
                    self._finish(rival)
            return real(key, body)

        self.dest.create = interrupted
        self._finish(name)
        self.dest.create = real

    @rule(data=st.data())
    def finish_again(self, data) -> None:
        """A finished run finalises once more: the same answer, nothing moves."""
        if not self.finished:
            return
        name = data.draw(st.sampled_from(sorted(self.finished)))
        *run, result = self.finished[name]
        assert self._commit(name, *run) == result

    @invariant()
    def every_snapshot_is_the_merge(self) -> None:
        """All versions, old and new, show exactly what the model says."""
        if not hasattr(self, "dest"):
            return
        assert (newest_seq(self.dest) or 0) == len(self.history) - 1
        if len(self.history) > 1:
            assert shown(self.dest) == self.history[-1]
            assert shown(self.dest, len(self.history) // 2) == self.history[len(self.history) // 2]

    def _commit(self, name: str, when: int, base: int | None, outcome: dict[str, str]):
        rows = [(i, o) for i, o in outcome.items() if o[0] == "v"]
        gone, skipped = ([i for i, o in outcome.items() if o == end] for end in ("withdrawn", "skipped"))
        return commit(self.dest, name, when, rows, gone, skipped=skipped, base=base)

    def _folded_with(self, when: int, base: int | None, outcome: dict[str, str]) -> dict[str, tuple[int, str]]:
        folded = dict(self.folded)
        for i, o in outcome.items():
            if folded.get(i, (-1, ""))[0] < when:
                seen = self.history[base or 0].get(i, "") if o == "skipped" else sha(o) if o[0] == "v" else ""
                folded[i] = (when, seen)
        return folded

    def _is_newer_and_moves_nothing(self, other: str, name: str) -> bool:
        """The documented gap: such a run cannot tell one that takes its number at the same moment."""
        after = visible(self._folded_with(*self.open[other]))
        return self.open[other][0] > self.open[name][0] and after == self.history[-1]

    def _finish(self, name: str) -> None:
        run = self.open.pop(name)
        result = self._commit(name, *run)
        self.finished[name] = (*run, result)
        self.folded = self._folded_with(*run)
        after = visible(self.folded)
        assert result.changed == (after != self.history[-1])
        if result.changed:
            self.history.append(after)
            assert result.seq == len(self.history) - 1


def visible(folded: dict[str, tuple[int, str]]) -> dict[str, str]:
    """item_id → sha256 of what is not withdrawn."""
    return {i: seen for i, (_, seen) in folded.items() if seen}


TestFinalisers = Finalisers.TestCase
TestFinalisers.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)


def test_commit_loses_then_merges_on_the_winner(monkeypatch):
    """Two runs take the same number; the loser's snapshot holds both and the next number."""
    dest = fresh()
    real = dest.create

    def racing(key: str, data: bytes) -> bool:
        if key.endswith("snapshots/0000000001.json"):
            monkeypatch.setattr(dest, "create", real)
            commit(dest, "winner", 2, [("a", "w"), ("b", "w")])
        return real(key, data)

    monkeypatch.setattr(dest, "create", racing)
    loser = commit(dest, "loser", 1, [("a", "l"), ("c", "l")])
    assert (loser.seq, loser.counts) == (2, {"added": 1, "replaced": 0, "withdrawn": 0})
    assert shown(dest) == {"a": sha("w"), "b": sha("w"), "c": sha("l")}
    assert snapshots.read_snapshot(dest, "default", 2).run_key == "loser"


def test_open_dataset_keeps_the_rights_of_the_path_it_gets(tmp_path, monkeypatch) -> None:
    """A path that was opened with a connection is used as it is, not opened again by its text."""
    seen: list[object] = []
    original = Store.__init__

    def note(self: Store, root: UPath) -> None:
        seen.append(root)
        original(self, root)

    monkeypatch.setattr(Store, "__init__", note)
    path = UPath(tmp_path)
    with pytest.raises(ConfigurationError, match="no snapshot"):
        open_dataset(path)
    assert seen[0] is path
