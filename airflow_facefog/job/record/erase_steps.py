"""What an erasure and a new fogging share: taking rows out of datasets, their objects, and the rows out of the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.job.model import RootOpener
from airflow_facefog.job.plan import open_store
from airflow_facefog.job.record.amending import amend_run
from airflow_facefog.job.record.erase_case import Case

if TYPE_CHECKING:
    from airflow_facefog.audit.amendments import Amended, Cursor, Request
    from airflow_facefog.audit.ledger import SealedRun
    from airflow_facefog.audit.sealed import SigningKey
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.publish.store import Store


def check_destinations(case: Case, open_root: RootOpener) -> None:
    """What cannot be reached cannot be erased there, and without the record nobody would find it later.

    Raises ConfigurationError.
    """
    from airflow_facefog.publish.dataset import home

    for place, dataset in {(row.run.destination, row.run.dataset) for row in case.trace.rows if row.output_key}:
        if not open_store(place, open_root).exists(f"{home(dataset)}dataset.json"):
            raise ConfigurationError(
                f"destination {place.uri} holds no dataset {dataset!r}; bring it back to its place, or say that it is gone "
                "(--without-destination)"
            )


def withdraw(case: Case, open_root: RootOpener) -> list[dict[str, Any]]:
    """Take the rows out of every version of every dataset; say where that changed something."""
    from airflow_facefog.publish import withdrawal

    found = []
    for place, dataset in case.datasets():
        done = withdrawal.withdraw(open_store(place, open_root), dataset, case.targets, case.request_id)
        if done.seq is not None:
            found.append(
                {
                    "destination": place.uri, "dataset": dataset, "snapshot_seq": done.seq,
                    "delta_uri": done.delta_uri, "withdrawn": done.withdrawn,
                }
            )  # fmt: skip
    return found


def delete_objects(case: Case, open_root: RootOpener) -> int:
    """Objects that no other row names: in this audit, or in any dataset of the destination."""
    from airflow_facefog.publish.cutting import still_named

    deleted = 0
    for place in case.destinations():
        dest = open_store(place, open_root)
        keys = case.objects(place, dest)
        deleted += sum(dest.delete(key) for key in sorted(keys - still_named(dest, keys)))
    return deleted


def amend(store: Store, case: Case, request: Request, signer: SigningKey | None) -> int:
    """Rewrite the sealed parts; return the image rows that went."""
    from airflow_facefog.audit.amendments import Cursor, remove_rows, sweep
    from airflow_facefog.audit.ledger import open_ledger

    removed = 0
    for place in {row.run.home: row.run for row in case.trace.rows}.values():
        keys = {row.output_key for row in case.trace.rows if row.run == place and row.output_key}

        run = case.ledger.find(place.run_key, place.generation)

        def remove(cursor: Cursor, found: SealedRun, objects: int = len(keys)) -> Amended | None:
            return remove_rows(store, cursor, found, request, case.subject.about, signer, objects_removed=objects)

        done = amend_run(store, Cursor.after(case.ledger), place.run_key, place.generation, signer, remove, run)
        removed += done.rows_removed.get("image", 0) if done else 0
    sweep(store, open_ledger(store))
    return removed


def record_in_sql(store: Store, case: Case, sql: SqlSink) -> None:
    """Say in ``facefog_erasure`` what the chain says of this request, and leave no deleted bytes."""
    from airflow_facefog.audit import sql_forget
    from airflow_facefog.audit.amendments import erasure_rows
    from airflow_facefog.audit.ledger import open_ledger

    mine = [e for e in open_ledger(store).entries if e.document.get("request_id") == case.request_id]
    sql_forget.record_erasures(sql, erasure_rows(mine))
    sql_forget.wipe(sql)
