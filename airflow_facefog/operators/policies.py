"""``policy=`` of operators: a mapping, a ``.yaml`` path relative to the Dag file, or a FogPolicy.

Mappings and files are Jinja-templated by Airflow, so they are validated after rendering; and already when the Dag is
parsed if they hold no template. A FogPolicy is validated by its own construction and never templated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import PolicyError
from airflow_facefog.core.policy import FogPolicy, load_policy

if TYPE_CHECKING:
    from airflow.sdk import DAG

PolicySpec = FogPolicy | Mapping[str, Any] | str | None

POLICY_FILES = (".yaml", ".yml")


def rendered_policy(policy: PolicySpec) -> FogPolicy:
    """Validate a policy after rendering: Airflow has replaced a file name by the text of the file.

    Raises PolicyError.
    """
    if isinstance(policy, str):
        policy = _parse_yaml(policy)
        if not isinstance(policy, Mapping):
            raise PolicyError(f"a policy file holds a mapping of settings, not a {type(policy).__name__}")
    return load_policy(policy)


def check_policy(policy: PolicySpec, dag: DAG | None) -> None:
    """Raise PolicyError while the Dag is parsed when ``policy`` is already known to be wrong.

    Policies that hold ``{{`` or ``{%`` are left to the list task.
    """
    if isinstance(policy, str):
        policy = _read_beside(policy, dag)
    if not templated(policy):
        rendered_policy(policy)


def templated(value: Any) -> bool:
    """Whether a value of a template field holds Jinja anywhere."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return "{{" in text or "{%" in text


def _read_beside(name: str, dag: DAG | None) -> str:
    if not name.endswith(POLICY_FILES):
        raise PolicyError(
            f"policy {name!r} is not a {' or '.join(POLICY_FILES)} file; give a mapping, a file or a FogPolicy"
        )
    if Path(name).is_absolute():
        raise PolicyError("a policy file is named relative to the Dag file; put it beside the Dag, or load_policy() it")
    for folder in _search_path(dag):
        if (folder / name).is_file():
            return (folder / name).read_text("utf-8")
    raise PolicyError(f"policy file {name!r} is not beside the Dag file nor in its template_searchpath")


def _search_path(dag: DAG | None) -> list[Path]:
    if dag is None:
        return []
    extra = dag.template_searchpath or []
    return [Path(dag.folder), *(Path(folder) for folder in ([extra] if isinstance(extra, str) else extra))]


def _parse_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" near line {where.line + 1}" if where else ""
    raise PolicyError(f"the policy file is not valid YAML{line} after rendering")
