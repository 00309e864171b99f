"""How Airflow finds us and what importing us costs: entry point, provider info, imports, example and documented Dags."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import jsonschema

import airflow_facefog
from airflow_facefog.provider_info import get_provider_info

ROOT = Path(airflow_facefog.__file__).parents[1]
HEAVY = {"cv2", "numpy", "pyarrow", "onnxruntime", "onnx", "PIL", "roboflow", "fastapi", "duckdb", "skimage"}


def _modules_after(code: str, home: Path) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    env = {**os.environ, "AIRFLOW_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_parsing_loads_nothing_heavy(tmp_path: Path) -> None:
    """Building Dags, with policies checked, loads no pixel, table or model code: every parser process pays for it."""
    code = (
        "from airflow.sdk import DAG\n"
        "from airflow_facefog.task_groups import fog_images\n"
        "import airflow_facefog.decorators, airflow_facefog.operators, airflow_facefog.provider_info\n"
        "import airflow_facefog.hooks.keys, airflow_facefog.hooks.connections\n"
        "for staged in (False, True):\n"
        "    with DAG('d', schedule=None):\n"
        "        fog_images(source='/a', destination='/b', audit='/c', policy={'name': 'x'}, staged=staged)\n"
    )
    loaded = _modules_after(code, tmp_path)
    assert "airflow_facefog" in loaded
    assert loaded & HEAVY == set()


def test_parsing_needs_no_provider_manager(tmp_path: Path) -> None:
    """Importing the operators adds no Airflow package that ``airflow.sdk`` itself does not need for a Dag."""
    base = "from airflow.sdk import DAG, task_group, ExceptionRetryPolicy\nimport airflow.sdk.bases.decorator\n"
    ours = "import airflow_facefog.task_groups, airflow_facefog.decorators\n"
    added = _modules_after(base + ours, tmp_path) - _modules_after(base, tmp_path)
    assert added <= {"airflow_facefog"}


def test_the_library_does_not_know_airflow(tmp_path: Path) -> None:
    """The rooms below Airflow import none of it: the CLI runs without it."""
    code = (
        "import airflow_facefog.core, airflow_facefog.job.plan, airflow_facefog.job.batch, airflow_facefog.job.finalise"
    )
    assert "airflow" not in _modules_after(code, tmp_path)


def test_our_imports_are_not_deprecated(tmp_path: Path) -> None:
    """Airflow moves names between releases; we use the ones that stay."""
    code = "import airflow_facefog.task_groups, airflow_facefog.decorators, airflow_facefog.hooks.keys"
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    flags = ["-W", "error:::airflow_facefog"]
    subprocess.run([sys.executable, *flags, "-c", code], check=True, env=env, capture_output=True)


def test_provider_info_is_valid_and_names_what_exists() -> None:
    """Airflow validates the dictionary against its schema and imports what it names."""
    import importlib

    import airflow

    info = get_provider_info()
    schema = json.loads((Path(airflow.__path__[0]) / "provider_info.schema.json").read_text())
    jsonschema.validate(info, schema)
    modules = [name for kind in ("operators", "hooks") for part in info[kind] for name in part["python-modules"]]
    for name in modules:
        importlib.import_module(name)
    module, _, decorator = info["task-decorators"][0]["class-name"].rpartition(".")
    assert callable(getattr(importlib.import_module(module), decorator))


def test_airflow_finds_the_provider(tmp_path: Path) -> None:
    """``airflow providers list`` shows us, through the entry point of the installed package."""
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    code = (
        "from airflow.providers_manager import ProvidersManager as M\n"
        "print('airflow-facefog' in M().providers, 'fog' in dict(M().taskflow_decorators))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.split()[-2:] == ["True", "True"]


def test_example_dags_import() -> None:
    """Every file in dags/ parses without an error or a warning, and shows tags."""
    from airflow.dag_processing.dagbag import DagBag

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bag = DagBag(dag_folder=str(ROOT / "dags"))
    assert bag.import_errors == {}
    assert {"fog_photos", "fog_staged", "load_clean"} <= set(bag.dag_ids)
    for dag in bag.dags.values():
        assert "facefog" in dag.tags


def test_documented_dags_import(tmp_path: Path) -> None:
    """Every Python block of docs/airflow.md is a Dag file that Airflow can import."""
    from airflow.dag_processing.dagbag import DagBag

    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "airflow.md").read_text(), re.DOTALL)
    for index, block in enumerate(blocks):
        (tmp_path / f"documented_{index}.py").write_text(block)
    bag = DagBag(dag_folder=str(tmp_path))
    assert bag.import_errors == {}
    assert len(bag.dag_ids) == len(blocks) == 2
