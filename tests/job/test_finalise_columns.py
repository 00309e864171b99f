"""Finalise on columns: order and duplicates as row by row, statuses that nobody knows, and what was sent away."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobkit import KEYS, World, attempt, audit_rows

from airflow_facefog.audit.parquet import join_compact, read_compact, to_parquet
from airflow_facefog.core.errors import GateError
from airflow_facefog.core.records import ImageRecord
from airflow_facefog.job import gate
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.plan import make_plan


def compact(images: list[dict[str, Any]], cut: int) -> Any:
    """Image rows as finalise holds them, from two batches."""
    parts = (images[:cut], images[cut:])
    return join_compact([read_compact("facefog_image", to_parquet("facefog_image", part)) for part in parts])


IMAGE_IDS = st.lists(st.none() | st.sampled_from(["i1", "i2", "i3", "ä", "🙂", "\uffff"]), max_size=12)


@settings(max_examples=50, deadline=None)
@given(ids=IMAGE_IDS, cut=st.integers(0, 12), data=st.data())
def test_columns_end_as_rows_would(ids: list[str | None], cut: int, data: st.DataObject) -> None:
    """First of equal bytes in batch order, then sorted by bytes and source: as a plain loop over rows says."""
    names = data.draw(st.permutations(range(len(ids))))
    rows = [
        asdict(ImageRecord("r", 0, f"s{name:02}", "published", "b", "a", image_id=image_id))
        for name, image_id in zip(names, ids, strict=True)
    ]
    found = gate._sorted(gate._mark_duplicates(compact(rows, cut)), "image_id", "source_ref")
    first: dict[str, str] = {}
    for row in rows:
        original = first.setdefault(row["image_id"], row["source_ref"])
        row["duplicate_of"] = None if row["image_id"] is None or original == row["source_ref"] else original
    rows.sort(key=lambda row: (row["image_id"] or "", row["source_ref"]))
    assert to_parquet("facefog_image", found) == to_parquet("facefog_image", rows)


@pytest.mark.parametrize(
    ("statuses", "says"),
    [
        (["published"] * 3, None),
        (["published"] * 2, "does not add up"),
        (["published", "published", "lost"], "no known status"),
        (["skipped", "skipped", "skipped"], None),
        (["quarantined", "failed", "failed"], "none of 3"),
        (["published", "published", "failed"], "max_quarantined"),
    ],
)
def test_the_gate_counts(tmp_path: Path, statuses: list[str], says: str | None) -> None:
    """Three were listed: only statuses that add up to three and are good enough pass."""
    world = World(tmp_path)
    world.photos(3)
    from airflow_facefog.job.model import open_root_plain
    from airflow_facefog.job.opening import open_plan

    plan, _ = open_plan(make_plan(world.request(), KEYS)[0]["plan"], open_root_plain, None)
    rows = [asdict(ImageRecord("r", 0, f"s{n}", status, "b", "a")) for n, status in enumerate(statuses)]
    problem = gate.gate(plan, compact(rows, 1))
    assert (says is None and problem is None) or (says is not None and says in (problem or ""))


def test_one_source_twice_does_not_add_up(tmp_path: Path) -> None:
    """As many rows as were listed, but two of them for one item: refused."""
    from airflow_facefog.job.model import open_root_plain
    from airflow_facefog.job.opening import open_plan

    world = World(tmp_path)
    world.photos(2)
    plan, _ = open_plan(make_plan(world.request(), KEYS)[0]["plan"], open_root_plain, None)
    rows = [asdict(ImageRecord("r", 0, "s1", "published", "b", "a"))] * 2
    assert "add up" in (gate.gate(plan, compact(rows, 1)) or "")


def sent(world: World, batch: int, attempt_id: str, body: str) -> None:
    """An attempt's egress record, as a batch leaves it."""
    folder = sorted(path for path in world.audit.glob("intents/*/*/*") if path.is_dir())[batch] / attempt_id
    folder.mkdir(exist_ok=True)
    (folder / "egress.json").write_text(body)


def ready(tmp_path: Path) -> tuple[World, str]:
    """Two batches, committed."""
    world = World(tmp_path)
    world.photos(6)
    refs = make_plan(world.request(), KEYS)
    for ref in refs:
        run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
    return world, refs[0]["plan"]


def test_what_was_sent_away_is_summed_over_all_attempts(tmp_path: Path) -> None:
    """Attempts that won, died or lost: what they sent to each host is in the run row; a later record changes nothing."""
    world, plan = ready(tmp_path)
    sent(world, 0, "won", '{"a.example": {"calls": 2, "bytes": 10, "credits": 0.5}}')
    sent(world, 0, "died", '{"a.example": {"calls": 1, "bytes": 5, "credits": 0.25}}')
    sent(world, 1, "won", '{"b.example": {"calls": 7, "bytes": 1, "credits": 0.0}}')
    result = finalise(plan, attempt=attempt(), keys=KEYS)
    expected = {
        "a.example": {"bytes": 15, "calls": 3, "credits": 0.75},
        "b.example": {"bytes": 1, "calls": 7, "credits": 0.0},
    }
    (row,) = audit_rows(world, result, "run")
    assert json.loads(row["egress_json"]) == expected
    sent(world, 1, "zombie", '{"c.example": {"calls": 1, "bytes": 1, "credits": 1.0}}')
    again = finalise(plan, attempt=attempt(), keys=KEYS)
    assert (again["manifest_sha256"], audit_rows(world, again, "run")) == (result["manifest_sha256"], [row])


def test_nothing_sent_says_nothing(tmp_path: Path) -> None:
    """Without a record the run row has no egress."""
    world, plan = ready(tmp_path)
    assert audit_rows(world, finalise(plan, attempt=attempt(), keys=KEYS), "run")[0]["egress_json"] is None


@pytest.mark.parametrize(
    "body", ["", "[]", "{", '{"a": {"calls": 1}}', '{"a": {"calls": "x", "bytes": 1, "credits": 1}}']
)
def test_a_damaged_record_of_what_was_sent_stops_the_run(tmp_path: Path, body: str) -> None:
    """An audit must not claim less than was sent: nothing is sealed."""
    world, plan = ready(tmp_path)
    sent(world, 0, "won", body)
    with pytest.raises(GateError, match="egress"):
        finalise(plan, attempt=attempt(), keys=KEYS)
    assert not list(world.audit.rglob("manifest.json"))
    assert world.snapshots() == []
