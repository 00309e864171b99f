"""Metrics of a model: scores on one scale, curves as rows, a picture that shows them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hookkit import api_to
from PIL import Image
from standin import StandIn
from upath import UPath

from airflow_facefog.core.errors import PermanentError, TransientError
from airflow_facefog.hooks.roboflow_api import ProjectRef
from airflow_facefog.hooks.roboflow_metrics import Metrics, plot, read_metrics, write_metrics
from airflow_facefog.publish.store import Store

FACES = ProjectRef("stand-in", "faces")


@pytest.fixture
def trained(standin: StandIn) -> StandIn:
    """Version 2 of the stand-in's project, trained for five epochs."""
    api = api_to(standin)
    training = api.create_training(FACES, 2, {"modelType": "yolov11s", "epochs": 5})
    standin.world.steer(training, "finished")
    return standin


def test_scores_and_curves(trained: StandIn) -> None:
    """Fractions, one row per epoch, the id that inference takes."""
    metrics = read_metrics(api_to(trained), FACES, 2)
    assert metrics.scores() == {
        "model_id": "faces/2", "map50": 0.915, "map50_95": 0.62, "precision": 0.92, "recall": 0.88, "epochs": 5,
    }  # fmt: skip
    assert [row["epoch"] for row in metrics.epochs] == [1, 2, 3, 4, 5]
    assert set(metrics.epochs[0]) == {"epoch", "mAP", "box_loss", "class_loss", "obj_loss"}


def test_a_model_that_was_trained_elsewhere_reports_percent(standin: StandIn) -> None:
    """The version's own figures are percent: 91.5 is .915, and without epochs there are no curves."""
    metrics = read_metrics(api_to(standin), FACES, 1)
    assert (metrics.map50, metrics.precision, metrics.recall, metrics.epochs) == (0.915, 0.92, 0.88, ())


@pytest.mark.parametrize("model", [{"map": "98.4"}, {"mAP": 98.4}])
def test_percent_comes_as_text_too(standin: StandIn, model: dict[str, Any]) -> None:
    """Old versions hold strings."""
    standin.script("/stand-in/faces/1", "body", body={"version": {"model": model}})
    assert read_metrics(api_to(standin), FACES, 1).map50 == pytest.approx(0.984)


@pytest.mark.parametrize("version", [{}, {"model": None}, {"model": {"map": "nan"}}, {"model": {"map": 900}}])
def test_no_map_is_no_zero(standin: StandIn, version: dict[str, Any]) -> None:
    """A gate must not read a missing figure as a number."""
    standin.script("/stand-in/faces/1", "body", body={"version": version})
    with pytest.raises(TransientError, match="no mAP"):
        read_metrics(api_to(standin), FACES, 1)


def test_a_wrong_key_is_not_read_as_untrained(standin: StandIn) -> None:
    """Only 404 of the results means that there are none."""
    standin.script("/stand-in/faces/1/training/results", "status", status=403, times=None)
    with pytest.raises(PermanentError, match="403"):
        read_metrics(api_to(standin), FACES, 1)


def test_files_say_the_same_and_stay_the_same(trained: StandIn, tmp_path: Path) -> None:
    """JSON, Parquet and PNG; written twice, equal bytes."""
    store = Store(UPath(tmp_path))
    metrics = read_metrics(api_to(trained), FACES, 2)
    uris = write_metrics(metrics, store)
    first = {name: store.read(name) for name in uris}
    assert write_metrics(metrics, store) == uris
    assert {name: store.read(name) for name in uris} == first
    assert json.loads(first["metrics.json"])["map50"] == 0.915
    table = pq.read_table(io.BytesIO(first["curves.parquet"])).to_pylist()
    assert [row["mAP"] for row in table] == [row["mAP"] for row in metrics.epochs]
    assert Image.open(io.BytesIO(first["curves.png"])).size == (960, 480)


@pytest.mark.parametrize("epochs", [0, 1, 3, 200])
def test_the_picture_shows_every_curve(epochs: int) -> None:
    """The mAP line climbs from bottom left to top right; no epochs, no line, no error."""
    rows = tuple({"epoch": n, "mAP": n / epochs, "box_loss": 1.0, "class_loss": 2.0} for n in range(1, epochs + 1))
    image = plot(Metrics("faces/2", 0.9, None, None, None, rows))
    inside = image[52:420, 60:470]
    blue = (np.abs(inside.astype(int) - (170, 90, 20)).sum(axis=2) < 60).nonzero()
    assert bool(len(blue[0])) == bool(epochs)
    if epochs > 1:
        assert blue[0][blue[1].argmin()] > blue[0][blue[1].argmax()]
