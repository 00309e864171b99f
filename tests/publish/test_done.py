"""What counts as done: only what the pinned snapshot still shows, matched with certainty on the audit side."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Collection

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from airflow_facefog.audit import chain
from airflow_facefog.audit.parquet import from_parquet, to_arrow, to_parquet
from airflow_facefog.audit.sealed import LedgerError
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.records import ImageRecord
from airflow_facefog.publish.done import DoneHit, DoneIndex, record_refusals
from airflow_facefog.publish.items import items_of
from airflow_facefog.publish.layout import output_key
from airflow_facefog.publish.snapshots import RunManifestRef, commit_snapshot, newest_seq, open_dataset, read_snapshot
from airflow_facefog.publish.store import Store

KEYS = KeyRing.from_master(b"k" * 32)


class World:
    """A destination, an audit, and runs that leave in both what finalise leaves."""

    def __init__(self, layout: str = "named") -> None:
        name = uuid.uuid4().hex
        self.layout = layout
        self.dest, self.audit = Store(UPath(f"memory://{name}/out")), Store(UPath(f"memory://{name}-audit"))

    def run(self, name: str, when: int, ends: dict[str, tuple[str, str, str]], recipe: str = "R") -> None:
        """Finalise a run. ``ends``: source → (status, raw bytes, output bytes)."""
        images = to_arrow("facefog_image", [self.row(name, source, *end) for source, end in sorted(ends.items())])
        self.seal(name, to_parquet("facefog_image", images), len(images))
        record_refusals(self.audit, recipe_hash=recipe, run_key=name, generation=0, images=images)
        items = pa.array([KEYS.item_id(source) for source in sorted(ends)])
        published, withdrawn, skipped = items_of(images, items, self.dest)
        ref = RunManifestRef(name, 0, f"2026-01-01T00:{when:02}:00+00:00", recipe)
        base = newest_seq(self.dest)
        seen = open_dataset(self.dest).to_pylist() if base else []
        shown = [row["item_id"] for row in seen if row["recipe_hash"] == recipe]
        commit_snapshot(
            self.dest, dataset="default", run=ref, published=published, withdrawn=withdrawn, base=base,
            skipped=[i for i in skipped.to_pylist() if i in shown],
        )  # fmt: skip

    def seal(self, name: str, images: bytes, rows: int) -> None:
        """Write (or forge) the image part of a run and the manifest that names it."""
        key = f"runs/{name}/0/image.parquet"
        part = {"key": key, "sha256": hashlib.sha256(images).hexdigest(), "rows": rows}
        manifest = {"format": "facefog-manifest/2", "run_key": name, "generation": 0, "parts": {"image": part}}
        self.audit.replace(key, images)
        self.audit.replace(f"runs/{name}/0/manifest.json", json.dumps(manifest).encode())

    def row(self, run: str, source: str, status: str, raw: str, output: str) -> ImageRecord:
        """One image row."""
        base = ImageRecord(
            run, 0, source, status.partition(":")[0], "b", "a", image_id=raw, reason=status.partition(":")[2] or None
        )
        if status != "published":
            return base
        sha = hashlib.sha256(output.encode()).hexdigest()
        uri = self.dest.uri(output_key(self.layout, f"{source}.png", sha, "png"))
        return ImageRecord(
            run,
            0,
            source,
            status,
            "b",
            "a",
            image_id=raw,
            output_uri=uri,
            output_sha256=sha,
            output_bytes=1,
            width=1,
            height=1,
        )

    def done(self, sources: Collection[str] = ("s1", "s2", "s3"), recipe: str = "R") -> DoneIndex:
        """The index on the newest snapshot."""
        seq = newest_seq(self.dest)
        return DoneIndex.load(self.dest, self.audit, "default", seq, recipe_hash=recipe, source_refs=sources)


def test_nothing_is_done_at_first():
    """Without a snapshot nothing is skipped and no store is read."""
    index = World().done()
    assert index.find("R", "i1", "s1") is None
    assert index.quarantined("R", "i1") is False


def test_equal_recipe_bytes_and_source_are_done():
    """A hit names the run; another recipe, other bytes or another source are no hit."""
    world = World()
    world.run("r1", 1, {"s1": ("published", "i1", "o1"), "s2": ("published", "i2", "o2")})
    index = world.done()
    hit = index.find("R", "i1", "s1")
    assert isinstance(hit, DoneHit)
    assert hit.run_key == "r1"
    for question in (("R2", "i1", "s1"), ("R", "i9", "s1"), ("R", "i1", "s2"), ("R", "i2", "s1")):
        assert index.find(*question) is None


def test_only_what_is_still_shown_counts():
    """Withdrawn and replaced outputs are not done; a source that went back to old bytes is processed again."""
    world = World()
    world.run("r1", 1, {s: ("published", "i1", "o1") for s in ("s1", "s2", "s3")})
    world.run(
        "r2",
        2,
        {
            "s1": ("failed:source_missing", None, ""),
            "s2": ("published", "i2", "o2"),
            "s3": ("skipped:already_done", "i1", ""),
        },
    )
    index = world.done()
    assert index.find("R", "i1", "s1") is None
    assert index.find("R", "i1", "s2") is None
    assert index.find("R", "i2", "s2").run_key == "r2"
    assert index.find("R", "i1", "s3").run_key == "r1"


def test_the_pinned_snapshot_decides():
    """A plan keeps seeing the snapshot that it pinned, whatever finishes meanwhile."""
    world = World()
    world.run("r1", 1, {"s1": ("published", "i1", "o1")})
    pinned = newest_seq(world.dest)
    world.run("r2", 2, {"s1": ("quarantined:corrupt", "i9", "")})
    then = DoneIndex.load(world.dest, world.audit, "default", pinned, recipe_hash="R", source_refs=["s1"])
    assert then.find("R", "i1", "s1") is not None
    assert world.done().find("R", "i1", "s1") is None


def test_a_shared_object_with_one_item_withdrawn_is_not_certain():
    """In the content layout equal pixels share an object; when one item is gone none of them counts as done."""
    world = World("content")
    world.run(
        "r1", 1, {"s1": ("published", "i1", "same"), "s2": ("published", "i2", "same"), "s3": ("published", "i3", "o3")}
    )
    assert world.done().find("R", "i1", "s1") is not None
    world.run("r2", 2, {"s1": ("failed:source_missing", None, "")})
    assert world.done().find("R", "i1", "s1") is None
    assert world.done().find("R", "i2", "s2") is None
    assert world.done().find("R", "i3", "s3").run_key == "r1"


def test_what_was_skipped_is_done_by_the_run_that_made_it():
    """A chain of runs that skip: the newest part holds all rows, and the index still names the first run."""
    world = World()
    world.run("r1", 1, {"s1": ("published", "i1", "o1"), "s2": ("published", "i2", "o2")})
    for n in (2, 3):
        new = {f"s{n + 1}": ("published", f"i{n + 1}", f"o{n + 1}")}
        world.run(f"r{n}", n, {s: ("skipped:already_done", f"i{s[1]}", "") for s in ("s1", "s2")} | new)
    assert [part.run_key for part in read_snapshot(world.dest, "default", 3).parts] == ["r2", "r3"]
    index = world.done()
    assert (index.find("R", "i1", "s1"), index.find("R", "i2", "s2")) == (DoneHit("r1"), DoneHit("r1"))
    assert index.find("R", "i3", "s3") == DoneHit("r2")
    world.run(
        "r4", 4, {f"s{n}": ("skipped:already_done", f"i{n}", "") for n in (1, 3, 4)} | {"s2": ("failed", None, "")}
    )
    assert [part.run_key for part in read_snapshot(world.dest, "default", 4).parts] == ["r4"]
    index = world.done()
    assert [index.find("R", f"i{n}", f"s{n}") for n in (1, 2, 3)] == [DoneHit("r1"), None, DoneHit("r2")]


def test_a_shared_object_is_uncertain_although_its_first_part_is_gone():
    """One of two items that share an object is kept, the other withdrawn, and no part says any more that both had it."""
    world = World("content")
    world.run("r1", 1, {"s1": ("published", "i1", "same"), "s2": ("published", "i2", "same")})
    world.run("r2", 2, {"s1": ("skipped:already_done", "i1", ""), "s2": ("failed:source_missing", None, "")})
    assert [part.run_key for part in read_snapshot(world.dest, "default", 2).parts] == ["r2"]
    assert [world.done([s]).find("R", i, s) for i, s in (("i1", "s1"), ("i2", "s2"))] == [None, None]


def test_only_what_was_asked_for_is_loaded():
    """An index knows the sources and the recipe that it was loaded for, and nothing else."""
    world = World()
    world.run("r1", 1, {f"s{n}": ("published", f"i{n}", f"o{n}") for n in range(1, 4)})
    some = world.done(["s2", "unheard-of"])
    assert (repr(some), some.find("R", "i2", "s2")) == ("DoneIndex(1 rows)", DoneHit("r1"))
    assert some.find("R", "i1", "s1") is None
    other = world.done(recipe="R2")
    assert (repr(other), other.find("R2", "i1", "s1")) == ("DoneIndex(0 rows)", None)


def test_a_changed_audit_row_is_no_proof():
    """An audit row whose output hash is not the one that the snapshot shows does not count as done."""
    world = World()
    world.run("r1", 1, {"s1": ("published", "i1", "o1"), "s2": ("published", "i2", "o2")})
    rows = from_parquet("facefog_image", world.audit.read("runs/r1/0/image.parquet"))
    rows[0]["output_sha256"] = "0" * 64
    world.seal("r1", to_parquet("facefog_image", rows), len(rows))
    assert world.done().find("R", "i1", "s1") is None
    assert world.done().find("R", "i2", "s2") == DoneHit("r1")


ENDS = st.dictionaries(
    st.sampled_from(["s1", "s2", "s3", "s4"]),
    st.tuples(
        st.sampled_from(["published", "published", "quarantined:corrupt", "failed:source_missing", "skipped"]),
        st.sampled_from(["i1", "i2", "i3"]),
        st.sampled_from(["o1", "o2"]),
    ),
    min_size=1,
)


def what_counts(runs, layout: str) -> dict[tuple[str, str], str]:
    """(raw bytes, source) → the run of recipe R with an output that is still shown for every item that has it."""
    decides: dict[str, tuple[int, str, str]] = {}
    for number, (ends, recipe) in enumerate(runs):
        output = {s: end[2] if end[0] == "published" else "" for s, end in ends.items() if end[0] != "skipped"}
        after = decides | {s: (number, out, recipe) for s, out in output.items()}
        before, now = ({s: d[1:] for s, d in side.items() if d[1]} for side in (decides, after))
        decides = decides if before == now else after  # an empty delta makes no snapshot
    counts: dict[tuple[str, str], str] = {}
    for number, (ends, recipe) in enumerate(runs):
        published = {s: end for s, end in ends.items() if end[0] == "published" and recipe == "R"}
        for source, (_, raw, output) in published.items():
            sharing = [s for s, end in published.items() if end[2] == output] if layout == "content" else [source]
            if all(decides[s] == (number, output, recipe) for s in sharing):
                counts[raw, source] = f"r{number}"
    return counts


@settings(max_examples=40, deadline=None)
@given(
    runs=st.lists(st.tuples(ENDS, st.sampled_from("RRS")), min_size=1, max_size=4),
    layout=st.sampled_from(["named", "content"]),
)
def test_done_is_exactly_what_is_shown(runs, layout):
    """Whatever runs publish, replace and withdraw: the index agrees with a model that walks all rows."""
    world = World(layout)
    for number, (ends, recipe) in enumerate(runs):
        world.run(f"r{number}", number, ends, recipe)
    expected = what_counts(runs, layout)
    index = world.done(["s1", "s3"])
    for raw in ("i1", "i2", "i3"):
        for source in ("s1", "s2", "s3", "s4"):
            hit = index.find("R", raw, source)
            assert (hit and hit.run_key) == (expected.get((raw, source)) if source in ("s1", "s3") else None)


def test_refused_images_are_remembered_per_recipe():
    """An image that a sealed run quarantined is known as refused, under that recipe only, also without any snapshot."""
    world = World()
    world.run("r1", 1, {"s1": ("quarantined:corrupt", "i1", ""), "s2": ("failed:source_unreadable", "i2", "")})
    assert newest_seq(world.dest) is None
    index = world.done()
    assert (index.quarantined("R", "i1"), index.quarantined("R", "i2"), index.quarantined("R2", "i1")) == (
        True,
        False,
        False,
    )


def test_repeated_refusals_are_noted_once():
    """A bad file that stays in the source does not add a note to the audit every day."""
    world = World()
    world.run("r1", 1, {"s1": ("quarantined:corrupt", "i1", "")})
    world.run("r2", 2, {"s1": ("quarantined:already_quarantined", "i1", "")})
    assert world.audit.list("refusals") == ["refusals/R/r1-0"]
    assert world.done().quarantined("R", "i1")


def test_a_missing_audit_part_is_an_error():
    """A snapshot whose audit is gone breaks a promise: it is told, not worked around."""
    world = World()
    world.run("r1", 1, {"s1": ("published", "i1", "o1")})
    world.audit.delete("runs/r1/0/image.parquet")
    with pytest.raises(LedgerError, match=r"runs/r1/0/image\.parquet is missing"):
        world.done()
    world.audit.delete("runs/r1/0/manifest.json")
    with pytest.raises(LedgerError, match=r"runs/r1/0/manifest\.json is missing"):
        world.done()


def test_rows_that_the_manifest_does_not_name_are_no_reason_to_skip():
    """Whoever edits the audit's rows could keep images from being fogged: the hash is checked."""
    world = World()
    world.run("r1", 1, {"s1": ("published", "i1", "o1")})
    world.audit.replace("runs/r1/0/image.parquet", to_parquet("facefog_image", []))
    with pytest.raises(LedgerError, match="does not hold the bytes"):
        world.done()


