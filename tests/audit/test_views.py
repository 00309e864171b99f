"""The views: the same rows from every engine, and exactly the oddities that were planted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import askkit
import pytest

from airflow_facefog.audit.query import Engine
from airflow_facefog.audit.reports import REPORTS
from airflow_facefog.audit.views import PREFIX, VIEWS, view_named

ENGINES = ("duckdb", "sqlite", "postgresql")


def same(one: Any, other: Any) -> bool:
    """Equal, floats up to the order of their sum."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12)
    return type(one) is type(other) and one == other


def in_order(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows sorted by text, rounded so that the last digit of a float moves none."""
    return sorted(rows, key=lambda row: [str(round(v, 9)) if isinstance(v, float) else str(v) for v in row])


def agree(answers: list[list[tuple[Any, ...]]]) -> bool:
    """Whether all engines gave the same rows."""
    first, *others = answers
    return all(
        len(first) == len(other)
        and all(same(a, b) for one, two in zip(first, other, strict=True) for a, b in zip(one, two, strict=True))
        for other in others
    )


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_a_view_says_the_same_everywhere(engines: Mapping[str, Engine], view: Any) -> None:
    """Columns as declared; rows equal on DuckDB over Parquet, SQLite and PostgreSQL."""
    answers = [engines[name].ask(f"select * from {view.name}") for name in ENGINES]
    assert [answer.columns for answer in answers] == [view.columns] * len(ENGINES)
    assert agree([in_order(answer.rows) for answer in answers])


@pytest.mark.parametrize("name", sorted(askkit.PLANTED))
def test_a_view_finds_what_was_planted(engines: Mapping[str, Engine], name: str) -> None:
    """Neither less nor more."""
    found = engines["duckdb"].ask(f"select * from facefog_v_{name}").rows
    assert len(found) == askkit.PLANTED[name]


def test_each_leak_is_named(engines: Mapping[str, Engine]) -> None:
    """A region that misses the box, has no extent, leaves the image … each has its own word; a polygon may be smaller."""
    found = engines["sqlite"].ask("select problem, count(*) from facefog_v_leaks group by problem").rows
    assert dict(found) == {
        "above_threshold_not_fogged": 1, "unknown_action": 1, "fogged_without_region": 2, "region_is_empty": 1,
        "region_outside_image": 1, "region_misses_box": 1,
    }  # fmt: skip


def test_each_contradiction_is_named(engines: Mapping[str, Engine]) -> None:
    """Rows that cannot be are told apart."""
    found = (
        engines["postgresql"].ask("select problem, count(*) from facefog_v_inconsistent_images group by problem").rows
    )
    assert dict(found) == {
        "published_without_object": 1, "published_unverified": 1, "published_though_verify_failed": 2,
        "more_fogged_than_detected": 1, "skipped_without_run": 1, "refused_without_reason": 1,
    }  # fmt: skip


def test_the_current_set_follows_the_newest_listing(engines: Mapping[str, Engine]) -> None:
    """Skipped keeps, refused withdraws, a new policy replaces; an erased image and an old generation count once."""
    rows = engines["duckdb"].ask("select * from facefog_v_current where destination = 's3://clean/street'").dicts()
    by_run = {
        name: sum(row["run_key"] == askkit.run_key(name) for row in rows) for name in ("first", "third", "fourth")
    }
    assert by_run == {"first": askkit.FIRST - 5 - askkit.WIDE - 1, "third": askkit.WIDE, "fourth": 13}
    assert len({row["source_ref"] for row in rows}) == len(rows)
    stale = engines["duckdb"].ask("select count(*) from facefog_v_stale_policy where destination = 's3://clean/street'")
    assert stale.rows == [(askkit.WIDE,)]  # the newest run has the first policy again


def test_a_replaced_generation_is_marked(engines: Mapping[str, Engine]) -> None:
    """The first generation is superseded by the second, and no other run is."""
    sql = "select run_id, generation from facefog_v_run_summary where status = 'superseded'"
    assert engines["postgresql"].ask(sql).rows == [("run fourth", 0)]


def test_views_are_named_and_asked_for() -> None:
    """Every view has a question that ends as one, unique columns and a report; names resolve with and without prefix."""
    for view in VIEWS:
        assert view.name.startswith(PREFIX)
        assert "?" in view.question
        assert len(set(view.columns)) == len(view.columns)
        assert view_named(view.name.removeprefix(PREFIX)) is view_named(view.name) is view
    with pytest.raises(KeyError, match="facefog_v_leaks"):
        view_named("nope")
    asked = " ".join(report.sql for report in REPORTS.values())
    assert [view.name for view in VIEWS if view.name not in asked] == ["facefog_v_item_state"]
