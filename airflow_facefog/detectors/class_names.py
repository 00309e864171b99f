"""The class list of a user's model: an argument, a file beside the model, or the model's own metadata; in that order."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.detectors.files import read_if_there

WHAT = "class list beside the model"


def find_class_names(given: Sequence[str] | None, model_path: str, metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return class names in the order of class ids.

    Beside the model: ``<stem>.txt`` (one name a line) or ``<stem>.yaml``/``.yml`` (``names:`` as list or id → name).
    In the metadata: ``names``, as Ultralytics writes it. Raises ConfigurationError when there is none, or a wrong one.
    """
    if given:
        return _checked(list(given))
    stem = model_path.removesuffix(PurePath(model_path).suffix)
    for suffix in (".txt", ".yaml", ".yml"):
        data = read_if_there(stem + suffix, WHAT)
        if data is not None:
            return _checked(_from_text(data) if suffix == ".txt" else _from_yaml(data))
    if "names" in metadata:
        return _checked(_from_metadata(metadata["names"]))
    raise ConfigurationError(
        "the model's classes are not known: give `classes`, or put a .txt or .yaml with their names beside the model"
    )


def _from_text(data: bytes) -> list[Any]:
    return [line.strip() for line in _text(data).splitlines() if line.strip()]


def _from_yaml(data: bytes) -> Any:
    import yaml

    try:
        content = yaml.safe_load(_text(data))
    except yaml.YAMLError:
        raise ConfigurationError(f"the {WHAT} is not valid YAML") from None
    return content.get("names") if isinstance(content, Mapping) else content


def _from_metadata(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise ConfigurationError("the model's `names` metadata is not readable; give `classes`") from None


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"the {WHAT} is not UTF-8 text") from None


def _checked(names: Any) -> tuple[str, ...]:
    if isinstance(names, Mapping):
        if set(names) != set(range(len(names))):
            raise ConfigurationError("the class list must number its names 0, 1, 2, … without gaps")
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigurationError("the class list must hold at least one name, and names only")
    if len({name.casefold() for name in names}) != len(names):
        raise ConfigurationError("the class list names a class twice (names are compared casefolded)")
    return tuple(names)
