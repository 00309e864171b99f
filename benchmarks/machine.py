"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

_PACKAGES = (
    "airflow-facefog", "apache-airflow", "opencv-python-headless", "numpy", "onnxruntime", "simplejpeg", "pyarrow", "sqlalchemy"
)  # fmt: skip


def lines() -> list[str]:
    """Processor, load and versions."""
    from airflow_facefog.job.machine import usable_cpus

    load = os.getloadavg()[0]
    return [
        f"{_processor()}, {usable_cpus()} CPUs, load {load:.1f} at the end, {platform.system()} {platform.release()}",
        f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    ]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()
