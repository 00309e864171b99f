"""Who may know whom, asked of fresh interpreters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "airflow_facefog"
HEAVY = ["cv2", "numpy", "pyarrow", "onnxruntime", "onnx", "roboflow", "duckdb", "PIL", "sqlalchemy", "simplejpeg"]
LIGHT = [
    "airflow_facefog", "airflow_facefog.core.errors", "airflow_facefog.core.records", "airflow_facefog.core.policy",
    "airflow_facefog.core.keys", "airflow_facefog.core.raw", "airflow_facefog.core.boxes", "airflow_facefog.core.regions",
    "airflow_facefog.core.pipeline", "airflow_facefog.core.predictions", "airflow_facefog.core.detector",
    "airflow_facefog.detectors", "airflow_facefog.audit.schema", "airflow_facefog.job.model", "airflow_facefog.job.plan",
    "airflow_facefog.job.batch", "airflow_facefog.job.staged", "airflow_facefog.job.finalise",
]  # fmt: skip


def loaded_after(modules: list[str]) -> set[str]:
    """Top-level packages in ``sys.modules`` of a fresh interpreter that imported ``modules``."""
    code = f"import sys, json\nfor m in {modules!r}: __import__(m)\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def airflow_free_modules() -> list[str]:
    """Every module outside the rooms that may import airflow."""
    glue = {"operators", "hooks", "triggers", "plugin"}
    names = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        if parts[1] in glue or parts[1] in {"task_groups", "decorators"} or parts[-1] == "__main__":
            continue
        names.append(".".join(parts).removesuffix(".__init__"))
    return names


def test_the_light_half_loads_nothing_heavy() -> None:
    """What a Dag file may import at parse time brings no pixel library, and no airflow either."""
    loaded = loaded_after(LIGHT)
    assert not loaded & {*HEAVY, "airflow"}


def test_nothing_outside_the_glue_knows_airflow() -> None:
    """Core, detectors, audit, publish, job and CLI import without airflow, heavy leaves included."""
    assert "airflow" not in loaded_after(airflow_free_modules())


@pytest.mark.parametrize("room", ["core", "detectors", "audit", "publish"])
def test_the_arrows_point_inward(room: str) -> None:
    """The rooms below job never import it, nor the glue; core imports no other room."""
    above = ["job", "operators", "hooks", "triggers", "task_groups", "decorators", "cli"]
    if room == "core":
        above += ["audit", "publish"]
    for path in (ROOT / room).rglob("*.py"):
        text = path.read_text()
        assert not [name for name in above if f"airflow_facefog.{name}" in text], path
