"""Every fault that an audit must show, on a real one of three signed runs: what is named, and that nothing else is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from upath import UPath
from verifykit import Record, build, copies, said

from airflow_facefog.audit.parquet import from_parquet, to_parquet
from airflow_facefog.audit.sealed import SigningKey, canonical, sha256
from airflow_facefog.audit.sql import SqlSink
from airflow_facefog.job.model import Place
from airflow_facefog.job.record.verify_audit import VerifyRequest, verify_audit
from airflow_facefog.publish.store import Store

PARTS = ("image", "detection", "intent", "leaf")
THIRD = "chain/0000000003.json"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The audit, made once."""
    return build(tmp_path_factory.mktemp("world"))


@pytest.fixture
def record(pristine: Record, tmp_path: Path) -> Iterator[Record]:
    """A copy to tamper with."""
    yield from copies(pristine, tmp_path)


def test_an_untouched_audit_verifies_also_deep(record: Record) -> None:
    """Three signed runs under a pinned key and an anchor: no finding at all."""
    result = record.verify(deep=True, heads=(record.head,), require_signed=True)
    assert result["findings"] == []
    assert (result["verified"], result["signed"], result["trust"], result["head"]) == (
        True,
        "all",
        "pinned",
        record.head,
    )
    assert (result["entries"], result["runs"], result["parts"]) == (3, 3, 12)
    assert result["bytes"] == sum(
        record.path(record.part(f"{n}.parquet", s)).stat().st_size for n in PARTS for s in (1, 2, 3)
    )


def test_an_audit_in_an_object_store(record: Record) -> None:
    """No local files: the same answer, and the same fault."""
    store = Store(UPath(f"memory://{record.root.parent.name}"))
    for path in record.root.rglob("*"):
        if path.is_file():
            store.create(str(path.relative_to(record.root)), path.read_bytes())
    request = VerifyRequest(Place(store.uri()), (record.signer.public.pem.decode(),), (record.head,), deep=True)
    assert verify_audit(request)["findings"] == []
    key = record.part("detection.parquet")
    store.replace(key, store.read(key)[:-1])
    assert said(verify_audit(request)) == {("part_changed", key)}


def test_keys_of_the_audit_show_consistency_only(record: Record) -> None:
    """Without a pinned key the report says what it does not show."""
    result = record.verify(pinned=False)
    assert result["verified"]
    assert result["trust"] == "audit"
    assert said(result, "notice") == {("keys_from_audit", "keys")}


def test_parts_of_older_runs_are_left_out_on_request(record: Record) -> None:
    """Their chain entries and manifests are checked all the same, and how many were left out is said."""
    for seq in (1, 2):
        record.write(
            f"chain/{seq:010d}.json", {**record.entry(seq), "at": f"200{seq}-01-01T00:00:00+00:00"}, record.signer
        )
    record.rewrite(record.signer)
    record.flip(record.part("image.parquet", 1))
    record.flip(record.part("image.parquet", 2))
    result = record.verify(since="2002-01-01")
    assert said(result) == {("part_changed", record.part("image.parquet", 2))}
    assert (result["runs"], result["parts"]) == (3, 7)
    assert said(result, "notice") == {("not_checked", "runs")}


# ------------------------------------------------------------------ bytes


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("seq", [1, 3])
def test_a_flipped_byte_in_a_part(record: Record, name: str, seq: int) -> None:
    """One bit of one part: that part is named, and only that."""
    key = record.part(f"{name}.parquet", seq)
    record.flip(key)
    assert said(record.verify()) == {("part_changed", key)}


@pytest.mark.parametrize("name", PARTS)
def test_a_deleted_part(record: Record, name: str) -> None:
    """A part that is gone is named."""
    key = record.part(f"{name}.parquet")
    record.path(key).unlink()
    assert said(record.verify()) == {("part_missing", key)}


