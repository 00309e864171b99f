"""Finalise, one task after all batches: does it add up? Then seal the run, move the snapshot, fill SQL.

Reads commits from the store, never what tasks returned. Finalising a sealed generation again returns its manifest and
moves nothing; a crash after the seal is made good by the next call.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_facefog.audit.ledger import manifest_key
from airflow_facefog.audit.sealed import sha256
from airflow_facefog.core.errors import GateError
from airflow_facefog.core.raw import sealed
from airflow_facefog.core.records import Status
from airflow_facefog.job import sealing
from airflow_facefog.job.erased import refuse_erased
from airflow_facefog.job.gate import collect
from airflow_facefog.job.model import Attempt, Plan, RootOpener, open_root_plain
from airflow_facefog.job.opening import open_plan
from airflow_facefog.job.plan import ensure_sources, open_store
from airflow_facefog.job.reported import refuse_unmet
from airflow_facefog.job.tables import Row, Tables

if TYPE_CHECKING:
    from airflow_facefog.audit.chain import Entry
    from airflow_facefog.audit.ledger import SealedRun
    from airflow_facefog.audit.sealed import SigningKey
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.publish.snapshots import SnapshotResult
    from airflow_facefog.publish.store import Store

log = logging.getLogger(__name__)

EGRESS = {"calls": int, "bytes": int, "credits": float}
"""What is summed for each host that pictures were sent to."""

COUNTS = ("listed", *(status.value for status in Status), "detections", "fogged")

ID_ROWS = 100_000
"""Rows whose ids are Python strings at the same time."""


@sealed
def finalise(
    plan: str, *, attempt: Attempt, keys: KeyRing, open_root: RootOpener = open_root_plain,
    audit_conn_id: str | None = None, sql: SqlSink | None = None, signer: SigningKey | None = None,
) -> Row:  # fmt: skip
    """Seal the run, chain it, merge it into the snapshot, write SQL; return
    {"plan_uri", "delta_uri", "snapshot_seq", "manifest_uri", "manifest_sha256", "signed", "chain_seq", "chain_head",
    "changed", "counts", "policy_hash"}. ``chain_head`` ("seq:sha256") is the run's chain entry: kept outside of the audit,
    it shows later whether the newest entries were removed. Without a ``signer`` the run is sealed unsigned, and says so.

    Raises GateError when a batch has no commit, when counts do not add up, when an object is missing, above
    ``max_quarantined``, or when a non-empty listing published nothing: then there is no manifest and no snapshot.
    Raises LedgerError when what was sealed or chained before is damaged.
    """
    from airflow_facefog.publish.snapshots import is_committed

    frozen, audit = open_plan(plan, open_root, audit_conn_id)
    destination = open_store(frozen.destination, open_root)
    try:
        run, tables = _sealed_run(frozen, keys, audit, destination, attempt, signer)
    except GateError:
        _record_failure(frozen, audit, sql)
        raise
    if not is_committed(destination, frozen.dataset, frozen.run_key, frozen.generation):
        refuse_unmet(tables.images, tables.detections, audit, keys)
    if sql is None:
        tables = replace(tables, detections=None, intents=None)  # only SQL needs them from here on: most of the memory
    refuse_erased(tables.images, audit, keys)
    manifest_uri = audit.uri(run.manifest_key)
    row = {**run.row, "manifest_uri": manifest_uri}
    run_part = _encoded(row)
    entry = sealing.chain_run(audit, run, signer, run_part)
    _settle(frozen, audit, run_part, entry, tables.images)
    result = _merge(frozen, tables.images, keys, destination)
    if sql is not None:
        sql.write_run(row, tables.images, tables.detections, intents=tables.intents, sources=_sources(frozen, audit))
    head, signed = f"{entry.seq}:{entry.sha256}", run.manifest["signed"] is True
    _say(frozen, head, signed=signed)
    return {
        "plan_uri": plan, "delta_uri": result.delta_uri, "snapshot_seq": result.seq, "manifest_uri": manifest_uri,
        "manifest_sha256": run.manifest_sha256, "signed": signed, "chain_seq": entry.seq, "chain_head": head,
        "changed": result.changed, "counts": run.manifest["counts"], "policy_hash": frozen.policy_hash,
    }  # fmt: skip


def _say(plan: Plan, head: str, *, signed: bool) -> None:
    """The task log is one more place outside of the audit that remembers the chain's head."""
    log.info("run %s generation %s is sealed; chain head %s", plan.run_key, plan.generation, head)
    if not signed:
        log.warning(
            "run %s is sealed but not signed: whoever can write the audit can change it; name a signing key "
            "(`facefog keys new --signing`)", plan.run_key,
        )  # fmt: skip


def _record_failure(plan: Plan, audit: Store, sql: SqlSink | None) -> None:
    """The run's row with status ``failed``; finishing the run later replaces it."""
    counts = {**dict.fromkeys(COUNTS, 0), "listed": plan.listed}
    row = {**run_row(plan, counts, None, read_egress(plan, audit)), "status": "failed"}
    if not audit.exists(manifest_key(plan.run_key, plan.generation)):  # sealed by another one meanwhile
        _write_row(plan, audit, _encoded(row))
    if sql is not None:
        sql.write_run(row, [], [])


def _settle(plan: Plan, audit: Store, run_part: bytes, entry: Entry, images: Any) -> None:
    """What follows from the seal inside the audit; doing it again changes nothing."""
    from airflow_facefog.publish.done import record_refusals

    _write_row(plan, audit, run_part, entry.run_part)
    audit.delete(f"runs/{plan.home}/incomplete.json")
    record_refusals(
        audit, recipe_hash=plan.recipe_hash, run_key=plan.run_key, generation=plan.generation, images=images
    )


