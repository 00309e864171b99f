"""Verification of audits that were amended, and what an attacker could do with amendments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from upath import UPath
from verifykit import Record, build, copies, said

from airflow_facefog.audit import amendments
from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.audit.parquet import read_arrow
from airflow_facefog.publish.store import Store

REQUEST = amendments.Request("e" * 32, "erasure", "tester")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The audit, made once."""
    return build(tmp_path_factory.mktemp("world"))


@pytest.fixture
def record(pristine: Record, tmp_path: Path) -> Iterator[Record]:
    """A copy to amend."""
    yield from copies(pristine, tmp_path)


def erase_first_row(record: Record, seq: int = 2) -> tuple[str, dict[str, bytes]]:
    """Remove one image's rows from a run as ``erase`` does; return its object's URI and the parts as they were."""
    import pyarrow as pa
    import pyarrow.compute as pc

    audit = Store(UPath(record.root))
    ledger = open_ledger(audit)
    run = ledger.runs[seq - 1]
    before = {part.key: audit.read(part.key) for part in run.parts.values()}
    table = read_arrow("facefog_image", before[run.parts["image"].key])
    row: dict[str, Any] = table.filter(pc.greater(table["n_detections"], 0)).slice(0, 1).to_pylist()[0]
    wanted = pa.array([row["source_ref"]])

    def gone(rows: Any) -> Any:
        return pc.is_in(rows["source_ref"], value_set=wanted)

    cursor = amendments.Cursor.after(ledger)
    amendments.remove_rows(audit, cursor, run, REQUEST, gone, record.signer, objects_removed=1)
    amendments.sweep(audit, open_ledger(audit))
    return str(row["output_uri"]), before


def test_an_erased_image_leaves_an_audit_that_verifies(record: Record) -> None:
    """The chain says what changed; nobody misses the object that the erasure removed."""
    uri, _ = erase_first_row(record)
    Path(uri.removeprefix("file://")).unlink()
    result = record.verify(deep=True, heads=(record.head,), require_signed=True)
    assert result["findings"] == []
    assert result["entries"] == 4


def test_a_second_amendment_continues_from_the_first(record: Record) -> None:
    """Two erasures in one run, then another run expires: still right."""
    erase_first_row(record)
    erase_first_row(record)
    audit = Store(UPath(record.root))
    ledger = open_ledger(audit)
    expiry = amendments.Request("f" * 32, "expiry")
    amendments.remove_parts(
        audit,
        amendments.Cursor.after(ledger),
        ledger.runs[0],
        expiry,
        ("image", "detection", "intent", "leaf"),
        record.signer,
    )
    amendments.sweep(audit, open_ledger(audit))
    result = record.verify(deep=True)
    assert result["verified"]
    assert said(result, "notice") == {("not_checked", record.part("manifest.json", 1))}
    assert result["notices"] == 2  # neither leaves nor objects


def test_erased_rows_that_are_still_there(record: Record) -> None:
    """A part that an amendment replaced must be gone, and so must the salts."""
    _, before = erase_first_row(record)
    for key, data in before.items():
        record.path(key).write_bytes(data)
    salts = record.part("salt.bin")
    record.path(salts).write_bytes(b"\0" * 16)
    assert said(record.verify()) == {("erased_part_still_there", key) for key in (*before, salts)}


def test_an_amendment_that_was_taken_back(record: Record) -> None:
    """Its entry is gone: the parts that the manifest names are missing."""
    erase_first_row(record)
    record.path("chain/0000000004.json").unlink()
    missing = {("part_missing", record.part(f"{name}.parquet")) for name in ("image", "detection", "intent", "leaf")}
    assert said(record.verify()) == missing


@pytest.mark.parametrize("field", ["replaces", "rows", "key"])
def test_an_amendment_that_does_not_fit(record: Record, field: str) -> None:
    """An entry by the right key that continues from other parts, removes more than it says or leaves the run's folder."""
    erase_first_row(record)
    entry = record.entry(4)
    part = entry["parts"]["image"]
    part[field] = {"replaces": "0" * 64, "rows": part["rows"] - 1, "key": record.part("image.parquet", 1)}[field]
    record.write("chain/0000000004.json", entry, record.signer)
    assert ("amendment_wrong", "chain/0000000004.json") in said(record.verify())


def test_an_amendment_of_no_run(record: Record) -> None:
    """It amends what is not there."""
    erase_first_row(record)
    record.write("chain/0000000004.json", {**record.entry(4), "run_key": "0" * 32}, record.signer)
    assert ("amendment_wrong", "chain/0000000004.json") in said(record.verify())


def test_an_amendment_that_stopped_before_its_entry(record: Record) -> None:
    """Its parts are leftovers: a notice, and the run is as it was."""
    key = record.part(f"amended/{'e' * 32}/image.parquet")
    record.path(key).parent.mkdir(parents=True)
    record.path(key).write_bytes(b"x")
    result = record.verify()
    assert result["verified"]
    assert said(result, "notice") == {("leftover", key)}
