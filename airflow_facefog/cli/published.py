"""Look at what was published and how the newest run ended, and give published objects their plain names back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError, PermanentError
from airflow_facefog.core.raw import sealed
from airflow_facefog.job.model import Place, Plan, open_root_plain
from airflow_facefog.job.places import check_apart
from airflow_facefog.job.plan import open_store

if TYPE_CHECKING:
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
def dataset_rows(clean: Place) -> tuple[int, list[Row]]:
    """Number and rows of the newest snapshot. Raises ConfigurationError when ``clean`` holds none."""
    from airflow_facefog.publish.dataset import DEFAULT
    from airflow_facefog.publish.snapshots import newest_seq, open_dataset

    store = open_store(clean, open_root_plain)
    seq = newest_seq(store, DEFAULT)
    rows: list[Row] = open_dataset(store, seq).to_pylist()
    assert seq is not None
    return seq, rows


@sealed
def newest_run(clean: Place) -> RunImages:
    """How every image of the newest run into ``clean`` ended, also of one that its gate refused.

    Raises ConfigurationError when ``clean`` is no destination or nothing ran yet.
    """
    from airflow_facefog.audit.parquet import from_parquet
    from airflow_facefog.job.gate import read_part
    from airflow_facefog.publish.protocol import read_commit

    audit = open_store(_audit_of(clean), open_root_plain)
    plan = _newest_plan(audit, clean)
    images: list[Row] = []
    for batch_id, _ in plan.batches:
        commit = read_commit(audit, plan.commit_key(batch_id))
        if commit is not None:
            images += read_part(audit, "facefog_image", commit["image"])
    sources = audit.get(f"sources/{plan.home}.parquet")
    names = {row["source_ref"]: row["source_uri"] for row in from_parquet("facefog_source", sources)} if sources else {}
    rows = [{**image, "source_uri": names.get(image["source_ref"])} for image in images]
    rows.sort(key=lambda row: (row["source_uri"] or "", row["source_ref"]))
    state = "final" if audit.exists(f"runs/{plan.home}/manifest.json") else "incomplete"
    return RunImages(plan.run_key, plan.generation, state, rows)


@sealed
def export_dataset(clean: Place, plain: Place) -> Row:
    """Copy every object of the newest snapshot of ``clean`` to ``plain`` under the name of its source.

    Returns {"snapshot_seq", "exported", "unchanged", "plain"}. Each object's hash is checked on the way; nothing is
    overwritten. Objects of the ``content`` layout have no names to give back and keep their hash.
    Raises ConfigurationError (overlap, no snapshot), PermanentError (an object was changed, a name is taken).
    """
    from airflow_facefog.publish.layout import plain_names

    _refuse_overlap(clean, plain)
    seq, rows = dataset_rows(clean)
    source, target = open_store(clean, open_root_plain), open_store(plain, open_root_plain)
    hashes = {_key(source, row["uri"]): row["sha256"] for row in rows}
    exported = sum(_copy(source, target, key, name, hashes[key]) for key, name in plain_names(list(hashes)).items())
    return {"snapshot_seq": seq, "exported": exported, "unchanged": len(hashes) - exported, "plain": plain.uri}


def _copy(source: Store, target: Store, key: str, name: str, sha256: str) -> bool:
    data = source.get(key)
    if data is None or hashlib.sha256(data).hexdigest() != sha256:
        raise PermanentError("a published object is gone or does not hold the recorded bytes; restore the destination")
    if target.create(name, data):
        return True
    if target.read(name) != data:
        raise PermanentError("a file of that name with other content is in the way; export to an empty folder")
    return False


def _key(store: Store, uri: str) -> str:
    return uri.removeprefix(store.uri().rstrip("/") + "/")


def _refuse_overlap(clean: Place, plain: Place) -> None:
    try:
        check_apart(clean, plain, Place("memory://facefog-no-audit"))
    except ConfigurationError:
        raise ConfigurationError("CLEAN and PLAIN overlap (links resolved); export to a folder of its own") from None


def _audit_of(clean: Place) -> Place:
    from airflow_facefog.publish.dataset import DEFAULT, home

    data = open_store(clean, open_root_plain).get(f"{home(DEFAULT)}dataset.json")
    if data is None:
        raise ConfigurationError("this is no destination of facefog (no _facefog/dataset.json); give the CLEAN folder")
    return Place.parse(json.loads(data)["audit"])


def _newest_plan(audit: Store, clean: Place) -> Plan:
    keys = [key for key in audit.list("plans") if key.endswith("/plan.json")]
    plans = [Plan.from_json(json.loads(audit.read(key))) for key in keys]
    here = [plan for plan in plans if plan.destination.uri.rstrip("/") == clean.uri.rstrip("/")]
    if not here:
        raise ConfigurationError("the audit knows no run into this destination; was it moved?")
    return max(here, key=lambda plan: (plan.listed_at, plan.generation))
