"""The example Dags run as they are, with the embedded face model on a real face."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from fog_lake import Lake, events, portrait, xcom

import airflow_facefog

DAGS = Path(airflow_facefog.__file__).parents[1] / "dags"
RunDag = Callable[..., Any]


@pytest.fixture
def example(lake: Lake, monkeypatch: pytest.MonkeyPatch, run_dag: RunDag) -> Callable[..., Any]:
    """Run an example Dag on a lake with one portrait."""
    monkeypatch.setenv("AIRFLOW_VAR_FACEFOG_LAKE", str(lake.root))
    (lake.raw / "portrait.jpg").write_bytes(portrait())

    def run(dag_id: str, **kwargs: Any) -> Any:
        return run_dag(DagBag(dag_folder=str(DAGS)).dags[dag_id], **kwargs)

    return run


@pytest.mark.parametrize("dag_id", ["fog_photos", "fog_staged"])
def test_example_fogs_the_face(dag_id: str, example: Callable[..., Any], lake: Lake, session: Any) -> None:
    """The portrait is published, and where its face was nothing follows the source any more."""
    import cv2
    import numpy as np

    run = example(dag_id)
    assert run.state == "success"
    counts = xcom(session, run, "fog_images.publish")[0]["counts"]
    assert (counts["published"], counts["fogged"]) == (1, 1)
    (data,) = lake.objects().values()
    raw, out = (
        cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE)[66:175, 84:172].ravel()
        for image in (portrait(), data)
    )
    assert abs(np.corrcoef(raw, out)[0, 1]) < 0.25
    assert np.abs(raw.astype(int) - out).mean() > 30


def test_policy_file_and_params_decide(example: Callable[..., Any], lake: Lake) -> None:
    """fog_photos reads its policy beside the Dag; fog_staged renders a parameter into its own."""
    example("fog_photos")
    example("fog_staged", run_conf={"min_confidence": 0.4})
    policies = {plan["dataset"]: plan["policy"] for plan in map(_json, lake.audit.rglob("plan.json"))}
    assert policies["default"]["name"] == "photos"
    assert policies["staged"]["rules"]["face"]["min_confidence"] == 0.4


def test_fog_photos_announces_what_load_clean_waits_for(example: Callable[..., Any], session: Any) -> None:
    """Producer and consumer name the same asset."""
    from airflow.models.asset import AssetModel

    run = example("fog_photos")
    (event,) = events(session, run)
    asset = session.query(AssetModel).filter_by(id=event.asset_id).one()
    consumer = DagBag(dag_folder=str(DAGS)).dags["load_clean"]
    assert [waited.name for waited in consumer.timetable.asset_condition.objects] == [asset.name]


def _json(path: Path) -> Any:
    return json.loads(path.read_text())
