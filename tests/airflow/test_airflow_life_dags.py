"""The example Dags of the record's life: an erased photo is gone for consumers too, and nothing young expires."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from fog_lake import Lake, consume, events, portrait, xcom

import airflow_facefog
from airflow_facefog.audit.parquet import from_parquet

BAG = DagBag(dag_folder=str(Path(airflow_facefog.__file__).parents[1] / "dags")).dags


@pytest.fixture
def published(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, run_dag: Callable[..., Any], session: Any, tmp_path: Path
) -> Callable[[], int]:
    """One portrait that fog_photos published and load_clean loaded; returns how many rows the consumer's table has."""
    database = tmp_path / "consumer.db"
    monkeypatch.setenv("AIRFLOW_VAR_FACEFOG_LAKE", str(lake.root))
    monkeypatch.setenv("AIRFLOW_CONN_CLEAN_PHOTOS_DB", json.dumps({"conn_type": "sqlite", "host": str(database)}))
    (lake.raw / "portrait.jpg").write_bytes(portrait())
    run = run_dag(BAG["fog_photos"])
    assert consume(BAG["load_clean"], events(session, run)).state == "success"

    def rows() -> int:
        with sqlite3.connect(database) as db:
            return int(db.execute("select count(*) from clean_photo").fetchone()[0])

    assert rows() == 1
    return rows


def test_an_erased_photo_leaves_the_consumers_table(
    published: Callable[[], int], lake: Lake, run_dag: Callable[..., Any], session: Any
) -> None:
    """The erasure removes the object, and its event takes the row out of the table that follows the clean photos."""
    (part,) = lake.audit.glob("runs/*/*/image.parquet")
    (image,) = from_parquet("facefog_image", part.read_bytes())
    run = run_dag(BAG["erase_photos"], run_conf={"images": [image["image_id"]]})
    assert run.state == "success"
    assert lake.objects() == {}
    assert consume(BAG["load_clean"], events(session, run)).state == "success"
    assert published() == 0


def test_a_name_is_no_id(published: Callable[[], int], lake: Lake, run_dag: Callable[..., Any]) -> None:
    """A file name where an id belongs is refused before anything is erased."""
    with pytest.raises(Exception, match="images"):
        run_dag(BAG["erase_photos"], run_conf={"images": ["portrait.jpg"]})
    assert len(lake.objects()) == published() == 1


def test_nothing_young_expires(
    published: Callable[[], int], lake: Lake, run_dag: Callable[..., Any], session: Any
) -> None:
    """The weekly run over an audit of today removes nothing."""
    before = {path.name for path in lake.audit.rglob("*")}
    run = run_dag(BAG["expire_audit"])
    assert run.state == "success"
    assert xcom(session, run, "expire")[0]["rows"] == 0
    assert {path.name for path in lake.audit.rglob("*")} == before
    assert published() == 1
