"""Salted leaves: the whole-table form and the row form agree, and every value counts."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, fields
from typing import Any

import pyarrow as pa
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_facefog.audit import leaf_rows, leaves
from airflow_facefog.audit.parquet import read_compact, to_arrow, to_parquet
from airflow_facefog.audit.schema import DETECTION, IMAGE, Table
from airflow_facefog.audit.sealed import LedgerError
from airflow_facefog.core.records import DetectionRecord, ImageRecord

Row = dict[str, Any]

RUN = {"run_key": "r" * 32, "generation": 0}
SALTS = bytes(range(256))
VALUES = {
    "integer": st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3),
    "flag": st.integers(0, 1),
    "float": st.floats() | st.sampled_from([0.0, -0.0, 1e17, 1.0, 0.5]),
}
TEXT = st.text(max_size=8) | st.sampled_from(["", "face", "null", "true"])


def row_of(table: Table, fixed: Row) -> st.SearchStrategy[Row]:
    """Any row that the table can hold, with some columns given."""
    columns = {}
    for column in table.columns:
        values = VALUES.get(column.type, TEXT)
        columns[column.name] = values | st.none() if column.nullable else values
    return st.fixed_dictionaries({name: st.just(fixed[name]) if name in fixed else columns[name] for name in columns})


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Images and their detections, each in any order."""
    images: list[Row] = []
    detections: list[Row] = []
    for index in range(draw(st.integers(0, 4))):
        ids = {**RUN, "source_ref": f"ref-{index}é", "image_id": draw(TEXT)}
        images.append(draw(row_of(IMAGE, ids)))
        for rank in range(draw(st.integers(0, 3))):
            detections.append(draw(row_of(DETECTION, {**ids, "det_idx": rank})))
    return draw(st.permutations(images)), draw(st.permutations(detections))


def image(index: int = 0, **changes: Any) -> Row:
    """One published image."""
    row = ImageRecord(
        **RUN, source_ref=f"s{index}", status="published", batch_id="b", attempt_id="a", image_id=f"i{index}",
        output_sha256="o", n_detections=1, outside_psnr=44.5,
    )  # fmt: skip
    return {**asdict(row), **changes}


def detection(index: int = 0, rank: int = 0, **changes: Any) -> Row:
    """One fogged detection of ``image(index)``."""
    row = DetectionRecord(
        **RUN, source_ref=f"s{index}", image_id=f"i{index}", det_idx=rank, detector="d", class_name="face",
        confidence=0.9, threshold=0.5, x1=1.0, y1=2.0, x2=3.0, y2=4.0, n_members=1, polygon=None, action="fogged",
        reason=None, method="fog", params_hash="p", fx1=0, fy1=0, fx2=8, fy2=8, irreversible=1,
    )  # fmt: skip
    return {**asdict(row), **changes}


def made(images: list[Row], detections: list[Row]) -> list[bytes]:
    """Leaves of the whole-table form over plain tables."""
    tables = to_arrow(IMAGE.name, images), to_arrow(DETECTION.name, detections)
    found = leaves.make_leaves(*tables, SALTS[: 16 * len(images)])
    return [found[at : at + 32] for at in range(0, len(found), 32)]


def by_row(images: list[Row], detections: list[Row]) -> list[bytes]:
    """Leaves of the row form."""
    rows = {row["source_ref"]: [d for d in detections if d["source_ref"] == row["source_ref"]] for row in images}
    salts = [SALTS[at : at + 16] for at in range(0, 256, 16)]
    return [
        leaves.leaf_of(row, rows[row["source_ref"]], salt) for row, salt in zip(images, salts, strict=False)
    ]  # fmt: skip


def through_json(row: Row) -> Row:
    """The row as a certificate carries it."""
    return dict(json.loads(rfc8785.dumps(leaves.to_json(row))))


@settings(max_examples=50, deadline=None)
@given(runs())
def test_all_forms_agree(run: tuple[list[Row], list[Row]]) -> None:
    """Plain tables, compact tables, rows and JSON rows give the same leaves, whatever the values are."""
    images, detections = run
    expected = by_row(images, detections)
    assert made(images, detections) == expected
    compact = [read_compact(t.name, to_parquet(t.name, rows)) for t, rows in ((IMAGE, images), (DETECTION, detections))]
    assert leaves.make_leaves(*compact, SALTS[: 16 * len(images)]) == b"".join(expected)
    assert by_row([through_json(row) for row in images], [through_json(row) for row in detections]) == expected