@pytest.mark.parametrize("name", PARTS)
def test_a_truncated_part(record: Record, name: str) -> None:
    """Half a Parquet file is a changed part."""
    key = record.part(f"{name}.parquet")
    data = record.path(key).read_bytes()
    record.path(key).write_bytes(data[: len(data) // 2])
    assert said(record.verify()) == {("part_changed", key)}


@pytest.mark.parametrize("name", PARTS)
def test_a_truncated_part_that_the_right_key_vouches_for(record: Record, name: str) -> None:
    """A hash that is right does not make half a Parquet file a part."""
    key = record.part(f"{name}.parquet")
    record.reseal_part(key, record.path(key).read_bytes()[:-9])
    assert said(record.verify()) == {("part_damaged", key)}


def test_every_fault_is_reported_at_once(record: Record) -> None:
    """A damaged chain entry hides neither the parts of other runs nor its own."""
    keys = [record.part("image.parquet", 1), record.part("leaf.parquet", 2), record.part("intent.parquet", 3)]
    for key in keys:
        record.flip(key)
    record.path("chain/0000000001.json").write_bytes(b"{}")
    found = said(record.verify())
    assert {("part_changed", key) for key in keys} < found
    assert ("chain_entry_damaged", "chain/0000000001.json") in found


def test_the_row_of_a_run(record: Record) -> None:
    """``run.parquet`` says what the manifest says, or it is named; so it is when it is gone."""
    key = record.part("run.parquet")
    row = from_parquet("facefog_run", record.path(key).read_bytes())[0]
    record.path(key).write_bytes(to_parquet("facefog_run", [{**row, "published": 7}]))
    assert said(record.verify()) == {("run_row_changed", key)}
    record.path(key).unlink()
    assert said(record.verify()) == {("run_row_missing", key)}


def test_a_row_in_other_bytes(record: Record) -> None:
    """The chain names the bytes of a run's row: also the same row in other bytes is a fault."""
    key = record.part("run.parquet")
    table = pq.read_table(record.path(key))
    pq.write_table(table, record.path(key), compression="none")
    assert said(record.verify()) == {("run_row_changed", key)}


@pytest.mark.parametrize("signed", [True, False])
def test_a_row_that_the_chain_does_not_name(record: Record, signed: bool) -> None:
    """Older entries name no row: it is compared with the manifest, and other bytes of the right row are a notice."""

    def forget(entry: dict[str, Any]) -> None:
        entry.pop("run_part", None)

    record.rewrite(record.signer if signed else None, edit_entry=forget)
    assert record.verify(pinned=signed)["verified"]
    key = record.part("run.parquet")
    row = from_parquet("facefog_run", record.path(key).read_bytes())[0]
    table = pq.read_table(record.path(key))
    pq.write_table(table, record.path(key), compression="none")
    result = record.verify(pinned=signed)
    assert result["verified"]
    assert ("run_row_rewritten", key) in said(result, "notice")
    record.path(key).write_bytes(to_parquet("facefog_run", [{**row, "published": 7}]))
    assert said(record.verify(pinned=signed)) == {("run_row_changed", key)}


def test_an_unsigned_entry_vouches_for_no_row(record: Record) -> None:
    """Whoever can rewrite an unsigned entry can name any bytes there: the row must still say what the manifest says."""
    key = record.part("run.parquet")

    def lie(entry: dict[str, Any]) -> None:
        if entry["manifest"]["key"] == record.part("manifest.json"):
            row = from_parquet("facefog_run", record.path(key).read_bytes())[0]
            data = to_parquet("facefog_run", [{**row, "published": 7}])
            record.path(key).write_bytes(data)
            entry["run_part"] |= {"sha256": sha256(data), "bytes": len(data)}

    record.rewrite(None, edit_entry=lie)
    assert said(record.verify(pinned=False)) == {("run_row_changed", key)}


@pytest.mark.parametrize("part", [5, {}, {"key": "elsewhere", "sha256": "0" * 64, "bytes": 1}])
def test_an_entry_that_names_no_row_of_its_run(record: Record, part: object) -> None:
    """What an entry says of the row is of the form that it has, and about its own run."""
    entry = record.entry(3)
    record.write("chain/0000000003.json", entry | {"run_part": part}, record.signer)
    assert ("chain_entry_damaged", "chain/0000000003.json") in said(record.verify())


# ------------------------------------------------------------------ manifests, chain, keys


def test_an_edited_manifest(record: Record) -> None:
    """One count changed, in canonical form: neither the chain nor the signature agrees."""
    key = record.part("manifest.json")
    document = record.json(key)
    document["counts"]["published"] += 1
    record.path(key).write_bytes(canonical(document))
    wrong = {(code, key) for code in ("manifest_changed", "signature_invalid", "manifest_wrong", "counts_wrong")}
    assert said(record.verify()) == wrong


def test_an_edited_and_resigned_manifest(record: Record) -> None:
    """An attacker's key does not help without the chain."""
    key = record.part("manifest.json")
    document = record.json(key)
    document["run"]["model_id"] = "harmless"
    record.write(key, document, SigningKey.generate())
    found = said(record.verify())
    assert {("manifest_changed", key), ("signer_unknown", key)} <= found


def test_a_chain_that_was_written_anew_with_another_key(record: Record) -> None:
    """It is consistent: only a pinned key or an anchor shows it, and the tests of consistency do not."""
    attacker = SigningKey.generate()
    for path in record.path("keys").iterdir():
        path.unlink()
    record.path(f"keys/{attacker.key_id}.pem").write_bytes(attacker.public.pem)
    record.rewrite(attacker, lambda manifest: manifest["run"].update(model_id="harmless"))
    assert record.verify(pinned=False)["verified"]
    documents = [record.part("manifest.json", seq) for seq in (1, 2, 3)] + [
        f"chain/{seq:010d}.json" for seq in (1, 2, 3)
    ]
    assert said(record.verify()) == {("signer_unknown", name) for name in documents}
    assert said(record.verify(pinned=False, heads=(record.head,))) == {("chain_rewritten", THIRD)}


def test_a_chain_that_was_stripped_of_its_signatures(record: Record) -> None:
    """Written anew without any key: a pinned key shows it, an anchor does, and so does asking for signatures."""
    record.rewrite(None)
    result = record.verify(pinned=False)
    assert (result["verified"], result["signed"]) == (True, "none")
    assert said(record.verify()) == {("signature_required", THIRD)}
    assert said(record.verify(pinned=False, heads=(record.head,))) == {("chain_rewritten", THIRD)}
    required = said(record.verify(require_signed=True))
    assert required == {("signature_required", f"chain/{seq:010d}.json") for seq in (1, 2, 3)}


def test_an_entry_that_was_stripped_alone(record: Record) -> None:
    """A signed manifest under an unsigned entry, in a chain of one."""
    for seq in (2, 3):
        shutil.rmtree(record.path(record.home(seq)))
        record.path(f"chain/{seq:010d}.json").unlink()
    shutil.rmtree(record.path("refusals"))
    record.write("chain/0000000001.json", record.entry(1), None)
    assert ("downgraded", "chain/0000000001.json") in said(record.verify())


@pytest.mark.parametrize("where", ["chain/0000000001.json", "chain/0000000002.json", THIRD])
def test_an_edited_entry(record: Record, where: str) -> None:
    """Its signature does not hold; the entry is named, also when it is the newest."""
    data = record.path(where).read_bytes()
    record.path(where).write_bytes(data.replace(b'"detections":', b'"detectionz":', 1))
    assert ("signature_invalid", where) in said(record.verify())


def test_a_gap_in_the_chain(record: Record) -> None:
    """A number that is missing below the newest is named; the entries after it are read."""
    record.path("chain/0000000002.json").unlink()
    assert said(record.verify()) == {("chain_gap", "chain/0000000002.json")}


def test_two_entries_for_one_run(record: Record) -> None:
    """The second one is named."""
    entry = {**record.entry(2), "seq": 4, "previous": record.head.partition(":")[2]}
    entry["at"] = record.entry(3)["at"]
    record.write("chain/0000000004.json", entry, record.signer)
    assert said(record.verify()) == {("run_entered_twice", "chain/0000000004.json")}


def test_unsigned_after_signed(record: Record) -> None:
    """Whoever has no key can append, but not as if nothing were."""
    entry = record.entry(3)
    record.write(THIRD, entry, None)
    assert said(record.verify()) == {("downgraded", THIRD)}


def test_a_lost_key(record: Record) -> None:
    """Signed by a key that nobody has any more: unverifiable is not verified."""
    other = SigningKey.generate().public.pem.decode()
    documents = {record.part("manifest.json", seq) for seq in (1, 2, 3)} | {
        f"chain/{seq:010d}.json" for seq in (1, 2, 3)
    }
    assert said(record.verify(public_keys=(other,))) == {("signer_unknown", name) for name in documents}
    shutil.rmtree(record.path("keys"))
    result = record.verify(pinned=False)
    assert result["trust"] == "none"
    assert said(result) == {("signer_unknown", name) for name in documents}


def test_a_clock_that_jumps_back(record: Record) -> None:
    """Machines' clocks differ: it is named, and nothing fails."""
    record.write(THIRD, {**record.entry(3), "at": "2001-01-01T00:00:00.000000+00:00"}, record.signer)
    result = record.verify()
    assert result["verified"]
    assert said(result, "notice") == {("clock_went_back", THIRD)}


def test_a_swapped_policy(record: Record) -> None:
    """A policy that reads better than the one that ran, sealed by the right key: its hash tells."""
    key = record.part("manifest.json")
    milder = json.dumps({"rules": {"face": {"min_confidence": 0.9}}})

    def swap(manifest: dict) -> None:
        if manifest["run"]["run_id"] == "run-2":
            manifest["run"]["policy_json"] = milder

    record.rewrite(record.signer, swap)
    assert said(record.verify()) == {("policy_changed", key)}


@pytest.mark.parametrize("count", ["published", "detections", "fogged"])
def test_counts_that_the_rows_do_not_hold(record: Record, count: str) -> None:
    """A manifest that counts what is not there is named, whoever signed it."""

    def pad(manifest: dict) -> None:
        if manifest["run"]["run_id"] == "run-2":
            manifest["counts"][count] += 1
            manifest["run"][count] += 1

    record.rewrite(record.signer, pad)
    assert ("counts_wrong", record.part("manifest.json")) in said(record.verify())


def test_a_far_number_costs_nothing(record: Record) -> None:
    """A file with a huge number: the gap before it is one finding, and nobody looks for ten billion entries."""
    record.path("chain/9999999999.json").write_bytes(b"{}")
    found = said(record.verify())
    assert found == {("chain_gap", "chain/0000000004.json"), ("chain_entry_damaged", "chain/9999999999.json")}


def test_a_run_that_nobody_planned(record: Record) -> None:
    """Files like those of a run that goes on, of a run that nothing knows."""
    home = record.path(f"runs/{'f' * 32}/0")
    home.mkdir(parents=True)
    shutil.copy(record.path(record.part("image.parquet")), home / "image.parquet")
    assert said(record.verify()) == {("foreign_file", f"runs/{'f' * 32}/0/image.parquet")}


@pytest.mark.parametrize(
    "key",
    [
        "runs/notes.txt",
        "chain/0000000001.json.bak",
        "chain/0000000000.json",
        "RUN/copy.parquet",
        "RUN/image (1).parquet",
    ],
)
def test_a_foreign_file(record: Record, key: str) -> None:
    """What nothing names is named."""
    key = key.replace("RUN", record.home(2))
    record.path(key).write_bytes(b"x")
    assert said(record.verify()) == {("foreign_file", key)}


# ------------------------------------------------------------------ the newest run is gone


def no_entry(record: Record) -> None:
    """Its chain entry is gone."""
    record.path(THIRD).unlink()


def no_manifest(record: Record) -> None:
    """Its entry and manifest are gone."""
    record.path(record.part("manifest.json", 3)).unlink()
    no_entry(record)


def no_folder(record: Record) -> None:
    """Its entry and its whole folder are gone."""
    shutil.rmtree(record.path(record.home(3)))
    no_entry(record)


def no_notes(record: Record) -> None:
    """The notes of refused images too."""
    no_folder(record)
    shutil.rmtree(record.path("refusals"))


def no_rows(record: Record) -> None:
    """And what consumers were shown."""
    run_key, generation = record.home(3).split("/")[1:]
    no_notes(record)
    shutil.rmtree(record.clean / "_facefog" / "runs" / run_key / generation)


@pytest.mark.parametrize(
    ("remove", "code"),
    [
        (no_entry, "removed_from_chain"),
        (no_manifest, "run_removed"),
        (no_folder, "run_removed"),
        (no_notes, "run_removed"),
    ],
)
def test_a_removed_newest_run(record: Record, remove: Callable[[Record], None], code: str) -> None:
    """As long as anything remains that only a sealed run leaves, the run is named."""
    where = record.part("manifest.json", 3)
    remove(record)
    assert said(record.verify()) == {(code, where)}


def test_a_removed_manifest(record: Record) -> None:
    """The chain names it."""
    key = record.part("manifest.json", 3)
    record.path(key).unlink()
    assert said(record.verify()) == {("manifest_missing", key)}


def test_a_newest_run_that_was_removed_whole(record: Record) -> None:
    """Then only an anchor shows it; without one, its plan and commits say that something was not finished."""
    home = record.home(3).removeprefix("runs/")
    no_rows(record)
    result = record.verify()
    assert result["verified"]
    assert said(result, "notice") == {("unfinished", f"commits/{home}")}
    assert said(record.verify(heads=(record.head,))) == {("chain_truncated", THIRD)}


def test_a_crash_before_the_chain_is_no_tampering(record: Record) -> None:
    """Sealed and not entered, with nothing that comes later: a notice that says how to go on."""
    home = record.home(3)
    no_rows_but_run(record)
    result = record.verify()
    assert result["verified"]
    assert said(result, "notice") == {("not_in_chain", f"{home}/manifest.json")}


def no_rows_but_run(record: Record) -> None:
    """The state of a finalise that died right after the manifest."""
    home = record.home(3)
    record.path(f"{home}/run.parquet").unlink()
    shutil.rmtree(record.path("refusals"))
    run_key, generation = home.split("/")[1:]
    shutil.rmtree(record.clean / "_facefog" / "runs" / run_key / generation)
    no_entry(record)


def test_an_old_manifest_in_the_place_of_a_removed_run(record: Record) -> None:
    """An unsigned run of an older format beside a signed chain is an error until somebody with the key enters it."""
    key = record.part("manifest.json", 3)
    document = record.json(key)
    for name in ("tree", "previous", "sealed_at", "signer", "signature"):
        del document[name]
    del document["parts"]["leaf"]
    record.path(key).write_text(json.dumps({**document, "format": "facefog-manifest/1", "signed": False}, indent=1))
    record.path(record.part("leaf.parquet", 3)).unlink()
    no_entry(record)
    assert ("outside_signed_chain", key) in said(record.verify())


# ------------------------------------------------------------------ deep


def published(record: Record) -> list[Path]:
    """Every published object."""
    return sorted(path for path in (record.clean / "data").rglob("*") if path.is_file())


def test_a_changed_and_a_deleted_object(record: Record) -> None:
    """Only deep looks at them; both are named."""
    one, other = published(record)[:2]
    one.write_bytes(one.read_bytes() + b"\0")
    other.unlink()
    assert record.verify()["verified"]
    assert said(record.verify(deep=True)) == {("object_changed", one.as_uri()), ("object_missing", other.as_uri())}


def test_a_changed_snapshot_part(record: Record) -> None:
    """What consumers read is compared with what snapshots name."""
    part = sorted((record.clean / "_facefog" / "runs").rglob("part.parquet"))[0]
    data = part.read_bytes()
    part.write_bytes(data + b"\0")
    assert said(record.verify(deep=True)) == {("snapshot_changed", part.as_uri())}


def test_a_destination_that_is_gone(record: Record) -> None:
    """Deep cannot show what it cannot read: an error, once. Otherwise a notice."""
    shutil.rmtree(record.clean)
    assert said(record.verify(deep=True)) == {("destination_unreachable", record.clean.as_uri())}
    result = record.verify()
    assert result["verified"]
    assert said(result, "notice") == {("not_checked", record.clean.as_uri())}


def test_a_replaced_leaf_part(record: Record) -> None:
    """Other salts and leaves, signed by the right key: they do not make the root."""
    key = record.part("leaf.parquet")
    table = pq.read_table(record.path(key))
    leaves = pa.array([bytes(32)] * table.num_rows, table.schema.field("leaf").type)
    record.reseal_part(key, encoded(table.set_column(1, table.schema.field("leaf"), leaves)))
    assert record.verify()["verified"]
    assert said(record.verify(deep=True)) == {("tree_wrong", key)}


def test_rows_that_do_not_make_their_leaves(record: Record) -> None:
    """A row that was changed after its leaf was made, signed by the right key."""
    key = record.part("image.parquet")
    rows = from_parquet("facefog_image", record.path(key).read_bytes())
    rows[0]["width"] += 1
    record.reseal_part(key, to_parquet("facefog_image", rows, compacted=True))
    assert record.verify()["verified"]
    assert said(record.verify(deep=True)) == {("leaves_wrong", key)}


def encoded(table: pa.Table) -> bytes:
    """Parquet bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


# ------------------------------------------------------------------ any byte


@given(st.data())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_byte_is_named(pristine: Record, data: st.DataObject) -> None:
    """Whatever byte of chain, keys or runs changes: an error names that file (for the row of a run: a finding)."""
    keys = sorted(
        str(path.relative_to(pristine.root))
        for folder in ("chain", "keys", "runs")
        for path in pristine.path(folder).rglob("*")
        if path.is_file()
    )
    key = data.draw(st.sampled_from(keys))
    before = pristine.path(key).read_bytes()
    at = data.draw(st.integers(0, len(before) - 1))
    try:
        pristine.flip(key, at, data.draw(st.integers(1, 255)))
        result = pristine.verify()
    finally:
        pristine.path(key).write_bytes(before)
    assert key in {name for _, name in said(result)}


# ------------------------------------------------------------------ SQL


@pytest.fixture
def sql(pristine: Record, tmp_path: Path) -> Iterator[SqlSink]:
    """A copy of the SQL audit."""
    shutil.copy(pristine.root.parent / "facefog.db", tmp_path / "copy.db")
    sink = SqlSink(f"sqlite:///{tmp_path}/copy.db")
    yield sink
    sink.close()


def execute(sink: SqlSink, statement: str) -> None:
    """Change the database as somebody with its password could."""
    with sink.engine.begin() as connection:
        connection.exec_driver_sql(statement)


def place_in_sql(record: Record, table: str, seq: int = 2) -> str:
    """How a run's rows in SQL are named."""
    return f"sql:{table}/{record.home(seq).removeprefix('runs/')}"


def test_sql_that_says_the_same(record: Record, sql: SqlSink) -> None:
    """The rows that finalise wrote are those of the parts."""
    assert record.verify(sql=sql)["findings"] == []


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("facefog_image", "DELETE FROM facefog_image WHERE rowid = (SELECT min(rowid) FROM facefog_image WHERE RUN)"),
        ("facefog_detection", "DELETE FROM facefog_detection WHERE RUN"),
        ("facefog_image", "UPDATE facefog_image SET width = width + 1 WHERE n_detections = 0 AND RUN"),
        ("facefog_detection", "UPDATE facefog_detection SET confidence = confidence + 1e-9 WHERE RUN"),
        ("facefog_run", "UPDATE facefog_run SET policy_name = 'stricter' WHERE RUN"),
        ("facefog_run", "DELETE FROM facefog_run WHERE RUN"),
    ],
)
def test_a_dropped_row_or_a_changed_value_in_sql(record: Record, sql: SqlSink, table: str, change: str) -> None:
    """Table and run are named."""
    run_key, generation = record.home(2).split("/")[1:]
    execute(sql, change.replace("RUN", f"run_key = '{run_key}' AND generation = {generation}"))
    assert ("sql_differs", place_in_sql(record, table)) in said(record.verify(sql=sql))


