"""Look at what was published and how the newest run ended."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.raw import sealed
from airflow_facefog.job.model import Place, Plan, open_root_plain
from airflow_facefog.job.plan import open_store
from airflow_facefog.job.record.exports.export import audit_of
from airflow_facefog.publish.dataset import DEFAULT

if TYPE_CHECKING:
    from airflow_facefog.audit.ledger import SealedRun
    from airflow_facefog.publish.store import Store

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunImages:
    """The newest run into a destination: ``state`` is ``final`` or ``incomplete``; ``images`` are audit rows.

    Each row has one more column, ``source_uri``: from the restricted source table, None once that is gone.
    """

    run_key: str
    generation: int
    state: str
    images: list[Row] = field(repr=False)


@sealed
def dataset_rows(clean: Place, dataset: str = DEFAULT) -> tuple[int, list[Row]]:
    """Number and rows of the newest snapshot. Raises ConfigurationError when ``clean`` holds none."""
    from airflow_facefog.publish.snapshots import newest_seq, open_dataset

    store = open_store(clean, open_root_plain)
    seq = newest_seq(store, dataset)
    rows: list[Row] = open_dataset(store, seq, dataset).to_pylist()
    assert seq is not None
    return seq, rows


@sealed
def newest_run(clean: Place, dataset: str = DEFAULT) -> RunImages:
    """How every image of the newest run into ``clean`` ended, also of one that its gate refused.

    Raises ConfigurationError when ``clean`` is no destination or nothing ran yet.
    """
    from airflow_facefog.audit.parquet import from_parquet
    from airflow_facefog.job.sealing import find_sealed

    audit = open_store(audit_of(open_store(clean, open_root_plain), dataset), open_root_plain)
    plan = _newest_plan(audit, clean, dataset)
    run = find_sealed(plan, audit)
    expired = run is not None and "image" not in run.parts
    images = _committed_images(plan, audit) if run is None else [] if expired else _sealed_images(audit, run)
    sources = audit.get(f"sources/{plan.home}.parquet")
    names = {row["source_ref"]: row["source_uri"] for row in from_parquet("facefog_source", sources)} if sources else {}
    rows = [{**image, "source_uri": names.get(image["source_ref"])} for image in images]
    rows.sort(key=lambda row: (row["source_uri"] or "", row["source_ref"]))
    return RunImages(plan.run_key, plan.generation, "incomplete" if run is None else "final", rows)


def _sealed_images(audit: Store, run: SealedRun) -> list[Row]:
    from airflow_facefog.job.sealing import sealed_tables

    rows: list[Row] = sealed_tables(audit, run).images.to_pylist()
    return rows


def _committed_images(plan: Plan, audit: Store) -> list[Row]:
    """What the batches of an unsealed run have done so far."""
    from airflow_facefog.job.gate import read_part
    from airflow_facefog.publish.protocol import read_commit

    commits = [read_commit(audit, plan.commit_key(batch_id)) for batch_id, _ in plan.batches]
    return [row for found in commits if found is not None for row in read_part(audit, "facefog_image", found["image"])]


def _newest_plan(audit: Store, clean: Place, dataset: str) -> Plan:
    keys = [key for key in audit.list("plans") if key.endswith("/plan.json")]
    plans = [Plan.from_json(json.loads(audit.read(key))) for key in keys]
    place = (clean.uri.rstrip("/"), dataset)
    here = [plan for plan in plans if (plan.destination.uri.rstrip("/"), plan.dataset) == place]
    if not here:
        raise ConfigurationError("the audit knows no run into this destination; was it moved?")
    return max(here, key=lambda plan: (plan.listed_at, plan.generation))
