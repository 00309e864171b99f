"""The example consumer: a SQL table that follows the clean photos, whatever happens to the events."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, Asset
from fog_lake import Lake, consume, events, fog_dag
from upath import UPath

import airflow_facefog
from airflow_facefog.publish.snapshots import open_dataset

DAGS = Path(airflow_facefog.__file__).parents[1] / "dags"
POLICY = {"max_quarantined": 0.9}


class Story:
    """One lake, its producer, the consumer and the table that it keeps."""

    def __init__(self, lake: Lake, run_dag: Callable[..., Any], session: Any, database: Path) -> None:
        self.lake = lake
        self._run_dag = run_dag
        self._session = session
        self._database = database
        self._consumer = _example("load_clean")
        self._producer = fog_dag(
            f"producer_{database.parent.name}", lake, outlets=[Asset("clean_photos")], policy=POLICY
        )

    def publish(self) -> Any:
        """Run the producer; return its asset event."""
        run = self._run_dag(self._producer)
        assert run.state == "success"
        (event,) = events(self._session, run)
        return event

    def consume(self, *asset_events: Any) -> None:
        assert consume(self._consumer, list(asset_events)).state == "success"

    def table(self) -> list[tuple[str, ...]]:
        with sqlite3.connect(self._database) as db:
            return sorted(db.execute("select item_id, uri, sha256 from clean_photo").fetchall())

    def truth(self) -> list[tuple[str, ...]]:
        rows = open_dataset(UPath(self.lake.clean)).to_pylist()
        return sorted((row["item_id"], row["uri"], row["sha256"]) for row in rows)


def _example(dag_id: str) -> DAG:
    dag: DAG = DagBag(dag_folder=str(DAGS)).dags[dag_id]
    return dag


@pytest.fixture
def story(
    lake: Lake, run_dag: Callable[..., Any], session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Story:
    """A fresh story on a database of its own."""
    database = tmp_path / "consumer.db"
    conn = {"conn_type": "sqlite", "host": str(database)}
    monkeypatch.setenv("AIRFLOW_CONN_CLEAN_PHOTOS_DB", json.dumps(conn))
    return Story(lake, run_dag, session, database)


def change(lake: Lake) -> None:
    """One photo new, one replaced, one now unreadable (it will be quarantined, so its old picture is withdrawn)."""
    lake.photo("person-3.jpg", 40)
    lake.photo("person-0.jpg", 90)
    (lake.raw / "person-1.jpg").write_bytes(b"this is no picture")


def test_added_replaced_and_withdrawn(story: Story) -> None:
    """After each event the table holds exactly the visible rows; a withdrawn photo leaves it."""
    story.lake.photos(3)
    story.consume(story.publish())
    first = story.table()
    assert len(first) == 3
    assert first == story.truth()
    change(story.lake)
    event = story.publish()
    assert event.extra["counts"] == {**event.extra["counts"], "published": 2, "quarantined": 1, "skipped": 1}
    story.consume(event)
    assert story.table() == story.truth()
    assert len(set(first) & set(story.table())) == 1
    assert len(story.table()) == 3


def test_an_event_that_comes_twice_changes_nothing(story: Story) -> None:
    """Idempotent per manifest: clearing the consumer or a repeated event is free."""
    story.lake.photos(2)
    event = story.publish()
    story.consume(event)
    before = story.table()
    with sqlite3.connect(story._database) as db:
        db.execute("delete from clean_photo where item_id = ?", (before[0][0],))
    story.consume(event)
    assert story.table() == before[1:]


def test_one_run_may_stand_for_several_events(story: Story) -> None:
    """Both events are applied, in the order of snapshots."""
    story.lake.photos(3)
    first = story.publish()
    change(story.lake)
    story.consume(story.publish(), first)
    assert story.table() == story.truth()


def test_a_lost_event_is_made_good(story: Story) -> None:
    """The second of three events never comes: the table is filled from the third one's snapshot, withdrawals included."""
    story.lake.photos(3)
    story.consume(story.publish())
    change(story.lake)
    story.publish()
    story.lake.photo("person-9.jpg", 120)
    story.consume(story.publish())
    assert story.table() == story.truth()


def test_a_late_event_does_not_turn_back_time(story: Story) -> None:
    """The older event comes after the newer one: nothing it says is applied any more."""
    story.lake.photos(3)
    first = story.publish()
    change(story.lake)
    story.consume(story.publish())
    story.consume(first)
    assert story.table() == story.truth()


def test_an_event_without_change_is_ignored(story: Story) -> None:
    """A run that published nothing new announces ``changed: false``."""
    story.lake.photos(2)
    story.consume(story.publish())
    before = story.table()
    event = story.publish()
    assert event.extra["changed"] is False
    story.consume(event)
    assert story.table() == before == story.truth()
