"""``run.parquet``: the row of ``facefog_run`` as a table. It holds the bytes that a signed entry of the chain names.

Where none does (older releases, unsigned chains, entries by ``facefog audit seal``) it must say what the manifest says.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.schema import RUN
from airflow_facefog.audit.sealed import sha256
from airflow_facefog.audit.verifying.findings import Code, Findings
from airflow_facefog.audit.verifying.manifests import Manifest
from airflow_facefog.audit.verifying.survey import Home


def read_run_row(data: bytes) -> dict[str, Any] | None:
    """The row of a ``run.parquet``, columns of older releases missing; None when it is not one readable row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:  # one row does not pay for threads
        rows: list[dict[str, Any]] = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False).to_pylist()
    except (OSError, ValueError, pa.ArrowException):  # a flipped byte may break anything
        return None
    return rows[0] if len(rows) == 1 else None


def check_run_row(audit: Objects, home: Home, manifest: Manifest, findings: Findings, *, signed: bool) -> bool:
    """Compare a sealed run's row with its chain entry or its manifest. True: the row is there (finalise came so far).

    ``signed``: the entry's signature holds, so that the hash it names is enough.
    """
    key = f"{home.folder}/run.parquet"
    data = audit.get(key)
    if data is None:
        if home.entry is not None or manifest.old:
            detail = "the row of this sealed run is not there; finalise it again, or restore it"
            findings.add(Code.RUN_ROW_MISSING, key, detail)
        return False
    named = home.entry.run_part if home.entry is not None else None
    chained = named is not None and sha256(data) == named
    if not (chained and signed) and data != _encoded(expected_row(home, manifest, audit.uri(home.manifest_key))):
        _compare(home, manifest, data, findings, named=named is not None, chained=chained)
    return True


def _compare(
    home: Home, manifest: Manifest, data: bytes, findings: Findings, *, named: bool, chained: bool
) -> None:  # fmt: skip
    """Values first: the URI may differ, and so may bytes that an older release wrote and no chain entry names."""
    key = f"{home.folder}/run.parquet"
    row = read_run_row(data)
    if row is None:
        findings.add(Code.RUN_ROW_CHANGED, key, "it is not one readable row of facefog_run; restore it")
        return
    wanted = expected_row(home, manifest, row.get("manifest_uri"))
    wrong = [name for name in RUN.column_names if row.get(name) != wanted.get(name)]
    if wrong:
        findings.add(Code.RUN_ROW_CHANGED, key, f"{', '.join(wrong[:5])}: not what the manifest says")
    elif chained or data == _encoded(wanted):
        return
    elif named:
        findings.add(Code.RUN_ROW_CHANGED, key, "its row is right, its bytes are not those that the chain names")
    else:
        detail = "its row is right, its bytes are not those that this release writes: of another release, or touched"
        findings.add(Code.RUN_ROW_REWRITTEN, key, detail)


def expected_row(home: Home, manifest: Manifest, uri: object) -> dict[str, Any]:
    """The row as the manifest says it. Its URI may be of the place from where the audit was copied."""
    right = isinstance(uri, str) and uri.endswith(f"/{home.manifest_key}")
    run = {name: manifest.document["run"].get(name) for name in RUN.column_names}
    return {**run, "manifest_uri": uri if right else home.manifest_key, "manifest_sha256": manifest.sha256}


def _encoded(row: Mapping[str, Any]) -> bytes | None:
    """Bytes as finalise writes them; None for a row that no table takes."""
    from airflow_facefog.audit.parquet import to_parquet

    try:
        return to_parquet(RUN.name, [row])
    except ValueError:
        return None


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
