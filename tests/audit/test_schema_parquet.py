"""The one column list and its Parquet form."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_facefog.audit import schema
from airflow_facefog.audit.parquet import (
    arrow_schema,
    empty_compact,
    from_parquet,
    join_compact,
    open_part,
    read_arrow,
    read_batches,
    read_compact,
    to_arrow,
    to_parquet,
)
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.records import DetectionRecord, ImageRecord, IntentRecord

RECORDS = [(schema.IMAGE, ImageRecord), (schema.DETECTION, DetectionRecord), (schema.INTENT, IntentRecord)]

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = {
    "text": TEXT, "json": TEXT, "timestamp": TEXT, "integer": st.integers(-(2**63), 2**63 - 1),
    "flag": st.integers(0, 1), "float": st.floats(allow_nan=False),
}  # fmt: skip


def image(n: int, **changes: object) -> ImageRecord:
    """A published image row."""
    row = ImageRecord("r" * 32, 0, f"{n:064x}", "published", "b" * 16, "a1", image_id=f"{n + 7:064x}", n_detections=2)
    return replace(row, **changes)


def rows_of(table: schema.Table) -> st.SearchStrategy[dict[str, object]]:
    """Any legal row of a table."""
    columns = {c.name: st.none() | VALUES[c.type] if c.nullable else VALUES[c.type] for c in table.columns}
    return st.fixed_dictionaries(columns)


@pytest.mark.parametrize(("table", "record"), RECORDS, ids=lambda v: getattr(v, "name", ""))
def test_records_are_the_columns(table, record):
    """Records and tables cannot drift apart: same names, same order, and the same idea of what may be missing."""
    assert [f.name for f in fields(record)] == list(table.column_names)
    for field, column in zip(fields(record), table.columns, strict=True):
        assert ("None" in str(field.type)) == column.nullable, column.name
        base = {"str": ("text", "json", "timestamp"), "int": ("integer", "flag"), "float": ("float",)}
        assert column.type in base[str(field.type).split(" |")[0]], column.name
        assert not (field.default is None and not column.nullable)


@pytest.mark.parametrize("table", schema.TABLES.values(), ids=lambda t: t.name)
def test_primary_keys_exist_and_are_never_null(table):
    """A primary key names columns of its table, and none of them may be missing."""
    columns = {c.name: c for c in table.columns}
    assert len(columns) == len(table.columns)
    assert table.primary_key
    assert not any(columns[name].nullable for name in table.primary_key)


def test_the_protocol_decides_the_keys():
    """Identity is the listed item: image, detection and intent rows are keyed by source_ref under run and generation."""
    item = ("run_key", "generation", "source_ref")
    assert schema.RUN.primary_key == item[:2]
    assert schema.IMAGE.primary_key == item
    assert schema.DETECTION.primary_key == (*item, "det_idx")
    assert schema.INTENT.primary_key[:4] == (*item, "attempt_id")
    assert schema.SOURCE.primary_key == ("source_ref",)


def test_docs_show_the_schema():
    """docs/audit.md holds exactly the generated tables."""
    text = (Path(__file__).parents[2] / "docs" / "audit.md").read_text("utf-8")
    shown = re.search(r"<!-- generated: schema -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert shown is not None
    assert shown.group(1) == schema.markdown()


def test_no_column_holds_what_the_audit_promises_not_to_hold():
    """No crop, embedding, landmark, attribute or perceptual hash of raw images, ever; no error messages."""
    banned = {"crop", "embedding", "landmark", "landmarks", "age", "gender", "phash", "dhash", "thumbnail", "message"}
    for table in schema.TABLES.values():
        for name in table.column_names:
            assert not banned & set(name.split("_")), name


def test_schema_is_light():
    """The column list can be read while a Dag is parsed."""
    code = (
        "import sys, airflow_facefog.audit.schema, airflow_facefog.audit.parquet, airflow_facefog.audit.sql;"
        "print(sorted({'pyarrow','sqlalchemy','numpy','airflow','upath'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("table", schema.TABLES.values(), ids=lambda t: t.name)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_parquet_round_trip(table, data):
    """Any legal rows come back as they were, in order, and the same rows make the same bytes."""
    rows = data.draw(st.lists(rows_of(table), max_size=4))
    encoded = to_parquet(table.name, rows)
    assert from_parquet(table.name, encoded) == rows
    assert to_parquet(table.name, rows) == encoded


def test_records_and_mappings_make_the_same_bytes():
    """A part does not depend on whether its rows were records or mappings."""
    rows = [image(n) for n in range(5)]
    assert to_parquet("facefog_image", rows) == to_parquet("facefog_image", [asdict(row) for row in rows])


@pytest.mark.parametrize("table", schema.TABLES.values(), ids=lambda t: t.name)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_compact_parts_join_to_the_same_bytes(table, data):
    """However rows were cut into parts, coded and joined again: the bytes are those of the rows written at once."""
    parts = data.draw(st.lists(st.lists(rows_of(table), max_size=3), max_size=3))
    found = [read_compact(table.name, to_parquet(table.name, part)) for part in parts]
    joined = join_compact([empty_compact(table.name), *found])
    rows = [row for part in parts for row in part]
    assert joined.to_pylist() == rows
    assert to_parquet(table.name, joined) == to_parquet(table.name, rows)


def test_row_groups_do_not_depend_on_chunks(monkeypatch):
    """A look-up reads one group: groups have a fixed number of rows, also when a table came in odd chunks."""
    monkeypatch.setattr("airflow_facefog.audit.parquet.ROW_GROUP", 4)
    whole = to_arrow("facefog_image", [image(n) for n in range(10)])
    data = to_parquet("facefog_image", pa.concat_tables([whole.slice(0, 3), whole.slice(3)]))
    assert data == to_parquet("facefog_image", whole)
    assert [open_part("facefog_image", data).metadata.row_group(n).num_rows for n in range(3)] == [4, 4, 2]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop_columns("status"), "has the columns"),
        (lambda t: t.append_column("crop", t["status"]), "has the columns"),
        (
            lambda t: t.set_column(3, "status", pa.array([None], pa.string())),
            "facefog_image.status: a row has no value",
        ),
        (lambda t: t.set_column(9, "width", pa.array(["secret.jpg"])), "facefog_image.width: a value is not int64"),
    ],
)
def test_wrong_tables_are_refused(change, says):
    """Columns are checked like rows: by name, value hidden."""
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        to_parquet("facefog_image", change(to_arrow("facefog_image", [image(1)])))
    assert "secret" not in str(caught.value)


def test_infinite_psnr_survives():
    """Bit-equal outside means an infinite PSNR; it is a value, not a gap."""
    (row,) = from_parquet("facefog_image", to_parquet("facefog_image", [image(1, outside_psnr=float("inf"))]))
    assert row["outside_psnr"] == float("inf")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([image(1, status=None)], "facefog_image.status"),
        ([image(1, width="secret-name.jpg")], "facefog_image.width"),
        ([image(1, refogged=300)], "facefog_image.refogged"),
        ([image(1, source_group="\udcff")], "facefog_image.source_group"),
        ([{**asdict(image(1)), "crop": "x"}], "no column 'crop'"),
        ([{k: v for k, v in asdict(image(1)).items() if k != "run_key"}], "facefog_image.run_key"),
        ([asdict(image(1)), {**asdict(image(2)), "face": "x"}], "no column 'face'"),
    ],
)
def test_wrong_rows_are_refused(rows, says):
    """A missing, unknown or mistyped value stops the write and is named by its column, never quoted."""
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        to_parquet("facefog_image", rows)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_unknown_table_is_named():
    """A typo in a table name lists the real ones."""
    with pytest.raises(KeyError, match="facefog_image"):
        to_parquet("image", [])


@pytest.mark.parametrize("cut", [0, 10, -1])
def test_damaged_parts_are_refused(cut):
    """A truncated or foreign part is an error, not an empty table."""
    data = to_parquet("facefog_image", [image(1)])[:cut]
    with pytest.raises(ConfigurationError, match="facefog_image"):
        from_parquet("facefog_image", data)


def test_a_part_of_another_table_is_refused():
    """Rows of one table are never read as rows of another."""
    with pytest.raises(ConfigurationError, match="not facefog_detection"):
        from_parquet("facefog_detection", to_parquet("facefog_image", [image(1)]))


def older(data: bytes, version: str = "1", without: Sequence[str] = ("pixel_id", "leaf_idx")) -> bytes:
    """A part as an older release wrote it."""
    found = pq.read_table(pa.BufferReader(data)).drop_columns(list(without))
    sink = pa.BufferOutputStream()
    pq.write_table(found.replace_schema_metadata({**found.schema.metadata, b"facefog_schema_version": version}), sink)
    return bytes(sink.getvalue())


def test_parts_of_schema_version_1_are_read():
    """Whichever way a part is read: what the older release did not record is None, everything else is as it was."""
    rows = [{**asdict(image(n)), "pixel_id": None, "leaf_idx": None} for n in range(3)]
    data = older(to_parquet("facefog_image", rows))
    assert from_parquet("facefog_image", data) == rows
    assert read_compact("facefog_image", data).to_pylist() == rows
    assert read_arrow("facefog_image", data, ["leaf_idx", "status"]).to_pylist()[0] == {
        "leaf_idx": None, "status": "published",
    }  # fmt: skip
    batches = list(read_batches("facefog_image", data, ["pixel_id", "source_ref"], 2))
    assert [b.to_pylist() for b in batches] == [
        [{"pixel_id": None, "source_ref": r["source_ref"]} for r in part] for part in (rows[:2], rows[2:])
    ]
    assert read_arrow("facefog_image", data).schema.metadata[b"facefog_schema_version"] == b"1"


def test_parts_of_two_versions_join():
    """A run that was planned and half done by an older release is finished by this one."""
    parts = [older(to_parquet("facefog_image", [image(1)])), to_parquet("facefog_image", [image(2, pixel_id="p")])]
    for order in (parts, parts[::-1]):
        joined = join_compact([read_compact("facefog_image", part) for part in order])
        assert sorted(joined["pixel_id"].to_pylist(), key=str) == [None, "p"]
        assert from_parquet("facefog_image", to_parquet("facefog_image", joined)) == joined.to_pylist()


@pytest.mark.parametrize(
    ("version", "without"),
    [
        ("3", ()),
        ("0", ()),
        ("x", ()),
        ("-1", ()),
        ("2", ("leaf_idx",)),
        ("1", ("status",)),
        ("1", ("run_key", "leaf_idx")),
    ],
)
def test_parts_of_no_known_version_are_refused(version, without):
    """A newer part, one that lacks what its own version has, and one without a column that was never optional."""
    with pytest.raises(ConfigurationError, match="schema version 2 or older"):
        read_arrow("facefog_image", older(to_parquet("facefog_image", [image(1)]), version, without))


def test_compacted_parts_can_be_looked_up(monkeypatch):
    """Each group of a sealed run's part has a Bloom filter on image_id and pages an index; bytes do not depend on chunks."""
    monkeypatch.setattr("airflow_facefog.audit.parquet.ROW_GROUP", 4)
    whole = to_arrow("facefog_image", [image(n) for n in range(10)])
    data = to_parquet("facefog_image", whole, compacted=True)
    assert data == to_parquet("facefog_image", pa.concat_tables([whole.slice(0, 3), whole.slice(3)]), compacted=True)
    assert to_parquet("facefog_image", join_compact([read_compact("facefog_image", data)]), compacted=True) == data
    metadata = open_part("facefog_image", data).metadata
    for group in range(3):
        columns = {c.path_in_schema: c for c in map(metadata.row_group(group).column, range(metadata.num_columns))}
        assert columns["image_id"].has_column_index
        assert columns["status"].has_offset_index
    with duckdb.connect() as connection, tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        Path(file.name).write_bytes(data)
        probe = "select bloom_filter_excludes from parquet_bloom_probe(?, 'image_id', ?)"
        (absent, present) = (connection.execute(probe, [file.name, f"{n:064x}"]).fetchall() for n in (999, 8))
    assert absent == [(True,)] * 3
    assert present == [(False,), (True,), (True,)]


def test_an_empty_part_can_be_compacted():
    """A run without detections has such a part."""
    assert from_parquet("facefog_detection", to_parquet("facefog_detection", [], compacted=True)) == []


def test_some_columns_only():
    """A look-up reads the columns that it needs."""
    part = to_parquet("facefog_image", [image(1), image(2)])
    found = read_arrow("facefog_image", part, ["source_ref", "status"])
    assert found.column_names == ["source_ref", "status"]
    assert found.num_rows == 2


def test_arrow_types():
    """Flags are small integers, so that every SQL dialect can sum them."""
    assert arrow_schema("facefog_image").field("refogged").type == pa.int8()
    assert to_arrow("facefog_image", []).num_rows == 0