def test_a_damaged_database_does_not_hide_the_record(record: Record, tmp_path: Path) -> None:
    """It is named, and so is the part that is wrong."""
    key = record.part("image.parquet", 1)
    record.flip(key)
    (tmp_path / "broken.db").write_bytes(b"no database, " * 1000)
    sink = SqlSink(f"sqlite:///{tmp_path}/broken.db")
    assert said(record.verify(sql=sink)) == {("part_changed", key), ("sql_unreadable", "sql:")}
    sink.close()


def test_a_removed_run_that_sql_remembers(record: Record, sql: SqlSink) -> None:
    """Gone from the audit and from what consumers see: the database still has it."""
    key = record.part("manifest.json", 3)
    no_rows(record)
    assert ("run_removed", key) in said(record.verify(sql=sql))


def test_a_run_that_is_sealed_while_verify_runs(
    record: Record, sql: SqlSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQL has it and the record that was read has not yet: that is no removal."""
    from airflow_facefog.audit import sql_compare

    compare, whole = sql_compare.differences, tmp_path / "whole"
    shutil.copytree(record.root, whole)
    no_rows(record)

    def sealed_meanwhile(*args: Any, **kwargs: Any) -> Any:
        shutil.copytree(whole, record.root, dirs_exist_ok=True)
        return compare(*args, **kwargs)

    monkeypatch.setattr(sql_compare, "differences", sealed_meanwhile)
    assert "run_removed" not in {code for code, _ in said(record.verify(sql=sql))}


def test_a_damaged_part_does_not_hide_what_sql_says_of_other_runs(record: Record, sql: SqlSink) -> None:
    """Both are named."""
    key = record.part("image.parquet", 1)
    record.flip(key)
    execute(sql, f"DELETE FROM facefog_intent WHERE run_key = '{record.home(2).split('/')[1]}'")
    assert said(record.verify(sql=sql)) == {
        ("part_changed", key),
        ("sql_differs", place_in_sql(record, "facefog_intent")),
    }
