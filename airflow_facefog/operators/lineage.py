"""OpenLineage of a finalised run: aggregates only, never a name, key or id of any image. Nothing without the provider.

``collect`` is called in the task, where connections are; ``facets`` by the provider's listener after it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import FogError

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_facefog.audit.ledger import SealedRun
    from airflow_facefog.job.model import Plan, RootOpener
    from airflow_facefog.publish.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Facts:
    """What lineage says about a run. ``source`` and ``destination`` are the roots' URIs, without userinfo.

    ``objects`` and ``bytes``: distinct objects that the run published, and their size. ``max_quarantined``: the gate's limit.
    """

    source: str
    destination: str
    dataset: str
    snapshot_seq: int | None
    counts: Mapping[str, int]
    objects: int
    bytes: int
    max_quarantined: float
    policy_hash: str
    recipe_hash: str
    model_sha256: str
    manifest_sha256: str
    chain_head: str
    signed: bool


def wanted() -> bool:
    """Whether the provider is installed and emits anything."""
    from importlib.util import find_spec

    try:
        if find_spec("airflow.providers.openlineage") is None:
            return False
    except ModuleNotFoundError:
        return False
    from airflow.providers.openlineage.conf import is_disabled

    return not is_disabled()


def collect(result: Mapping[str, Any], open_root: RootOpener, audit_conn_id: str | None) -> Facts | None:
    """The facts of a run if lineage is wanted. A run that is sealed does not fail because lineage could not be read."""
    if not wanted():
        return None
    try:
        return read_facts(result, open_root, audit_conn_id)
    except FogError as error:
        log.warning("no lineage of this run: its facts could not be read (%s)", type(error).__name__)
        return None


def read_facts(result: Mapping[str, Any], open_root: RootOpener, audit_conn_id: str | None) -> Facts:
    """The facts of a run that ``job.finalise`` returned. Raises as reading the audit does."""
    from airflow_facefog.audit.ledger import find_run
    from airflow_facefog.job.opening import open_plan

    plan, audit = open_plan(result["plan_uri"], open_root, audit_conn_id)
    run = find_run(audit, plan.run_key, plan.generation)
    objects, size = _published(audit, run)
    return _facts(plan, result, objects, size)


def _facts(plan: Plan, result: Mapping[str, Any], objects: int, size: int) -> Facts:
    return Facts(
        source=plan.source.uri, destination=plan.destination.uri, dataset=plan.dataset,
        snapshot_seq=result["snapshot_seq"], counts=result["counts"], objects=objects, bytes=size,
        max_quarantined=plan.policy.max_quarantined, policy_hash=plan.policy_hash, recipe_hash=plan.recipe_hash,
        model_sha256=plan.detector_info["model_sha256"], manifest_sha256=result["manifest_sha256"],
        chain_head=result["chain_head"], signed=result["signed"],
    )  # fmt: skip


def _published(audit: Store, run: SealedRun | None) -> tuple[int, int]:
    """Distinct objects of the published rows, and their bytes."""
    import pyarrow.compute as pc

    from airflow_facefog.audit.ledger import read_part
    from airflow_facefog.audit.parquet import read_arrow

    if run is None or "image" not in run.parts:
        return 0, 0
    rows = read_arrow("facefog_image", read_part(audit, run.parts["image"]), ["status", "output_uri", "output_bytes"])
    rows = rows.filter(pc.equal(rows["status"], "published"))
    objects = rows.group_by("output_uri").aggregate([("output_bytes", "max")])
    return objects.num_rows, int(pc.sum(objects["output_bytes_max"]).as_py() or 0)


def facets(facts: Facts | None) -> OperatorLineage[Any, Any] | None:
    """Lineage of a run; None when nothing was read for it."""
    if facts is None:
        return None
    from airflow_facefog.operators.lineage_facets import operator_lineage

    return operator_lineage(facts)
