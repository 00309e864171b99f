"""Seal a run: compacted parts, a salted leaf for each image, a signed manifest, an entry in the chain.

Order: parts, then the manifest (put-if-absent: the first of several finalisers wins, salts and all), then the chain entry.
A crash in between is made good by the next finalise of the run, or by ``facefog audit seal``. Nothing depends on a clock.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_facefog.audit import chain, ledger
from airflow_facefog.audit.ledger import LedgerPart, SealedRun
from airflow_facefog.audit.sealed import LedgerError, SigningKey, seal, sha256
from airflow_facefog.job.tables import Row, Tables

if TYPE_CHECKING:
    from airflow_facefog.audit.chain import Entry, Head
    from airflow_facefog.job.model import Plan
    from airflow_facefog.publish.store import Store

FORMAT = "facefog-manifest/2"
PARTS = ("image", "detection", "intent")
LEAF = "leaf"

LEFTOVER = r"(image|detection|intent|leaf)(-[0-9a-f]{16})?\.parquet"
"""What a finaliser writes before the manifest."""

Parts = dict[str, LedgerPart]


def find_sealed(plan: Plan, audit: Store) -> SealedRun | None:
    """The sealed run of this plan with its amendments, or None."""
    return ledger.find_run(audit, plan.run_key, plan.generation)


def sealed_tables(audit: Store, run: SealedRun) -> Tables:
    """The rows that a sealed run holds now; a part that has expired is an empty table, except that of the images.

    Raises LedgerError when the images have expired or a part is not what the ledger names.
    """
    if "image" not in run.parts:
        raise LedgerError(f"the image rows of run {run.run_key} have expired; it cannot be published from them again")
    return Tables(*(_sealed_table(audit, run, name) for name in PARTS))


def _sealed_table(audit: Store, run: SealedRun, name: str) -> Any:
    from airflow_facefog.audit.parquet import empty_compact, read_compact

    table, part = f"facefog_{name}", run.parts.get(name)
    return read_compact(table, ledger.read_part(audit, part)) if part else empty_compact(table)


def seal_run(
    plan: Plan, audit: Store, tables: Tables, row: Row, signer: SigningKey | None
) -> tuple[SealedRun, Tables]:  # fmt: skip
    """Write parts and manifest of a run that passed its gate; return what is sealed and its rows.

    ``row``: its row of ``facefog_run``. When another finaliser was faster, what that one sealed is returned.
    """
    from airflow_facefog.audit.leaves import SALT, make_leaves
    from airflow_facefog.audit.tree import ALGORITHM, root

    tables = replace(tables, images=_numbered(tables.images))
    salts = secrets.token_bytes(SALT * tables.images.num_rows)
    leaves = make_leaves(tables.images, tables.detections, salts)
    parts = _write_parts(plan, audit, tables, salts, leaves)
    head = chain.read_head(audit)
    manifest = {
        "format": FORMAT, "run_key": plan.run_key, "generation": plan.generation,
        "sealed_at": datetime.now(UTC).isoformat(timespec="microseconds"), "counts": tables.counts(),
        "policy_hash": plan.policy_hash, "recipe_hash": plan.recipe_hash, "parts": _entries(parts),
        "tree": {"algorithm": ALGORITHM, "root": root(leaves).hex(), "size": tables.images.num_rows},
        "run": {**row, "prev_manifest_sha256": newest_manifest(audit, head)},
        "previous": {"seq": head.seq, "sha256": head.sha256},
    }  # fmt: skip
    publish_key(audit, signer)
    audit.create(ledger.manifest_key(plan.run_key, plan.generation), seal(manifest, signer))
    return _as_sealed(plan, audit, tables, parts)


def _as_sealed(plan: Plan, audit: Store, tables: Tables, parts: Parts) -> tuple[SealedRun, Tables]:
    """What the manifest names; ``tables`` unless another finaliser sealed other bytes."""
    run = find_sealed(plan, audit)
    if run is None:
        raise LedgerError("the manifest that was written is not there; check the store of the audit")
    return run, tables if dict(run.parts) == parts else sealed_tables(audit, run)


def chain_run(audit: Store, run: SealedRun, signer: SigningKey | None, run_part: bytes | None = None) -> Entry:
    """The run's chain entry, appended unless it is there. Afterwards no part lies about that was not sealed.

    ``run_part``: what ``run.parquet`` is about to hold; it comes after the entry, as a trace of a run that was chained.
    """
    manifest = {"key": run.manifest_key, "sha256": run.manifest_sha256}
    body = {
        "kind": chain.RUN, "run_key": run.run_key, "generation": run.generation, "manifest": manifest,
        "counts": run.manifest["counts"],
    }  # fmt: skip
    if run_part is not None:
        body["run_part"] = {"key": run.row_key, "sha256": sha256(run_part), "bytes": len(run_part)}
    entry = chain.append(
        audit, body, signer, after=run.sealed_after,
        same=lambda found: found.kind == chain.RUN and found.document["manifest"] == manifest,
    )  # fmt: skip
    _tidy(audit, run)
    return entry


def seal_outsiders(audit: Store, signer: SigningKey | None) -> dict[str, Any]:
    """Append every sealed run that is not in the chain: of older releases, or left by a crash. Oldest listing first.

    Returns {"chained": run homes, "damaged": what is wrong with the others, "signed", "chain_head"}. A run whose parts
    are not what its manifest names is not appended: the chain would vouch for the damage.
    """
    chained, damaged = [], []
    outside = [run for run in ledger.open_ledger(audit).runs if run.seq is None]
    for run in sorted(outside, key=lambda run: (str(run.manifest["run"]["listed_at"]), run.manifest_key)):
        try:
            for part in run.parts.values():
                ledger.read_part(audit, part)
        except LedgerError as error:
            damaged.append(str(error))
            continue
        publish_key(audit, signer)
        chain_run(audit, run, signer)
        chained.append(run.home)
    signed, head = signer is not None, str(chain.read_head(audit))
    return {"chained": chained, "damaged": damaged, "signed": signed, "chain_head": head}


def publish_key(audit: Store, signer: SigningKey | None) -> None:
    """Leave the public key in the audit for convenience; whoever verifies must know it from elsewhere."""
    if signer is not None:
        audit.create(f"keys/{signer.key_id}.pem", signer.public.pem)


def newest_manifest(audit: Store, head: Head) -> str | None:
    """Hash of the manifest that the newest run entry of the chain names; None: there is none."""
    for seq in range(head.seq, 0, -1):
        entry = chain.read_entry(audit, seq)
        if entry is None:
            raise LedgerError(f"chain entry {seq} is missing; restore the audit's chain/ folder")
        if entry.kind == chain.RUN:
            return str(entry.document["manifest"]["sha256"])
    return None


def _write_part(audit: Store, home: str, name: str, data: bytes, rows: int) -> LedgerPart:
    """Write a part of a run. Other bytes of that name are left alone (another finaliser may be about to seal them)."""
    digest = sha256(data)
    for key in (f"runs/{home}/{name}.parquet", f"runs/{home}/{name}-{digest[:16]}.parquet"):
        if audit.create(key, data) or audit.get(key) == data:
            return LedgerPart(name, key, digest, rows, len(data))
    raise LedgerError(f"{key} is there with other bytes than its name says; restore or delete it")


def _tidy(audit: Store, run: SealedRun) -> None:
    """Remove parts of finalisers that did not seal this run: other salts, or rows that were erased meanwhile."""
    named = {part["key"] for part in run.manifest["parts"].values()}
    for key in audit.list(f"runs/{run.home}"):
        if re.fullmatch(LEFTOVER, key.removeprefix(f"runs/{run.home}/")) and key not in named:
            audit.delete(key)


def _numbered(images: Any) -> Any:
    import numpy as np
    import pyarrow as pa

    index = images.schema.get_field_index("leaf_idx")
    return images.set_column(index, images.schema.field(index), pa.array(np.arange(images.num_rows, dtype=np.int64)))


def _write_parts(plan: Plan, audit: Store, tables: Tables, salts: bytes, leaves: bytes) -> Parts:
    from airflow_facefog.audit.parquet import to_parquet

    parts: Parts = {}
    for name, rows in zip(PARTS, (tables.images, tables.detections, tables.intents), strict=True):
        data = to_parquet(f"facefog_{name}", rows, compacted=True)
        parts[name] = _write_part(audit, plan.home, name, data, rows.num_rows)
    parts[LEAF] = _write_part(audit, plan.home, LEAF, _leaf_part(salts, leaves), tables.images.num_rows)
    return parts


def _leaf_part(salts: bytes, leaves: bytes) -> bytes:
    from airflow_facefog.audit.leaves import LEAF_SCHEMA, leaf_table
    from airflow_facefog.audit.parquet import encode, row_groups

    return encode(LEAF_SCHEMA(), row_groups(leaf_table(salts, leaves)), compression="none", use_dictionary=False)


def _entries(parts: Parts) -> Mapping[str, Any]:
    return {name: {k: v for k, v in asdict(part).items() if k != "name"} for name, part in parts.items()}
