"""``--detector``: given once, several times (a union), or as the JSON that Dags and plans write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from airflow_facefog.core.errors import ConfigurationError

LOCAL = ["local"]

DetectorOption = Annotated[
    list[str],
    typer.Option(
        metavar="SPEC",
        help="local, onnx:FILE, roboflow:project/3, … or a JSON object or list; given several times: all look.",
    ),
]


def read_detector(texts: Sequence[str]) -> Any:
    """The spec that ``detectors.parse`` takes. Raises ConfigurationError for text that starts as JSON and is none."""
    specs = [_read(text) for text in texts]
    return specs[0] if len(specs) == 1 else specs


def _read(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        problem = f"{error.msg} at line {error.lineno}, column {error.colno}"
    raise ConfigurationError(f"--detector starts as JSON but cannot be read: {problem}; quote it whole for the shell")
