"""A face was missed: fog a published picture again with what a person saw, then take the old output away everywhere.

Order: the report stands (``audit.regions``: every run from now on fogs it), an ordinary run over the same raw file replaces
the picture, then older versions, objects and rows go as in an erasure, by a signed amendment, without a tombstone. Each
step looks at what is there, so a call that died is finished by the same call again; a journal says that one is open.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import PermanentError
from airflow_facefog.core.raw import sealed
from airflow_facefog.core.records import Detection
from airflow_facefog.job.model import Place, RootOpener, open_root_plain
from airflow_facefog.job.plan import open_store
from airflow_facefog.job.record.amending import check_signer
from airflow_facefog.job.record.erase_case import Case, Journal, journal_key, keep_journal, open_case
from airflow_facefog.job.record.erase_files import Files, apply
from airflow_facefog.job.record.erase_steps import amend, check_destinations, delete_objects, record_in_sql, withdraw
from airflow_facefog.job.record.refog_case import Shown, clip, find_kept, find_raw, find_shown, parse_box, the_picture
from airflow_facefog.job.record.refog_run import DAG_ID, Again, Means, plan_again, publish_again, tell
from airflow_facefog.job.record.runs import run_places
from airflow_facefog.job.record.trace import Subject, Wanted, read_wanted, trace_subject
from airflow_facefog.job.reported import Reported
from airflow_facefog.job.trace_rows import Kept

if TYPE_CHECKING:
    from airflow_facefog.audit.ledger import Ledger, SealedRun
    from airflow_facefog.audit.sealed import SigningKey
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.core.policy import FogPolicy
    from airflow_facefog.detectors.roboflow.access import AccessOpener

TRIES = 5
"""How often rows of the old output that come up again are looked for."""

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RefogOptions:
    """``policy``, ``detector``: instead of those of the run that published the picture. ``actor``, ``note``: recorded in the
    chain for ever.
    """

    actor: str | None = None
    note: str | None = None
    policy: FogPolicy | None = None
    detector: Any = None


@dataclass(frozen=True, slots=True)
class _Call:
    """One report about one picture. ``regions``: upright px, inside of it; ``shown``: its rows before."""

    means: Means
    options: RefogOptions
    wanted: Wanted
    case: Case
    image_id: str
    regions: tuple[Detection, ...]
    shown: tuple[Shown, ...]
    request_id: str


@sealed
def refog_image(
    audit: Place, image: str, boxes: Sequence[str], *, keys: KeyRing, open_root: RootOpener = open_root_plain,
    open_access: AccessOpener | None = None, options: RefogOptions | None = None, signer: SigningKey | None = None,
    sql: SqlSink | None = None,
) -> Result:  # fmt: skip
    """Fog ``image`` (named as for ``erase_images``) again, the ``boxes`` (see ``parse_box``) too, and take its old output
    away. Returns counts and URIs, no name or id of an image.

    Raises PermanentError (nothing found, shown nowhere, its raw file gone or changed, less would be fogged than before),
    ConfigurationError (a wrong box, several pictures, another key, no signing key), GateError, LedgerError, StoreError.
    """
    from airflow_facefog.audit.chain import read_head
    from airflow_facefog.audit.regions import stand

    means = Means(audit, open_store(audit, open_root), keys, open_root, open_access, signer, sql)
    call = _open(means, image, boxes, options or RefogOptions())
    check_signer(call.case.ledger, signer)
    again = _plan(call)
    journal = Journal(image_ids=frozenset({call.image_id}))
    means.store.create(journal_key(call.request_id), journal.to_json())
    stand(means.store, keys, call.image_id, call.regions)
    for one in again:
        publish_again(means, one)
    made = _check_shown(call)
    total, rewritten = _take_away(call)
    _settle(call)
    means.store.delete(journal_key(call.request_id))
    return {
        "request_id": call.request_id, "regions": len(_standing(call)), "datasets": made, "rewritten": rewritten, **total,
        "chain_head": str(read_head(means.store)),
    }  # fmt: skip


@sealed
def preview_refog(
    audit: Place, image: str, boxes: Sequence[str], *, keys: KeyRing, open_root: RootOpener = open_root_plain,
    open_access: AccessOpener | None = None, options: RefogOptions | None = None,
) -> Result:  # fmt: skip
    """What ``refog_image`` would do; names files. Raises as it does; changes nothing."""
    means = Means(audit, open_store(audit, open_root), keys, open_root, open_access)
    call = _open(means, image, boxes, options or RefogOptions())
    again = _plan(call)
    return {
        "request_id": call.request_id, "regions": [[*one.xyxy, one.class_name] for one in call.regions],
        "raw_files": sorted(uri for one in again for uri in one.request.sources or ()),
        "datasets": [{"destination": one.request.destination.uri, "dataset": one.request.dataset} for one in again],
        "objects": sorted({row.image["output_uri"] for row in call.shown}),
    }  # fmt: skip


def _open(means: Means, image: str, boxes: Sequence[str], options: RefogOptions) -> _Call:
    from airflow_facefog.audit.ledger import open_ledger

    parsed = [parse_box(box) for box in boxes]
    wanted = read_wanted([image], means.keys)
    case = open_case(means.store, wanted, means.keys, None, open_ledger(means.store))
    if not case.trace.rows:
        raise PermanentError(f"nothing found about this image under master key {means.keys.key_id}")
    check_destinations(case, means.open_root)
    shown = _shown(means, case, case.subject.image_ids)
    image_id = the_picture(shown, wanted)
    mine = tuple(row for row in shown if row.image["image_id"] == image_id)
    regions = tuple(clip(parsed, mine[0].image))
    return _Call(
        means, options, wanted, case, image_id, regions, mine, _request_id(means.keys, image_id, regions)
    )  # fmt: skip


def _request_id(keys: KeyRing, image_id: str, regions: Iterable[Detection]) -> str:
    """32 hex digits: the same report is the same request."""
    rows = sorted({(one.class_name, *one.xyxy) for one in regions})
    data = "\0".join(("facefog/refog/1", image_id, repr(rows))).encode()
    digest = hashlib.sha256(data).hexdigest() if keys.ids is None else hmac.digest(keys.ids, data, "sha256").hex()
    return digest[:32]


def _shown(means: Means, case: Case, image_ids: Iterable[str]) -> list[Shown]:
    return find_shown(means.store, case.ledger, case.datasets(), image_ids, means.open_root)


def _standing(call: _Call) -> tuple[Detection, ...]:
    """What was reported about the picture so far."""
    return Reported(call.means.store, call.means.keys).find(call.image_id)


def _plan(call: _Call) -> list[Again]:
    """The runs that are still to be made: one for each earlier run whose output lacks something that was reported."""
    means, kept = call.means, _kept(call, call.case.ledger, (*_standing(call), *call.regions))
    groups: dict[tuple[Place, str, str], list[tuple[Shown, str]]] = {}
    for row in call.shown:
        if row.image["output_sha256"] not in kept.outputs:
            raw = find_raw(means.store, call.case, row, call.wanted, means.open_root)
            groups.setdefault((row.place, row.dataset, row.run.home), []).append((row, raw))
    wished = call.options.policy, call.options.detector
    return [plan_again(means, call.request_id, rows, *wished) for rows in groups.values()]


def _kept(call: _Call, ledger: Ledger, regions: Sequence[Detection]) -> Kept:
    return find_kept(call.means.store, ledger, call.image_id, regions)


def _check_shown(call: _Call) -> list[Result]:
    """Consumers see the new picture everywhere; what changed for them, by dataset. Raises PermanentError otherwise."""
    case = _stale(call)
    shown = _shown(call.means, case, [call.image_id])
    assert case.subject.kept is not None
    if any(row.image["output_sha256"] not in case.subject.kept.outputs for row in shown) or not shown:
        raise PermanentError(
            "the picture is not shown with everything that was reported, perhaps because somebody reported more meanwhile; "
            "let the next run over its source publish it, then repeat this"
        )
    runs = Counter((row.place, row.dataset, row.run.home) for row in shown if _is_mine(row.run, call.request_id))
    return [
        {"destination": place.uri, "dataset": dataset, "replaced": replaced, **tell(call.means, home)}
        for (place, dataset, home), replaced in sorted(runs.items(), key=str)
    ]


def _is_mine(run: SealedRun, request_id: str) -> bool:
    return bool(run.row["dag_id"] == DAG_ID and str(run.row["run_id"]).startswith(f"refog__{request_id}__"))


def _settle(call: _Call) -> None:
    """Finish runs of this request that another report stopped after their seal: of the picture they hold nothing now."""
    from airflow_facefog.audit.ledger import open_ledger

    for run in open_ledger(call.means.store).runs:
        if _is_mine(run, call.request_id) and not call.means.store.exists(f"runs/{run.home}/run.parquet"):
            tell(call.means, run.home)


def _stale(call: _Call) -> Case:
    """The old rows about the picture, with what an unfinished call knew of them."""
    from airflow_facefog.audit.ledger import open_ledger

    store = call.means.store
    ledger = open_ledger(store)
    none: frozenset[str] = frozenset()
    subject = Subject(frozenset({call.image_id}), none, none, none, _kept(call, ledger, _standing(call)))
    journal = Journal.read(store, call.request_id)
    found = trace_subject(store, ledger, subject, call.means.keys)
    return Case(call.request_id, call.means.keys, found, run_places(store, ledger), journal, ledger)


def _take_away(call: _Call) -> tuple[Counter[str], list[Result]]:
    """Remove the old output and its rows; counts, and the datasets whose files changed."""
    from airflow_facefog.audit.amendments import Request

    means, total = call.means, Counter({"objects_removed": 0, "rows_removed": 0, "files_changed": 0})
    request = Request(call.request_id, "erasure", call.options.actor, call.options.note)
    rewritten: list[Result] = []
    for _ in range(TRIES):
        case = keep_journal(means.store, _stale(call), means.open_root, frozenset())
        rewritten = withdraw(case, means.open_root)
        total["objects_removed"] += delete_objects(case, means.open_root)
        total["rows_removed"] += amend(means.store, case, request, means.signer)
        for edit in Files(means.store, case.subject, case.trace.forgotten, means.keys).rows(list(case.places.values())):
            apply(means.store, edit)
            total["files_changed"] += 1
        if means.sql is not None:
            total["sql_rows_removed"] += _forget_in_sql(case, means.sql, means.store, call.image_id)
        if not _stale(call).trace.rows:
            break
    return total, rewritten


def _forget_in_sql(case: Case, sql: SqlSink, store: Any, image_id: str) -> int:
    from airflow_facefog.audit.sql_forget import forget_outputs

    kept = case.subject.kept
    assert kept is not None
    runs = [(key, int(number)) for key, _, number in (home.partition("/") for home in sorted(kept.homes))]
    done = forget_outputs(sql, image_id, kept_runs=runs, kept_outputs=kept.outputs)
    record_in_sql(store, case, sql)
    return done