@settings(max_examples=25, deadline=None)
@given(runs())
def test_small_and_large_tables_go_the_same_way(run: tuple[list[Row], list[Row]]) -> None:
    """What many rows or many distinct ones take - pieces, hash tables, renumbering - gives the same leaves."""
    images, detections = run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaves, "AT_ONCE", 2)
        patch.setattr(leaf_rows, "SMALL", 1)
        patch.setattr(leaf_rows, "FEW", 1)
        patch.setattr(leaf_rows, "CODES", 4)
        assert made(images, detections) == by_row(images, detections)


def test_chunks_slices_and_stray_codes_change_nothing() -> None:
    """Chunked, sliced and dictionary-coded tables with unused entries give the leaves of their values."""
    images = [image(index) for index in range(6)]
    detections = [detection(index, rank) for index in range(6) for rank in range(index % 3)]
    compact = read_compact(IMAGE.name, to_parquet(IMAGE.name, images))
    rows = read_compact(DETECTION.name, to_parquet(DETECTION.name, detections))
    chunked = pa.concat_tables([rows.slice(0, 2), rows.slice(2)])
    some = leaves.make_leaves(pa.concat_tables([compact.slice(2, 1), compact.slice(3)]), chunked.slice(1), SALTS[:64])
    assert some == b"".join(by_row(images[2:], detections[1:]))
    assert leaves.make_leaves(compact, rows.slice(0, 0), SALTS[:96]) == b"".join(by_row(images, []))


OTHER = {"text": "other", "json": "other", "timestamp": "other", "integer": 77, "flag": 0, "float": 0.25}
IMAGE_COLUMNS = [c.name for c in IMAGE.columns if c.name not in (*leaves.LEFT_OUT, *leaves.SHARED)]
DETECTION_COLUMNS = [c.name for c in DETECTION.columns if c.name not in leaves.SHARED]


@pytest.mark.parametrize("name", IMAGE_COLUMNS)
def test_every_column_of_an_image_counts(name: str) -> None:
    """Another value, and no value, each give another leaf."""
    kind = next(column.type for column in IMAGE.columns if column.name == name)
    empty = "" if kind in ("text", "json", "timestamp") else 0
    found = {by_row([image(**{name: value})], [detection()])[0] for value in (OTHER[kind], empty, None)}
    assert len(found) == 3 or (OTHER[kind] == empty and len(found) == 2)


@pytest.mark.parametrize("name", DETECTION_COLUMNS)
def test_every_column_of_a_detection_counts(name: str) -> None:
    """Another value, and no value, each give another leaf."""
    kind = next(column.type for column in DETECTION.columns if column.name == name)
    empty = "" if kind in ("text", "json", "timestamp") else 0
    found = {by_row([image()], [detection(**{name: value})])[0] for value in (OTHER[kind], empty, None)}
    assert len(found) == 3 or (OTHER[kind] == empty and len(found) == 2)


@pytest.mark.parametrize("name", leaves.SHARED)
def test_shared_columns_count_with_the_image(name: str) -> None:
    """Another run, generation, source or image gives another leaf."""
    other: Row = {name: 5 if name == "generation" else "other"}
    assert by_row([image(**other)], [detection(**other)]) != by_row([image()], [detection()])


def test_texts_do_not_run_into_each_other() -> None:
    """What moves from the end of one text to the start of the next, or to the next row, changes the leaf."""
    assert by_row([image(output_sha256="ab", output_uri="c")], []) != by_row(
        [image(output_sha256="a", output_uri="bc")], []
    )
    rows = [
        [detection(0, 0, polygon=a), detection(0, 1, polygon=b)] for a, b in (("[1]", ""), ("", "[1]"), ("[1]", None))
    ]
    assert len({by_row([image()], pair)[0] for pair in rows}) == 3


def test_salt_number_and_order() -> None:
    """The salt and how many detections there are count; the order in which they come does not."""
    one, two = detection(0, 0), detection(0, 1)
    leaf = leaves.leaf_of(image(), [one, two], SALTS[:16])
    assert leaf == leaves.leaf_of(image(), [two, one], SALTS[:16])
    assert leaf not in {leaves.leaf_of(image(), [one, two], SALTS[1:17]), leaves.leaf_of(image(), [one], SALTS[:16])}


def test_leaf_idx_is_left_out() -> None:
    """The row's place is said by the proof: it is filled in after or before the leaves are made."""
    assert made([image(leaf_idx=7)], []) == made([image()], [])


def test_known_leaf() -> None:
    """The format is frozen: a change of it makes every certificate that was given out worthless."""
    assert by_row([image()], [detection()])[0].hex() == KNOWN


