"""Rows of sealed runs as the SQL audit holds them, read piece by piece from the parts that hold them now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_facefog.audit.ledger import SealedRun, read_part
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.read_ahead import ahead
from airflow_facefog.audit.schema import EGRESS, RUN, table

BATCH = 50_000
"""Rows of one piece."""


def run_row(audit: Objects, run: SealedRun) -> dict[str, Any]:
    """The row of ``facefog_run``."""
    row = {**run.row, "manifest_uri": audit.uri(run.manifest_key)}
    return {name: row.get(name) for name in RUN.column_names}


def part_batches(audit: Objects, run: SealedRun, name: str, rows: int = BATCH) -> Iterator[Any]:
    """A part as ``pyarrow.Table``s of at most ``rows`` rows; none for a part that has expired.

    Raises LedgerError when its bytes are not those that the audit names; ConfigurationError as ``parquet.read_batches``.
    """
    from airflow_facefog.audit.parquet import read_batches

    part, described = run.parts.get(name), table(f"facefog_{name}")
    if part is not None:
        yield from read_batches(described.name, read_part(audit, part), described.column_names, rows)


def failed_rows(audit: Objects) -> Iterator[dict[str, Any]]:
    """Rows of ``facefog_run`` of runs that were not sealed, as their last attempt to finalise left them."""
    from airflow_facefog.audit.parquet import from_parquet

    keys = [key for key in audit.list("runs") if key.count("/") == 3]
    sealed = {key.rpartition("/")[0] for key in keys if key.endswith("/manifest.json")}
    for key in keys:
        if key.endswith("/run.parquet") and key.rpartition("/")[0] not in sealed:
            yield from from_parquet(RUN.name, audit.read(key))


def egress_batches(audit: Objects) -> Iterator[Any]:
    """All rows of ``facefog_egress``."""
    from airflow_facefog.audit.parquet import read_batches

    keys = [key for key in audit.list("egress") if key.endswith(".parquet")]
    for data in ahead(audit.read, keys):  # one small object per attempt
        yield from read_batches(EGRESS.name, data, EGRESS.column_names, BATCH)
