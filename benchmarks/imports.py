"""What importing the operators adds to a Dag file. Target: at most 50 ms of CPU over `airflow.sdk` alone.

Two rows: the operators over the bare package, and operators with ``fog_images`` over the names that any Dag file takes from
``airflow.sdk`` (which loads its parts, ``task`` above all, on first use). Whole interpreters, interleaved, medians.
"""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from benchmarks.measure import ROOT, Row, at_most, child_cpu, interleaved, show

LIMIT_MS = 50.0
_DAG_NAMES = "from airflow.sdk import DAG, Asset, BaseOperator, TaskGroup, dag, task, task_group"
_OPERATORS = (
    "import airflow_facefog.operators.batches, airflow_facefog.operators.listing, airflow_facefog.operators.publish"
)
_ALL = f"{_OPERATORS}, airflow_facefog.task_groups"
_CORE = (
    "import pkgutil, importlib, sys, airflow_facefog.core as c\n"
    "for m in pkgutil.walk_packages(c.__path__, c.__name__ + '.'): importlib.import_module(m.name)\n"
    "sys.exit(any(name.partition('.')[0] == 'airflow' for name in sys.modules))"
)


def measure(*, full: bool) -> list[Row]:
    """Two rows of milliseconds, one of yes or no."""
    rounds = 21 if full else 5
    cases = {
        "bare": "import airflow.sdk",
        "dag": _DAG_NAMES,
        "bare+ours": f"import airflow.sdk; {_OPERATORS}",
        "dag+ours": f"{_DAG_NAMES}; {_ALL}",
    }
    seconds = interleaved(
        {name: lambda code=code: child_cpu([sys.executable, "-c", code]) for name, code in cases.items()},
        rounds,
        clock=lambda case: case(),
    )
    rows = []
    for base, what in (("bare", "operators over bare airflow.sdk"), ("dag", "operators + fog_images over Dag names")):
        added = median(a - b for a, b in zip(seconds[f"{base}+ours"], seconds[base], strict=True))
        note = f"{1e3 * median(seconds[base]):.0f} ms alone; medians of {rounds} rounds"
        rows.append(at_most(what, 1e3 * added, LIMIT_MS, "{:.0f} ms", note))
    alone = subprocess.run([sys.executable, "-c", _CORE], cwd=ROOT, check=False).returncode == 0
    return [*rows, Row("core imports without airflow", "yes" if alone else "no", "yes", alone)]


if __name__ == "__main__":
    show(measure(full="--full" in sys.argv), __doc__ or "")
