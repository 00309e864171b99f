"""``run.parquet``: the row of ``facefog_run`` as a table. The chain does not name it, so it must say what the manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.schema import RUN
from airflow_facefog.audit.verifying.findings import Code, Findings
from airflow_facefog.audit.verifying.manifests import Manifest
from airflow_facefog.audit.verifying.survey import Home
from airflow_facefog.core.errors import ConfigurationError


def read_run_row(audit: Objects, key: str) -> tuple[bytes | None, dict[str, Any] | None]:
    """Bytes and row of a ``run.parquet``; None for what is missing or not readable."""
    import pyarrow as pa

    from airflow_facefog.audit.parquet import from_parquet

    data = audit.get(key)
    if data is None:
        return None, None
    try:
        rows = from_parquet(RUN.name, data)
    except (ConfigurationError, OSError, ValueError, pa.ArrowException):  # a flipped byte may break anything
        return data, None
    return data, rows[0] if len(rows) == 1 else None


def check_run_row(audit: Objects, home: Home, manifest: Manifest, findings: Findings) -> bool:
    """Compare a sealed run's row with its manifest. True: the row is there (finalise came so far)."""
    from airflow_facefog.audit.parquet import to_parquet

    key = f"{home.folder}/run.parquet"
    data, row = read_run_row(audit, key)
    if data is None:
        if home.entry is not None or manifest.old:
            detail = "the row of this sealed run is not there; finalise it again, or restore it"
            findings.add(Code.RUN_ROW_MISSING, key, detail)
        return False
    if row is None:
        findings.add(Code.RUN_ROW_CHANGED, key, "it is not one readable row of facefog_run; restore it")
        return True
    wanted = expected_row(home, manifest, row)
    wrong = [name for name in RUN.column_names if row.get(name) != wanted.get(name)]
    if wrong:
        findings.add(Code.RUN_ROW_CHANGED, key, f"{', '.join(wrong[:5])}: not what the manifest says")
    elif to_parquet(RUN.name, [wanted]) != data:
        detail = "its row is right, its bytes are not those that this release writes: of another release, or touched"
        findings.add(Code.RUN_ROW_REWRITTEN, key, detail)
    return True


def expected_row(home: Home, manifest: Manifest, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as the manifest says it. Its URI may be of the place from where the audit was copied."""
    uri = row.get("manifest_uri")
    right = isinstance(uri, str) and uri.endswith(f"/{home.manifest_key}")
    run = {name: manifest.document["run"].get(name) for name in RUN.column_names}
    return {**run, "manifest_uri": uri if right else home.manifest_key, "manifest_sha256": manifest.sha256}


def check_policy(name: str, manifest: Manifest, findings: Findings) -> None:
    """The recorded policy must have the recorded hash."""
    run = manifest.document["run"]
    if _policy_hash(str(run.get("policy_json"))) != manifest.document["policy_hash"]:
        detail = "its policy does not have the hash that it names: the policy was swapped"
        findings.add(Code.POLICY_CHANGED, name, detail)


@lru_cache(maxsize=256)
def _policy_hash(text: str) -> str | None:
    """Runs share policies."""
    import json

    from airflow_facefog.core.policy import hash_decisions

    try:
        return hash_decisions(json.loads(text))
    except (ValueError, AttributeError, RecursionError):
        return None
