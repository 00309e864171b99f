"""The run that replaces a picture: as it was made before, over its raw file alone, and never with less fog than before."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import GateError, PermanentError
from airflow_facefog.core.policy import FogPolicy
from airflow_facefog.core.records import Action, IntXYXY, Status
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.listing import list_source
from airflow_facefog.job.model import Attempt, Place, PlanRequest, RootOpener, RunIdentity, make_run_key
from airflow_facefog.job.plan import batch_id_of, find_plan, make_plan
from airflow_facefog.job.recipe import plan_recipe
from airflow_facefog.job.record.refog_case import Shown, read_plan

if TYPE_CHECKING:
    from airflow_facefog.audit.sealed import SigningKey
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.detectors.roboflow.access import AccessOpener
    from airflow_facefog.job.rows import Result
    from airflow_facefog.publish.store import Store

DAG_ID = "refog"
"""``dag_id`` of these runs."""

SQUARE = 8
"""Regions are whole blocks of this side, px, but at the picture's border."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a run needs, as ``make_plan``, ``run_batch`` and ``finalise`` take it."""

    audit: Place
    store: Store
    keys: KeyRing
    open_root: RootOpener
    open_access: AccessOpener | None = None
    signer: SigningKey | None = None
    sql: SqlSink | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """A run to be made. ``before``: the regions that are fogged now, by source_ref."""

    request: PlanRequest
    recipe: str
    before: Mapping[str, Sequence[IntXYXY]] = field(repr=False)

    @property
    def run_key(self) -> str:
        """The run that this will be."""
        return make_run_key(self.request.identity, self.request.destination, self.recipe)

    def accept(self, result: Result) -> None:
        """Raise PermanentError, before anything is published, when the new picture shows what the old one covers."""
        if result.image.status != Status.PUBLISHED:
            raise PermanentError(
                f"the picture would not be published again ({result.image.status}: {result.image.reason}); the old one is "
                "still shown: correct the cause, or erase without --refog"
            )
        rows = [row for row in result.detections if row.action == Action.FOGGED]
        now = [(row.fx1 or 0, row.fy1 or 0, row.fx2 or 0, row.fy2 or 0) for row in rows]
        lost = [region for region in self.before.get(result.item.source_ref, ()) if not covered(region, now)]
        if lost:
            raise PermanentError(
                f"{len(lost)} regions that are fogged now would be visible; the old picture is still shown: use the policy "
                "and detector that made it, or stricter ones"
            )


def covered(region: IntXYXY, by: Iterable[IntXYXY]) -> bool:
    """Whether each block of a region lies in one of these."""
    others = list(by)
    x1, y1, x2, y2 = region
    return all(
        any(a <= x and b <= y and min(x + SQUARE, x2) <= c and min(y + SQUARE, y2) <= d for a, b, c, d in others)
        for y in range(y1, y2, SQUARE) for x in range(x1, x2, SQUARE)
    )  # fmt: skip


def plan_again(
    means: Means, request_id: str, rows: Sequence[tuple[Shown, str]], policy: FogPolicy | None, detector: Any
) -> Again:
    """The run for some rows of one earlier run and the URIs of their raw files. Raises PermanentError when the record no
    longer says what is fogged now, and as the plan step does.
    """
    first = rows[0][0]
    plan = read_plan(means.store, first.run)
    policy, detector = policy or _as_written(plan.policy), detector or plan.detector
    sources = tuple(sorted(uri for _, uri in rows))
    listing = list_source(plan.source, sources, means.open_root)
    run_id = f"refog__{request_id}__{batch_id_of(listing.items)}"
    identity = RunIdentity(DAG_ID, run_id, f"refog/{first.dataset}", run_type="manual")
    request = PlanRequest(
        identity=identity, source=plan.source, destination=first.place, audit=means.audit, policy=policy,
        detector=detector, layout=plan.layout, dataset=first.dataset, retry_quarantined=True,
        key_conn_id=plan.key_conn_id, sources=sources,
    )  # fmt: skip
    _, recipe = plan_recipe(detector, policy, means.keys, means.open_access)
    forgotten = any(row.detections is None and row.image["n_detections"] for row, _ in rows)
    if forgotten and recipe != first.run.row["recipe_hash"]:
        raise PermanentError(
            "the record of what is fogged in this picture has expired, so only the policy and detector that made it may "
            "fog it again; they are others now: erase without --refog"
        )
    return Again(request, recipe, {row.image["source_ref"]: row.fogged for row, _ in rows})


def publish_again(means: Means, again: Again) -> None:
    """Make the run, or finish the one that an earlier call began. Raises as the three steps do."""
    if _begun(means, again):
        try:
            return _run(means, again, find_plan(means.audit, again.run_key, means.open_root))
        except GateError:  # something else was reported meanwhile: its rows are taken away as old ones
            pass
    _run(means, again, make_plan(again.request, means.keys, means.open_root, means.open_access))


def tell(means: Means, home: str) -> dict[str, Any]:
    """What a finished run changed for consumers."""
    done = finalise(
        means.store.uri(f"plans/{home}/plan.json"), attempt=_attempt(), keys=means.keys, open_root=means.open_root,
        audit_conn_id=means.audit.conn_id, sql=means.sql, signer=means.signer,
    )  # fmt: skip
    return {name: done[name] for name in ("delta_uri", "snapshot_seq", "manifest_sha256", "changed")}


def _begun(means: Means, again: Again) -> bool:
    """Whether there is a plan of this run whose newest generation is not merged yet."""
    from airflow_facefog.publish.snapshots import is_committed
    from airflow_facefog.publish.store import Store

    number = 0
    while means.store.exists(f"plans/{again.run_key}/{number}/plan.json"):
        number += 1
    place = again.request.destination
    dest = Store(means.open_root(place.uri, place.conn_id))
    return number > 0 and not is_committed(dest, again.request.dataset, again.run_key, number - 1)


def _run(means: Means, again: Again, refs: Sequence[Mapping[str, Any]]) -> None:
    try:
        for ref in refs:
            run_batch(
                ref["plan"], ref["batch"], attempt=_attempt(), keys=means.keys, open_root=means.open_root,
                open_access=means.open_access, audit_conn_id=means.audit.conn_id, workers=1, accept=again.accept,
            )  # fmt: skip
    except PermanentError:
        _drop(means.store, refs[0]["plan"].partition("/plans/")[2].removesuffix("/plan.json"))
        raise
    finalise(
        refs[0]["plan"], attempt=_attempt(), keys=means.keys, open_root=means.open_root,
        audit_conn_id=means.audit.conn_id, sql=means.sql, signer=means.signer,
    )  # fmt: skip


def _drop(audit: Store, home: str) -> None:
    """Forget a run that was refused before it recorded anything: nobody will finish it, and it names a file. What was sent
    to a remote detector stays recorded, with its plan.
    """
    left = audit.list(f"intents/{home}")
    if audit.list(f"commits/{home}") or any(not key.endswith(("/started", "/ended", "/holds")) for key in left):
        return
    for key in (f"plans/{home}/plan.json", *audit.list(f"plans/{home}"), f"sources/{home}.parquet", *left):
        audit.delete(key)


def _attempt() -> Attempt:
    return Attempt(secrets.token_hex(16))


def _as_written(policy: FogPolicy) -> FogPolicy:
    """A policy read back from a plan names every rule; those that were defaults are no wish of anybody."""
    values = {name: getattr(policy, name) for name in type(policy).model_fields}
    return FogPolicy.model_construct(_fields_set=policy.model_fields_set - {"rules"}, **values)
