"""What a dataset is: its place in the destination, and what its first run fixed for all later ones.

The default dataset lives in ``_facefog/``, any other in ``_facefog/datasets/<name>/``. Objects of all datasets of a
destination share ``data/``: keys hold content hashes, so they never clash.
"""

from __future__ import annotations

import json
import re

from airflow_facefog.core.errors import ConfigurationError, PlanMismatchError
from airflow_facefog.publish.store import Store

FORMAT = "facefog-dataset/1"
DEFAULT = "default"


def home(dataset: str) -> str:
    """Key prefix of a dataset, with a slash at its end. Raises ConfigurationError for a name that is no plain word."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", dataset):
        raise ConfigurationError(
            f"dataset name {dataset!r} is not 1 to 64 letters, digits, '_' or '-', starting with a letter or digit"
        )
    return "_facefog/" if dataset == DEFAULT else f"_facefog/datasets/{dataset}/"


def fix_dataset(destination: Store, *, dataset: str, audit_uri: str, layout: str, id_scheme: str, key_id: str) -> None:
    """Write ``dataset.json`` at first use, or check that this run agrees with it.

    Raises PlanMismatchError naming what differs: another key would give every item a second identity, another layout or
    audit would split one dataset's evidence.
    """
    wanted = {
        "format": FORMAT, "dataset": dataset, "audit": audit_uri.rstrip("/"), "layout": layout,
        "id_scheme": id_scheme, "key_id": key_id,
    }  # fmt: skip
    key = f"{home(dataset)}dataset.json"
    if destination.create(key, json.dumps(wanted, indent=1).encode()):
        return
    try:
        found = json.loads(destination.read(key))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PlanMismatchError("dataset.json in the destination is not readable JSON; restore it")
    different = [name for name, value in wanted.items() if found.get(name) != value]
    if different:
        raise PlanMismatchError(
            f"dataset {dataset!r} was made with another {', '.join(different)}; use the same, or another dataset= name"
        )