def test_a_later_column_changes_no_old_leaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release with more nullable columns makes the old leaves again; where they have values, they count."""
    before = by_row([image()], [detection()])
    later = [Table(t.name, t.doc, (*t.columns, *NEW), t.primary_key) for t in (IMAGE, DETECTION)]
    monkeypatch.setattr(leaves, "IMAGE", later[0])
    monkeypatch.setattr(leaves, "DETECTION", later[1])
    empty = {column.name: None for column in NEW}
    assert by_row([image(**empty)], [detection(**empty)]) == before
    tables = [
        to_arrow(name, [row]).append_column("new_text", pa.array([None], pa.string()))
        .append_column("new_float", pa.array([-0.0])).append_column("new_int", pa.array([2**60]))
        for name, row in ((IMAGE.name, image()), (DETECTION.name, detection()))
    ]  # fmt: skip
    values = {"new_float": 0.0, "new_int": 2**60}
    assert leaves.make_leaves(*tables, SALTS[:16]) == by_row([image(**values)], [detection(**values)])[0] != before[0]


NEW = tuple(
    type(IMAGE.columns[0])(f"new_{short}", kind, True, "added later")  # type: ignore[arg-type]
    for short, kind in (("text", "text"), ("float", "float"), ("int", "integer"))
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_ref": "elsewhere"}, "belongs to no image"),
        ({"image_id": "i1"}, "another image_id"),
        ({"run_key": "x"}, "another run_key"),
        ({"generation": 1}, "another generation"),
    ],
)
def test_mixed_up_parts_are_refused(change: Row, message: str) -> None:
    """A detection that no image covers, or that contradicts its image, is never sealed nor proven."""
    with pytest.raises(LedgerError, match=message):
        made([image(0), image(1)], [detection(0, 0), detection(0, 1, **change)])
    with pytest.raises(LedgerError, match="another"):
        leaves.leaf_of(image(0), [detection(0, 0), detection(0, 1, **change)], SALTS[:16])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_fogged", 1.0), ("n_fogged", True), ("n_fogged", "1x"), ("n_fogged", " 1"), ("n_fogged", 2**63),
        ("n_fogged", "01"), ("outside_psnr", "44.50"), ("outside_psnr", True), ("outside_psnr", 2**53 + 1),
        ("outside_psnr", 10**400), ("outside_psnr", "many"), ("status", 5), ("status", "\ud800"), ("width", [1]),
        ("no_such_column", 1),
    ],
)  # fmt: skip
def test_rows_say_exactly_what_was_hashed(name: str, value: Any) -> None:
    """A value that would be rounded, cut or ignored is refused: a certificate shows what its leaf holds."""
    with pytest.raises(LedgerError, match=name):
        leaves.leaf_of(image(**{name: value}), [], SALTS[:16])


def test_one_nan_and_one_zero() -> None:
    """Every NaN is the same NaN, -0.0 is 0.0, and NaN is neither 0.0 nor no value."""
    nans = pa.array([math.nan]).to_numpy().copy()
    nans.view("u8")[0] ^= 1
    table = to_arrow(IMAGE.name, [image()])
    index = table.schema.get_field_index("outside_psnr")
    odd = table.set_column(index, "outside_psnr", pa.array(nans))
    none = to_arrow(DETECTION.name, [])
    assert leaves.make_leaves(odd, none, SALTS[:16]) == made([image(outside_psnr=math.nan)], [])[0]
    found = [by_row([image(outside_psnr=value)], [])[0] for value in (math.nan, 0.0, -0.0, None)]
    assert found[1] == found[2]
    assert len(set(found)) == 3


def test_every_column_has_its_place() -> None:
    """What is frozen names real columns, and none that is left out."""
    for table, left_out in ((IMAGE, leaves.LEFT_OUT), (DETECTION, leaves.SHARED)):
        assert set(leaves.FIXED[table.name]) <= set(table.column_names) - set(left_out)
        assert list(leaves.FIXED[table.name]) == sorted(leaves.FIXED[table.name])
    assert {field.name for field in fields(ImageRecord)} == set(IMAGE.column_names)


def test_leaf_table() -> None:
    """The leaf part holds salts and leaves, no ids; sizes must fit."""
    salts, found = os.urandom(48), os.urandom(96)
    table = leaves.leaf_table(salts, found)
    assert table.schema == leaves.LEAF_SCHEMA()
    assert b"".join(table["salt"].to_pylist()) == salts
    assert b"".join(table["leaf"].to_pylist()) == found
    with pytest.raises(ValueError, match="do not fit"):
        leaves.leaf_table(salts, found[:64])


def test_salts_must_fit() -> None:
    """One salt for each image, of 16 bytes."""
    with pytest.raises(ValueError, match="16"):
        leaves.make_leaves(to_arrow(IMAGE.name, [image()]), to_arrow(DETECTION.name, []), SALTS[:15])
    with pytest.raises(LedgerError, match="16"):
        leaves.leaf_of(image(), [], SALTS[:15])


KNOWN = "18c254531844e71b4473d4ee64c9b5c6459e0e126c3147e95d4d17bf3973ac2c"
