"""One image's story and the named checks, on three engines; what plans say of runs that were never sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import askkit
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from airflow_facefog.audit import story, unfinished, zero_rate
from airflow_facefog.audit.checks import CHECKS, Asked, CheckOptions, run_checks
from airflow_facefog.audit.duck import open_duck
from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.audit.query import Engine
from airflow_facefog.audit.sealed import SigningKey
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.publish.store import Store

ENGINES = ("duckdb", "sqlite", "postgresql")
IMAGE = askkit.digest("image first 0101")


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    "text", [IMAGE, IMAGE[:12], askkit.digest("ref first 0101"), askkit.digest("out first 0101 p1").upper()]
)
def test_every_name_of_an_image_leads_to_its_story(engines: Mapping[str, Engine], name: str, text: str) -> None:
    """By image_id, a prefix, its item or an output: two runs in order, detections with each, the newest one marked."""
    engine = engines[name]
    told = story.tell(engine, story.find(engine, text))
    story.add_intents(engine, told)
    story.mark_newest(engine, told)
    assert told["image_ids"] == [IMAGE]
    assert [(row["run_id"], row["policy_name"], row["newest"]) for row in told["runs"]] == [
        ("run first", "p1", False), ("run third", "p2", True),
    ]  # fmt: skip
    for row in told["runs"]:
        assert [found["action"] for found in row["detections"]] == ["fogged", "fogged", "below_threshold"]
        assert [intent["output_sha256"] for intent in row["intents"]] == [row["output_sha256"]]
        assert row["model_version"] == ("v1" if row["policy_name"] == "p1" else "v2")


def test_the_story_is_the_same_everywhere(engines: Mapping[str, Engine], planted: Store) -> None:
    """Equal rows from all engines; the ledger adds the place in the chain."""
    for text in (IMAGE, askkit.digest("image first 0001"), askkit.digest("image marked 3")):
        tales = [story.tell(engines[name], story.find(engines[name], text)) for name in ENGINES]
        assert tales[0] == tales[1] == tales[2]
    told = story.tell(engines["duckdb"], story.find(engines["duckdb"], IMAGE), open_ledger(planted))
    assert [row["seq"] for row in told["runs"]] == [1, 3]


def test_the_story_holds_refusals_transfers_and_amendments(engines: Mapping[str, Engine]) -> None:
    """What was skipped says by whom it was done; what left the house and what changed the record is there."""
    engine = engines["sqlite"]
    told = story.tell(engine, story.find(engine, askkit.digest("image first 0001")))
    story.mark_newest(engine, told)
    assert [(row["status"], row["done_run_key"]) for row in told["runs"]] == [
        ("published", None), ("skipped", askkit.run_key("first")),
    ]  # fmt: skip
    assert [row["newest"] for row in told["runs"]] == [True, False]
    assert [row["kind"] for row in told["egress"]] == ["inference", "upload"]
    assert {(row["reason"], row["actor"]) for row in told["amendments"]} == {("erasure", "dpo")}
    assert story.source_names(engine, told["source_refs"])
    withdrawn = story.tell(engine, story.find(engine, askkit.digest("image first 0041")))
    story.mark_newest(engine, withdrawn)
    assert [(row["status"], row["reason"], row["newest"]) for row in withdrawn["runs"]] == [
        ("published", None, False), ("quarantined", "verify_failed", False),
    ]  # fmt: skip
    lost = story.tell(engine, story.find(engine, askkit.digest("ref lost 1")))
    assert lost["image_ids"] == []
    assert [row["reason"] for row in lost["runs"]] == ["source_missing"]


@pytest.mark.parametrize("name", ENGINES)
def test_a_name_that_means_nothing_or_much_is_refused(engines: Mapping[str, Engine], name: str) -> None:
    """Too short, no hex, unknown, erased; a prefix of two ids asks for more digits."""
    engine = engines[name]
    for text in (
        "abc",
        "x" * 64,
        "g" * 64,
        "0" * 63,
        askkit.digest("nobody"),
        askkit.digest("image first 1499"),
        "%' or 1=1",
    ):
        with pytest.raises(ConfigurationError):
            story.find(engine, text)


def test_an_ambiguous_prefix_asks_for_more(tmp_path: Path) -> None:
    """Two ids with the same first nine digits."""
    audit, run = Store(UPath(tmp_path)), askkit.Run("one", 1)
    for n in range(2):
        run.add(f"a {n}", image_id=f"abcdef123{n}" + "0" * 54)
    askkit.seal(audit, run)
    duck = open_duck(audit, open_ledger(audit))
    with pytest.raises(ConfigurationError, match="more digits"):
        story.find(duck, "abcdef123")
    assert story.find(duck, "abcdef1231").value == "abcdef1231" + "0" * 54


# ------------------------------------------------------------------ checks

FAILS = {
    "nothing-unfogged-published": 7 + 7 + 2, "intent-before-publish": 2, "counts-add-up": 2, "nothing-unfinished": 1,
    "no-linkable-methods": 4, "outputs-agree": 1, "quarantine-rate": 0, "zero-detection-rate": 0, "sources-not-overdue": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", ENGINES)
def test_checks_find_what_was_planted(engines: Mapping[str, Engine], planted: Store, name: str) -> None:
    """The same numbers of rows from every engine, the names of those that failed, and a few rows as detail."""
    result = run_checks(Asked(engines[name], planted, open_ledger(planted)), list(FAILS))
    assert {one["name"]: one["rows"] for one in result["checks"]} == FAILS
    assert result["failed"] == [check for check, rows in FAILS.items() if rows]
    assert not result["passed"]
    assert all(len(one["detail"]) == min(one["rows"], 5) for one in result["checks"])
    json.dumps(result)


def test_limits_and_the_clock_decide(engines: Mapping[str, Engine]) -> None:
    """A later now: the same record fails another check; limits are numbers with known names."""
    options = CheckOptions(now=datetime(2999, 5, 1, tzinfo=UTC))
    result = run_checks(Asked(engines["duckdb"], options=options), ["sources-not-overdue"])
    assert [one["rows"] for one in result["checks"]] == [20]
    assert CheckOptions.from_mapping({"history": "7", "sigmas": 3}) == CheckOptions(history=7, sigmas=3.0, now=_any())
    for wrong in (
        {"nope": 1},
        {"sigmas": "x"},
        {"sigmas": 0},
        {"max_quarantined": 2},
        {"min_history": 50},
        {"history": None},
    ):
        with pytest.raises(ConfigurationError, match="option"):
            CheckOptions.from_mapping(wrong)


class _any:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, datetime)

    __hash__ = None  # type: ignore[assignment]


def test_a_failed_run_that_nobody_repeated_is_unfinished(engines: Mapping[str, Engine]) -> None:
    """A database alone knows runs that failed, once they are older than the limit."""
    rows = run_checks(Asked(engines["postgresql"]), ["nothing-unfinished"])["checks"][0]
    assert rows["rows"] == 2  # the failed run, and the residue among sealed intents
    assert "Parquet" in rows["note"]
    early = CheckOptions(now=datetime(2026, 5, 9, 3, tzinfo=UTC))
    assert run_checks(Asked(engines["postgresql"], options=early), ["nothing-unfinished"])["checks"][0]["rows"] == 1


def test_unknown_checks_and_those_that_need_more_are_refused(engines: Mapping[str, Engine]) -> None:
    """A gate must not pass because a name was misspelt or its record is not there."""
    with pytest.raises(ConfigurationError, match="counts-add-up"):
        run_checks(Asked(engines["sqlite"]), ["nope"])
    with pytest.raises(ConfigurationError, match="Parquet"):
        run_checks(Asked(engines["sqlite"]), ["all-signed"])
    assert [name for name, check in CHECKS.items() if check.standard] == [
        "nothing-unfogged-published", "intent-before-publish", "counts-add-up", "nothing-unfinished", "zero-detection-rate",
        "quarantine-rate",
    ]  # fmt: skip


def test_signatures_are_looked_for(tmp_path: Path) -> None:
    """A signed run passes; one that is not signed is named."""
    audit = Store(UPath(tmp_path))
    for day, signer in ((1, SigningKey.generate()), (2, None)):
        run = askkit.Run(f"run {day}", day)
        run.add("a")
        askkit.seal(audit, run, signer)
        ledger = open_ledger(audit)
        result = run_checks(Asked(open_duck(audit, ledger), audit, ledger), ["all-signed"])
        assert result["passed"] is (signer is not None)


def plan(audit: Store, name: str, day: int, listing: str = "l", **more: Any) -> None:
    """A plan that was written and not sealed."""
    body = {
        "run_key": askkit.run_key(name), "generation": 0, "listed_at": f"2026-05-{day:02d}T01:00:00.000000+00:00",
        "listing_id": listing, "dataset": "default", "identity": {"dag_id": "street", "run_id": name},
        "destination": {"uri": "s3://clean/street", "conn_id": None}, **more,
    }  # fmt: skip
    audit.create(f"plans/{askkit.run_key(name)}/0/plan.json", json.dumps(body).encode())


def test_a_plan_without_a_manifest_is_unfinished_until_it_is_repeated(tmp_path: Path) -> None:
    """Old plans are findings; a later sealed run of the same listing makes them good, another listing does not."""
    audit = Store(UPath(tmp_path))
    plan(audit, "killed", 1)
    plan(audit, "other", 2, listing="m")
    audit.create(f"runs/{askkit.run_key('other')}/0/incomplete.json", b"{}")
    found = lambda before="2026-05-09": unfinished.plans(audit, open_ledger(audit), before)  # noqa: E731
    assert [(row["run_id"], row["problem"]) for row in sorted(found(), key=lambda row: row["listed_at"])] == [
        ("killed", "never_finalised"), ("other", "refused_by_the_gate"),
    ]  # fmt: skip
    assert [row["run_id"] for row in found("2026-05-02")] == ["killed"]
    again = askkit.Run("again", 3)
    again.add("a")
    plan(audit, "again", 3)
    askkit.seal(audit, again)
    assert [row["run_id"] for row in found()] == ["other"]


# ------------------------------------------------------------------ the usual share of images without a detection


def runs(*shares: float, published: int = 1000) -> list[dict[str, Any]]:
    """One run a day of one stream."""
    return [
        {
            "dag_id": "d", "destination": "s", "dataset": "x", "run_key": f"{n:032x}", "generation": 0,
            "listed_at": f"2026-05-{n + 1:02d}", "published": published, "zero_detections": round(share * published),
        }
        for n, share in enumerate(shares)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shares", "found"),
    [
        ((0.1, 0.11, 0.09, 0.1, 0.12, 0.1), 0),
        ((0.1, 0.11, 0.09, 0.1, 0.12, 0.9), 1),  # the detector went blind
        ((0.1, 0.11, 0.09, 0.1, 0.12, 0.0), 1),  # it sees something everywhere
        ((0.1, 0.5, 0.3, 0.2, 0.4, 0.5), 0),  # a stream that differs from day to day
        ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), 0),
        ((0.0, 0.0, 0.0, 0.0, 0.0, 0.05), 1),
        ((0.1, 0.1, 0.1, 0.9), 0),  # too little history
    ],
)
def test_the_band_of_the_zero_rate(shares: tuple[float, ...], found: int) -> None:
    """The newest run is compared with the runs before it; too few of them pass with a count."""
    rows, short = zero_rate.outside_band(runs(*shares), history=20, least=5, sigmas=4)
    assert (len(rows), short) == (found, int(len(shares) < 6))


@given(st.lists(st.integers(0, 50), min_size=5, max_size=12), st.integers(1, 200), st.floats(1, 6))
@settings(max_examples=50, deadline=None)
def test_the_band_holds_its_own_middle(empties: list[int], published: int, sigmas: float) -> None:
    """The median share of earlier runs is always usual; a wider band holds a narrower one."""
    from statistics import median

    earlier = [(empty, 50) for empty in empties]
    low, high = zero_rate.band(earlier, published, sigmas)
    assert low < median(empty / 50 for empty in empties) < high
    wider = zero_rate.band(earlier, published, sigmas + 1)
    assert wider[0] < low < high < wider[1]
