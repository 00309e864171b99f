"""The right to erasure: take one picture out of datasets, objects, audit and SQL, and say in the chain that it was done.

Order: tombstone, journal, withdrawal from every dataset, objects, sealed parts, work files, SQL, the raw file when asked,
journal away. Withdrawn first: no object is ever visible without its record. Each step looks at what is there, so a call
that died is finished by the same call again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError, PermanentError
from airflow_facefog.core.raw import sealed
from airflow_facefog.job.model import Place, RootOpener, open_root_plain
from airflow_facefog.job.plan import open_store
from airflow_facefog.job.record import erase_raw
from airflow_facefog.job.record.amending import check_signer
from airflow_facefog.job.record.erase_case import Case, describe, drop_journals, journal_key, keep_journal, open_case
from airflow_facefog.job.record.erase_files import Files, apply, recipients
from airflow_facefog.job.record.erase_steps import amend, check_destinations, delete_objects, record_in_sql, withdraw
from airflow_facefog.job.record.trace import Wanted, read_wanted

if TYPE_CHECKING:
    from airflow_facefog.audit.sealed import SigningKey
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.publish.store import Store

TRIES = 5
"""How often a run that others amend at the same time, or a picture that comes up again, is looked at anew."""

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EraseOptions:
    """``request_id``: 32 hex digits, else made of the question; ``actor``, ``note``: recorded in the chain for ever.

    ``raw`` also deletes the source file; ``without_destination`` goes on although a destination is not where it was.
    """

    request_id: str | None = None
    actor: str | None = None
    note: str | None = None
    raw: bool = False
    without_destination: bool = False

    def __post_init__(self) -> None:
        text = self.request_id
        if text is not None and (len(text) != 32 or set(text) - set("0123456789abcdef")):
            raise ConfigurationError("a request id is 32 lower-case hex digits; leave it out to have one made")


@sealed
def find_images(
    audit: Place, images: Sequence[str], *, keys: KeyRing, open_root: RootOpener = open_root_plain,
    options: EraseOptions | None = None,
) -> Result:  # fmt: skip
    """What ``erase_images`` would do: {"request_id", "rows": the trace, …counts}. Changes nothing."""
    store = open_store(audit, open_root)
    case = _open(store, read_wanted(images, keys), keys, options or EraseOptions())
    listed = [
        (place.uri, key) for place in case.destinations() for key in case.objects(place, open_store(place, open_root))
    ]
    edits = list(_files(store, case).edits(list(case.places.values())))
    return {
        **_about(case), "found": _is_found(store, case, open_root), "rows": describe(case),
        "objects": [{"destination": uri, "key": key} for uri, key in sorted(listed)],
        "files": sorted(edit.key for edit in edits), "recipients": recipients(store, case.subject),
        "raw_files": sorted(uri for uri, _ in erase_raw.find(store, case)),
    }  # fmt: skip


@sealed
def erase_images(
    audit: Place, images: Sequence[str], *, keys: KeyRing, open_root: RootOpener = open_root_plain,
    options: EraseOptions | None = None, signer: SigningKey | None = None, sql: SqlSink | None = None,
) -> Result:  # fmt: skip
    """Erase the pictures that ``images`` mean (see ``trace``). Returns counts and URIs, no name or id of any image.

    Raises PermanentError ("nothing found"), ConfigurationError (another master key, a signed audit without a signing key, a
    destination that is not there), LedgerError (a part that would have to be rewritten is damaged), StoreError.
    """
    from airflow_facefog.audit.chain import read_head

    options = options or EraseOptions()
    store = open_store(audit, open_root)
    wanted = read_wanted(images, keys)
    case = _open(store, wanted, keys, options)
    if not _is_found(store, case, open_root):
        raise PermanentError(
            f"nothing found about this image under master key {keys.key_id}; the audit has runs under "
            f"{', '.join(sorted({place.key_id for place in case.places.values()})) or 'no key'}"
        )
    check_signer(case.ledger, signer)
    if not options.without_destination:
        check_destinations(case, open_root)
    total: Counter[str] = Counter()
    done: Result = {}
    left = case
    for _ in range(TRIES):
        done = _erase(store, left, wanted, options, open_root, signer, sql, total)
        left = _open(store, wanted, keys, options)
        if not left.trace.rows:
            break
    drop_journals(store, left)
    return {**_about(case), **done, **total, "chain_head": str(read_head(store))}


def _open(store: Store, wanted: Wanted, keys: KeyRing, options: EraseOptions) -> Case:
    from airflow_facefog.audit.ledger import open_ledger

    return open_case(store, wanted, keys, options.request_id, open_ledger(store))


def _erase(
    store: Store, first: Case, wanted: Wanted, options: EraseOptions, open_root: RootOpener,
    signer: SigningKey | None, sql: SqlSink | None, total: Counter[str],
) -> Result:  # fmt: skip
    """All steps once. ``total`` gets what they removed."""
    from airflow_facefog.audit.amendments import Request
    from airflow_facefog.audit.tombstones import raise_tombstones

    total["tombstones"] += raise_tombstones(store, first.keys, first.subject.image_ids, first.request_id)
    case = _open(store, wanted, first.keys, options)  # a run that was sealed before the tombstone is seen now
    hosts = recipients(store, case.subject)
    case = keep_journal(store, case, open_root, frozenset(erase_raw.find(store, case)))
    datasets = withdraw(case, open_root)
    total["objects_removed"] += delete_objects(case, open_root)
    total["rows_removed"] += amend(
        store, case, Request(case.request_id, "erasure", options.actor, options.note), signer
    )
    for edit in _files(store, case).edits(list(case.places.values())):
        apply(store, edit)
        total["files_changed"] += 1
    if sql is not None:
        total["sql_rows_removed"] += _forget_in_sql(store, case, sql)
    if options.raw:
        total["raw_removed"] += erase_raw.delete(case, open_root)
    return {"datasets": datasets, "recipients": hosts}


def _is_found(store: Store, case: Case, open_root: RootOpener) -> bool:
    from airflow_facefog.publish.cutting import mentioned

    if case.trace.rows or store.exists(journal_key(case.request_id)):
        return True
    if any(True for _ in _files(store, case).edits(list(case.places.values()))):
        return True
    return any(mentioned(open_store(place, open_root), name, case.targets) for place, name in case.datasets())


def _files(store: Store, case: Case) -> Files:
    return Files(store, case.subject, case.trace.forgotten, case.keys)


def _forget_in_sql(store: Store, case: Case, sql: SqlSink) -> int:
    from airflow_facefog.audit import sql_forget

    subject = case.subject
    done = sql_forget.forget_images(
        sink=sql, image_ids=subject.image_ids, sources=subject.sources, unread=subject.seen, names=case.trace.forgotten
    )
    record_in_sql(store, case, sql)
    return done


def _about(case: Case) -> Result:
    runs = {row.run.home for row in case.trace.rows}
    pending = {row.run.home for row in case.trace.rows if not row.run.sealed}
    return {
        "request_id": case.request_id, "images": len({row.image_id for row in case.trace.rows if row.image_id}),
        "runs": sorted(runs),
        "unfinished_runs": sorted(pending), "other_key_ids": list(case.trace.other_key_ids),
    }  # fmt: skip