def _encoded(row: Row) -> bytes:
    from airflow_facefog.audit.parquet import to_parquet

    return to_parquet("facefog_run", [row])


def _write_row(plan: Plan, audit: Store, data: bytes, chained: str | None = None) -> None:
    """``run.parquet``: what the manifest says, for readers of Parquet. The bytes with the hash ``chained`` stay."""
    key = f"runs/{plan.home}/run.parquet"
    if not audit.create(key, data) and sha256(there := audit.read(key)) != chained and there != data:
        audit.replace(key, data)


def _sealed_run(
    plan: Plan, keys: KeyRing, audit: Store, destination: Store, attempt: Attempt, signer: SigningKey | None
) -> tuple[SealedRun, Tables]:
    """The sealed run and its rows; sealed now, once its commits passed the gate, unless it was before."""
    run = sealing.find_sealed(plan, audit)
    if run is not None:
        return run, sealing.sealed_tables(audit, run)
    tables = collect(plan, audit, destination, attempt, keys)
    ensure_sources(plan, keys, audit)
    finished_at = max(tables.images["committed_at"].unique().drop_null().to_pylist(), default=None)
    row = run_row(plan, tables.counts(), finished_at, read_egress(plan, audit))
    return sealing.seal_run(plan, audit, tables, row, signer)


def _merge(plan: Plan, images: Any, keys: KeyRing, destination: Store) -> SnapshotResult:
    """Bring the sealed run into the dataset's snapshot; doing it again moves nothing."""
    from airflow_facefog.publish.items import items_of
    from airflow_facefog.publish.snapshots import RunManifestRef, commit_snapshot

    listed = _item_ids(images, keys)
    published, withdrawn, skipped = items_of(images, listed, destination)
    run = RunManifestRef(plan.run_key, plan.generation, plan.listed_at, plan.recipe_hash, plan.listing_id)
    return commit_snapshot(
        destination, dataset=plan.dataset, run=run, published=published, withdrawn=withdrawn, mirror=plan.mirror,
        listed=listed, skipped=skipped, base=plan.base_snapshot,
    )  # fmt: skip


def _item_ids(images: Any, keys: KeyRing) -> Any:
    """``KeyRing.item_id`` of each row, as a ``pyarrow`` column."""
    import pyarrow as pa

    refs = images["source_ref"]
    chunks = (refs.slice(start, ID_ROWS).to_pylist() for start in range(0, len(refs), ID_ROWS))
    return pa.chunked_array([pa.array(map(keys.item_id, chunk), pa.string()) for chunk in chunks], type=pa.string())


def run_row(plan: Plan, counts: Mapping[str, int], finished_at: str | None, egress_json: str | None) -> Row:
    """The row of ``facefog_run``; its times come from plan and commits, so that a retry says the same."""
    identity, info = plan.identity, plan.detector_info
    return {
        "run_key": plan.run_key, "generation": plan.generation, "dag_id": identity.dag_id, "run_id": identity.run_id,
        "run_type": identity.run_type, "logical_date": identity.logical_date, "data_date": identity.data_date,
        "dag_version_id": identity.dag_version_id, "destination": plan.destination.uri, "dataset": plan.dataset,
        "layout": plan.layout, "policy_name": plan.policy.name, "policy_hash": plan.policy_hash,
        "policy_json": json.dumps(plan.policy.canonical(), sort_keys=True), "recipe_hash": plan.recipe_hash,
        "detector": info["name"], "model_id": info["model_id"], "model_version": info["model_version"],
        "model_sha256": info["model_sha256"], "key_id": plan.key_id, "id_scheme": plan.id_scheme,
        "packages_json": json.dumps(dict(package_versions()), sort_keys=True), "egress_json": egress_json, "status": "final",
        **counts, "listed_at": plan.listed_at, "started_at": plan.listed_at,
        "finished_at": finished_at or plan.listed_at,
        "manifest_uri": None, "manifest_sha256": None, "prev_manifest_sha256": None,
    }  # fmt: skip


def read_egress(plan: Plan, audit: Store) -> str | None:
    """What all attempts of this run generation sent away: JSON of host → calls, bytes, credits; None: nothing.

    Each attempt that used a remote detector left ``egress.json`` beside its parts, whether it committed or not. Raises
    GateError when one of them does not say what it should: an audit must not claim less than was sent.
    """
    total: dict[str, dict[str, float]] = {}
    for key in audit.list(f"intents/{plan.home}"):
        if not key.endswith("/egress.json"):
            continue
        try:
            for host, sent in json.loads(audit.read(key)).items():
                sums = total.setdefault(host, dict.fromkeys(EGRESS, 0))
                for name in EGRESS:
                    sums[name] += EGRESS[name](sent[name])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise GateError("an egress record of this run is damaged; restore the audit") from None
    return json.dumps(total, sort_keys=True) if total else None


@cache
def package_versions() -> Mapping[str, str]:
    """Versions of what decides pixels, from installed metadata."""
    from importlib.metadata import PackageNotFoundError, version

    names = ("airflow-facefog", "opencv-python-headless", "numpy", "onnxruntime", "simplejpeg", "pillow", "pillow-heif")
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _sources(plan: Plan, audit: Store) -> Any:
    from airflow_facefog.audit.parquet import read_compact

    data = audit.get(f"sources/{plan.home}.parquet")
    return [] if data is None else read_compact("facefog_source", data)
