"""Amendments: a sealed part without some rows, or gone; the chain says so; what was there is swept."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from upath import UPath

from airflow_facefog.audit import chain
from airflow_facefog.audit.amendments import (
    Cursor,
    OvertakenError,
    Request,
    erasure_rows,
    remove_parts,
    remove_rows,
    sweep,
)
from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.audit.parquet import from_parquet, to_parquet
from airflow_facefog.audit.sealed import LedgerError, Signature, SigningKey, check, seal, sha256
from airflow_facefog.audit.tombstones import raise_tombstones, read_tombstones, tombstone
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.records import ImageRecord
from airflow_facefog.publish.store import Store

KEY = SigningKey.generate()
RUN, N = "a" * 32, 4
ERASE = Request("1" * 32, "erasure", "dpo")


def image(index):
    """A row; its ids are its number."""
    ref, number = f"{index:064x}", f"{index + 100:064x}"
    return ImageRecord(RUN, 0, ref, "published", "b", "a", image_id=number, leaf_idx=index)


def seal_run(audit, name=RUN):
    """A sealed and chained run of ``N`` images with leaves."""
    salts = pa.array([bytes([i]) * 16 for i in range(N)], pa.binary(16))
    leaves = pa.table({"salt": salts, "leaf": pa.array([bytes([i]) * 32 for i in range(N)], pa.binary(32))})
    sink = io.BytesIO()
    pq.write_table(leaves, sink)
    bodies = {
        "image": (to_parquet("facefog_image", [image(i) for i in range(N)], compacted=True), N),
        "detection": (to_parquet("facefog_detection", [], compacted=True), 0),
        "leaf": (sink.getvalue(), N),
    }
    parts = {}
    for part, (data, rows) in bodies.items():
        key = f"runs/{name}/0/{part}.parquet"
        audit.create(key, data)
        parts[part] = {"key": key, "sha256": sha256(data), "rows": rows, "bytes": len(data)}
    manifest = {
        "format": "facefog-manifest/2",
        "run_key": name,
        "generation": 0,
        "parts": parts,
        "run": {},
        "counts": {},
    }
    data = seal({**manifest, "previous": {"seq": 0, "sha256": None}}, KEY)
    audit.create(f"runs/{name}/0/manifest.json", data)
    named = {"key": f"runs/{name}/0/manifest.json", "sha256": sha256(data)}
    body = {"kind": chain.RUN, "run_key": name, "generation": 0, "manifest": named, "counts": {}}
    chain.append(audit, body, KEY, same=lambda entry: entry.document.get("manifest") == named)


@pytest.fixture
def audit(tmp_path):
    """An audit with one run."""
    store = Store(UPath(tmp_path))
    seal_run(store)
    return store


def gone(*indexes):
    """Rows of these images."""
    refs = pa.array([f"{i:064x}" for i in indexes])
    return lambda table: pc.is_in(table["source_ref"].cast(pa.string()), value_set=refs)


def opened(audit):
    """Ledger, cursor and the run."""
    ledger = open_ledger(audit)
    return ledger, Cursor.after(ledger), ledger.find(RUN, 0)


def rows(audit):
    """Numbers of the images that are left, and of the leaves that still have a salt."""
    run = open_ledger(audit).find(RUN, 0)
    images = from_parquet("facefog_image", audit.read(run.parts["image"].key))
    leaves = pq.read_table(io.BytesIO(audit.read(run.parts["leaf"].key))).to_pylist()
    assert [leaf["leaf"] for leaf in leaves] == [bytes([i]) * 32 for i in range(N)]
    return [row["leaf_idx"] for row in images], [i for i, leaf in enumerate(leaves) if leaf["salt"]]


def test_rows_go_and_the_entry_says_which_bytes_replace_which(audit):
    """Order kept, leaf hashes kept, signed, old bytes there until the sweep."""
    _, cursor, run = opened(audit)
    done = remove_rows(audit, cursor, run, ERASE, gone(1), KEY, objects_removed=1)
    assert check(done.entry.document, {KEY.key_id: KEY.public}) is Signature.VALID
    document = done.entry.document
    assert document["rows_removed"] == {"image": 1}
    assert document["objects_removed"] == 1
    assert set(document["parts"]) == {"image", "leaf"}
    assert document["parts"]["image"]["replaces"] == run.parts["image"].sha256
    assert rows(audit) == ([0, 2, 3], [0, 2, 3])
    assert audit.exists(run.parts["image"].key)
    assert len(sweep(audit, open_ledger(audit))) == 2
    assert not audit.exists(run.parts["image"].key)
    assert rows(audit) == ([0, 2, 3], [0, 2, 3])
    assert sweep(audit, open_ledger(audit)) == []


def test_no_such_row_is_no_entry(audit):
    """Nothing is chained and nothing is written."""
    before = audit.list()
    _, cursor, run = opened(audit)
    assert remove_rows(audit, cursor, run, ERASE, gone(9), KEY) is None
    assert audit.list() == before


def test_one_after_the_other_and_then_all(audit):
    """Amendments build on each other; a removed part is absent, and so is its file after the sweep."""
    for index, request in ((1, "1"), (3, "2")):
        _, cursor, run = opened(audit)
        remove_rows(audit, cursor, run, Request(request * 32, "erasure"), gone(index), KEY)
    assert rows(audit) == ([0, 2], [0, 2])
    _, cursor, run = opened(audit)
    done = remove_parts(audit, cursor, run, Request("3" * 32, "expiry"), ("image", "leaf", "intent"), KEY)
    assert done.rows_removed == {"image": 2}
    sweep(audit, open_ledger(audit))
    assert set(open_ledger(audit).find(RUN, 0).parts) == {"detection"}
    left = [key for key in audit.list("runs") if key.endswith(".parquet")]
    assert left == [f"runs/{RUN}/0/detection.parquet"]


def test_who_read_before_another_amendment_is_overtaken(audit):
    """Its parts would bring erased rows back; after reading anew both are gone."""
    _, late, stale = opened(audit)
    _, cursor, run = opened(audit)
    remove_rows(audit, cursor, run, ERASE, gone(1), KEY)
    with pytest.raises(OvertakenError):
        remove_rows(audit, late, stale, Request("2" * 32, "erasure"), gone(2), KEY)
    assert rows(audit) == ([0, 2, 3], [0, 2, 3])
    _, cursor, run = opened(audit)
    remove_rows(audit, cursor, run, Request("2" * 32, "erasure"), gone(2), KEY)
    assert rows(audit) == ([0, 3], [0, 3])


def test_an_amendment_that_was_passed_by_for_another_run_is_not_forgotten(audit):
    """One cursor serves many runs: what it read while it appended for one counts for the next."""
    seal_run(audit, "b" * 32)
    ledger, mine, run = opened(audit)
    other = ledger.find("b" * 32, 0)
    remove_parts(audit, Cursor.after(ledger), other, Request("9" * 32, "expiry"), ("image",), KEY)
    remove_rows(audit, mine, run, ERASE, gone(1), KEY)
    with pytest.raises(OvertakenError):
        remove_parts(audit, mine, other, Request("8" * 32, "expiry"), ("leaf",), KEY)


def test_a_leftover_of_a_call_that_died_is_replaced_and_chained_parts_never(audit):
    """Before the entry nothing names the new part; afterwards the same request writes beside it."""
    key = f"runs/{RUN}/0/amended/{ERASE.request_id}/image.parquet"
    audit.create(key, b"half of another attempt")
    _, cursor, run = opened(audit)
    remove_rows(audit, cursor, run, ERASE, gone(1), KEY)
    assert audit.read(key) != b"half of another attempt"
    first = audit.read(key)
    _, cursor, run = opened(audit)
    remove_rows(audit, cursor, run, ERASE, gone(2), KEY)
    assert audit.read(key) == first
    assert rows(audit) == ([0, 3], [0, 3])


def test_a_part_that_is_not_what_the_ledger_names_is_not_rewritten(audit):
    """The new part would vouch for the damage."""
    _, cursor, run = opened(audit)
    audit.replace(run.parts["image"].key, to_parquet("facefog_image", [image(1)], compacted=True))
    with pytest.raises(LedgerError, match=r"image\.parquet"):
        remove_rows(audit, cursor, run, ERASE, gone(1), KEY)


def test_amendments_as_rows(audit):
    """What SQL and reports are filled with."""
    _, cursor, run = opened(audit)
    remove_rows(audit, cursor, run, ERASE, gone(1, 2), KEY)
    found = {row["part"]: row for row in erasure_rows(open_ledger(audit).entries)}
    assert found["image"]["rows_removed"] == 2
    assert found["leaf"]["rows_removed"] == 0
    assert (found["image"]["actor"], found["image"]["seq"], found["image"]["reason"]) == ("dpo", 2, "erasure")
    assert found["image"]["old_sha256"] == run.parts["image"].sha256


@pytest.mark.parametrize("keys", [KeyRing.from_master(bytes(32)), KeyRing.from_master(None)])
def test_a_tombstone_is_not_the_id(audit, keys):
    """It is another hash, the same for the same picture, and raised once."""
    image_id = keys.image_id(b"x")
    assert raise_tombstones(audit, keys, [image_id], "1" * 32) == 1
    assert raise_tombstones(audit, keys, [image_id], "2" * 32) == 0
    assert read_tombstones(audit) == {tombstone(keys, image_id)}
    assert image_id not in "".join(audit.list("erased"))
