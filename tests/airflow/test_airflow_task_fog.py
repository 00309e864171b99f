"""``@task.fog``: one task plans, fogs and publishes the images that a function names."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, task
from fog_lake import Lake, events, xcom

RunDag = Callable[..., Any]
States = Callable[[Any], dict[str, str]]


def place_args(lake: Lake) -> dict[str, Any]:
    """Arguments of ``@task.fog`` for this lake: as for ``fog_images``, without a source."""
    return {key: value for key, value in lake.places.items() if key != "source"}


def test_function_names_the_images(lake: Lake, run_dag: RunDag, session: Any) -> None:
    """Only what the function returns is published; no file name becomes an XCom or a rendered field."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.xcom import XComModel

    lake.photos(4)
    raw = str(lake.raw)
    clean = Asset("named_clean")
    with DAG("named", schedule=None) as dag:

        @task.fog(**place_args(lake), outlets=[clean])
        def portraits(folder: str) -> list[str]:
            return [f"{folder}/person-{index}.jpg" for index in (0, 2)]

        portraits(raw)
    run = run_dag(dag)
    assert run.state == "success"
    (result,) = xcom(session, run, "portraits")
    assert result["counts"]["listed"] == result["counts"]["published"] == 2
    assert sorted(key.partition(".")[0] for key in lake.objects()) == ["person-0", "person-2"]
    (event,) = events(session, run)
    assert event.extra["counts"] == result["counts"]
    rows = [str(row.value) for row in session.query(XComModel).filter_by(dag_id="named")]
    rows += [str(row.rendered_fields) for row in session.query(RenderedTaskInstanceFields).filter_by(dag_id="named")]
    assert not any("person-" in text for text in rows)


def test_no_image_is_a_finished_run(lake: Lake, run_dag: RunDag, session: Any) -> None:
    """A day without photos succeeds with zero counts."""
    with DAG("nothing", schedule=None) as dag:

        @task.fog(**place_args(lake))
        def nobody() -> list[str]:
            return []

        nobody()
    run = run_dag(dag)
    assert run.state == "success"
    assert xcom(session, run, "nobody")[0]["counts"]["listed"] == 0


@pytest.mark.parametrize(
    "answer", [None, "/one/string.jpg", [b"/bytes.jpg"], ["relative.jpg"], {"a": "b"}, [["/nested.jpg"]]]
)
def test_wrong_answers_fail_at_once(lake: Lake, run_dag: RunDag, session: Any, answer: Any) -> None:
    """Anything but a list of URIs is a mistake of the function: no retry, nothing published."""
    with DAG("wrong_answer", schedule=None) as dag:

        @task.fog(**place_args(lake))
        def confused() -> Any:
            return answer

        confused()
    run = run_dag(dag)
    (ti,) = run.get_task_instances(session=session)
    assert (str(ti.state), ti.try_number, ti.max_tries) == ("failed", 1, 2)
    assert not lake.clean.exists() or not lake.objects()


def test_transient_errors_are_retried(lake: Lake, run_dag: RunDag, session: Any) -> None:
    """The decorator sets retries, and a busy detector is asked again."""
    photo = lake.photo("person.jpg", 50)
    lake.script({"transient": 1})
    with DAG("busy", schedule=None) as dag:

        @task.fog(**place_args(lake))
        def portrait() -> list[str]:
            return [str(photo)]

        portrait()
    run = run_dag(dag)
    (ti,) = run.get_task_instances(session=session)
    assert (str(ti.state), ti.try_number) == ("success", 2)


def test_mapped_instances_do_not_share_a_plan(lake: Lake, run_dag: RunDag, session: Any) -> None:
    """Mapped over folders, each instance publishes its own images: none takes the other's list for its own."""
    lake.photo("monday/a.jpg", 20)
    lake.photo("tuesday/b.jpg", 40)
    raw = str(lake.raw)
    with DAG("mapped_days", schedule=None) as dag:

        @task.fog(**place_args(lake))
        def day(folder: str) -> list[str]:
            from pathlib import Path

            return [str(path) for path in Path(folder).iterdir()]

        day.expand(folder=[f"{raw}/monday", f"{raw}/tuesday"])
    run = run_dag(dag)
    assert run.state == "success"
    assert [result["counts"]["published"] for result in xcom(session, run, "day")] == [1, 1]
    assert len({json.dumps(result["plan_uri"]) for result in xcom(session, run, "day")}) == 2
    assert len(lake.objects()) == 2
