"""deface 1.5.0 in a virtual environment of its own below build/bench, made on first use (needs a package index)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import WORK

HOME = WORK / "deface"
REQUIREMENTS = ("deface==1.5.0", "onnx", "onnxruntime")


def deface_python() -> Path:
    """The interpreter of the environment. Raises CalledProcessError when it cannot be made."""
    python = HOME / "bin" / "python"
    if not (HOME / ".installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", HOME], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        (HOME / ".installed").touch()
    return python