def amend(world: World, request: str, key: str | None, images: bytes = b"") -> None:
    """Chain an amendment of run r1 that replaces its image part, or removes it."""
    part = {"key": key, "sha256": key and hashlib.sha256(images).hexdigest(), "rows": 1, "replaces": "0" * 64}
    body = {"kind": "amendment", "run_key": "r1", "generation": 0, "request_id": request, "parts": {"image": part}}
    if key:
        world.audit.create(key, images)
    chain.append(world.audit, body, None, same=lambda entry: False)


def test_amended_rows_are_those_that_count():
    """After an erasure the erased image is no longer known as done; after an expiry none is. Others stay done."""
    world = World()
    world.run("r1", 1, {"s1": ("published", "i1", "o1"), "s2": ("published", "i2", "o2")})
    key = "runs/r1/0/image.parquet"
    kept = [row for row in from_parquet("facefog_image", world.audit.read(key)) if row["image_id"] == "i2"]
    amend(world, "q1", "runs/r1/0/amended/q1/image.parquet", to_parquet("facefog_image", kept))
    world.audit.delete(key)
    assert world.done().find("R", "i1", "s1") is None
    assert world.done().find("R", "i2", "s2") == DoneHit("r1")
    amend(world, "q2", None)
    assert world.done().find("R", "i2", "s2") is None


def test_the_chain_is_read_only_for_runs_that_were_changed(monkeypatch):
    """Every batch loads an index: a long chain costs it nothing as long as no run that it needs was amended."""
    world = World()
    world.run("r1", 1, {"s1": ("published", "i1", "o1")})
    monkeypatch.setattr(chain, "read_entries", lambda *_: pytest.fail("the chain was read"))
    assert world.done().find("R", "i1", "s1") == DoneHit("r1")


def test_threads_may_ask_at_once():
    """Many threads asking for refusals agree, and the audit is read once."""
    world = World()
    world.run("r1", 1, {"s1": ("quarantined:corrupt", "i1", "")})
    index, answers, reads = world.done(), [], []
    real = world.audit.list
    world.audit.list = lambda prefix="": reads.append(prefix) or real(prefix)
    threads = [threading.Thread(target=lambda: answers.append(index.quarantined("R", "i1"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 8
    assert reads == ["refusals/R"]
