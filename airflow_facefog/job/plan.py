"""Plan, one task: resolve everything once, list the source, freeze it all in ``plan.json`` and immutable batch files.

All other steps get only the URIs of plan and batch. A retry of an unsealed plan returns it unchanged; after a sealed one,
planning again writes the next generation.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.detector import DetectorInfo
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.raw import sealed
from airflow_facefog.core.regions import FOG_VERSION
from airflow_facefog.job.listing import Listed, Listing, item_folders, list_source, split_glob
from airflow_facefog.job.model import Place, Plan, PlanRequest, RootOpener, make_run_key, open_root_plain
from airflow_facefog.job.places import check_apart
from airflow_facefog.job.recipe import plan_recipe

if TYPE_CHECKING:
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.detectors.roboflow.access import AccessOpener
    from airflow_facefog.publish.store import Store

log = logging.getLogger(__name__)

SOURCE_RETENTION_DAYS = 90
"""How long the map from source_ref to URI is kept: file names often identify people."""


@sealed
def make_plan(
    request: PlanRequest,
    keys: KeyRing,
    open_root: RootOpener = open_root_plain,
    open_access: AccessOpener | None = None,
) -> list[dict[str, Any]]:
    """Write the plan of this run, or return the one that is there. Each entry: ``{"plan", "batch", "n"}``.

    Raises ConfigurationError (overlapping or missing places), PolicyError (unsafe or impossible policy),
    PlanMismatchError (the destination's dataset.json disagrees), StoreError (a store is down).

    An unsealed plan is returned unchanged, unless the policy allows another share of bad images (or what else is no part
    of the recipe): then the next generation is planned, or a run that its gate refused could never be finished.
    """
    from airflow_facefog.publish.dataset import fix_dataset

    info, recipe = plan_recipe(request.detector, request.policy, keys, open_access)
    _check_places(request)
    audit = open_store(request.audit, open_root)
    destination = open_store(request.destination, open_root)
    run_key = make_run_key(request.identity, request.destination, recipe)
    generation, existing = _newest(audit, run_key)
    unsealed = existing is not None and not _sealed(audit, run_key, generation)
    if existing is not None and unsealed and existing.policy == request.policy:
        log.info("plan of run %s generation %s is there and unsealed: returned unchanged", run_key, generation)
        ensure_sources(existing, keys, audit)
        return batch_refs(existing, audit)
    listing = list_source(request.source, request.sources, open_root)
    _check_places(request, listing.root)
    fix_dataset(
        destination, dataset=request.dataset, audit_uri=request.audit.uri, layout=request.layout,
        id_scheme=keys.id_scheme, key_id=keys.key_id,
    )  # fmt: skip
    generation += 1 if existing is not None else 0
    plan = _freeze(request, keys, info, recipe, listing, destination, run_key, generation)
    plan = _write(plan, listing, keys, audit)
    if not keys.keyed:
        log.warning("no master key: ids are plain sha256 and the noise field is public; see `facefog keys new`")
    return batch_refs(plan, audit)


@sealed
def preview(
    request: PlanRequest,
    keys: KeyRing,
    open_root: RootOpener = open_root_plain,
    open_access: AccessOpener | None = None,
) -> dict[str, Any]:
    """Say what ``make_plan`` would do; writes nothing. Raises as it does."""
    info, recipe = plan_recipe(request.detector, request.policy, keys, open_access)
    _check_places(request)
    listing = list_source(request.source, request.sources, open_root)
    _check_places(request, listing.root)
    return {
        "run_key": make_run_key(request.identity, request.destination, recipe),
        "listed": len(listing.items),
        "bytes": sum(item.size for item in listing.items),
        "batches": len(list(make_batches(listing.items, request))),
        "recipe_hash": recipe,
        "detector": info.name,
    }


@sealed
def find_plan(audit: Place, run_key: str, open_root: RootOpener = open_root_plain) -> list[dict[str, Any]]:
    """Return the newest plan of ``run_key`` as ``make_plan`` did. Raises ConfigurationError when there is none."""
    store = open_store(audit, open_root)
    _, plan = _newest(store, run_key)
    if plan is None:
        raise ConfigurationError(
            f"no plan of run {run_key!r} in this audit; `facefog run` prints the run_key at its start"
        )
    return batch_refs(plan, store)


def open_store(place: Place, open_root: RootOpener) -> Store:
    """Open a place as a store."""
    from airflow_facefog.publish.store import Store

    return Store(open_root(place.uri, place.conn_id))


def batch_refs(plan: Plan, audit: Store) -> list[dict[str, Any]]:
    """The small dicts that travel to the batch step."""
    uri = audit.uri(f"plans/{plan.home}/plan.json")
    return [{"plan": uri, "batch": audit.uri(plan.batch_key(batch_id)), "n": n} for batch_id, n in plan.batches]


def make_batches(items: Sequence[Listed], request: PlanRequest) -> Iterator[tuple[Listed, ...]]:
    """Cut items into batches by count and bytes; both limits grow when there would be too many batches.

    An empty listing gives one empty batch, so that the run still finalises.
    """
    images, size = request.batch_images, request.batch_bytes
    while True:
        batches = list(_cut(items, images, size))
        if len(batches) <= request.max_batches:
            break
        images, size = images * 2, size * 2
    if images != request.batch_images:
        log.warning(
            "%s images would need over %s batches: a batch holds %s images", len(items), request.max_batches, images
        )
    yield from batches or [()]


def _cut(items: Sequence[Listed], images: int, size: int) -> Iterator[tuple[Listed, ...]]:
    batch: list[Listed] = []
    total = 0
    for item in items:
        if batch and (len(batch) >= images or total + item.size > size):
            yield tuple(batch)
            batch, total = [], 0
        batch.append(item)
        total += item.size
    if batch:
        yield tuple(batch)


def batch_id_of(items: Sequence[Listed]) -> str:
    """16 hex digits over the sorted (key, size, etag) of a batch."""
    text = json.dumps(sorted((item.key, item.size, item.etag) for item in items), ensure_ascii=True)
    return hashlib.sha256(b"facefog/batch/1\0" + text.encode()).hexdigest()[:16]


def _check_places(request: PlanRequest, root: Place | None = None) -> None:
    """Explicit images count by their own folders: the folder that they share may well hold the destination too."""
    folders = item_folders(request.sources) if request.sources else [root or split_glob(request.source)[0]]
    for folder in folders:
        check_apart(folder, request.destination, request.audit)


def _listing_id(request: PlanRequest) -> str:
    """Names what was listed, for mirroring: runs over the same source see each other's items go."""
    text = "\0".join(("facefog/listing/1", request.source.uri, *(("explicit",) if request.sources is not None else ())))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _newest(audit: Store, run_key: str) -> tuple[int, Plan | None]:
    generation, plan = 0, None
    while (data := audit.get(f"plans/{run_key}/{generation}/plan.json")) is not None:
        plan = Plan.from_json(json.loads(data))
        generation += 1
    return (generation - 1 if plan is not None else 0), plan


def _sealed(audit: Store, run_key: str, generation: int) -> bool:
    return audit.exists(f"runs/{run_key}/{generation}/manifest.json")


def _freeze(
    request: PlanRequest, keys: KeyRing, info: DetectorInfo, recipe: str, listing: Listing, destination: Store,
    run_key: str, generation: int,
) -> Plan:  # fmt: skip
    from airflow_facefog.detectors import normalise
    from airflow_facefog.publish.snapshots import newest_seq

    batches = [(batch_id_of(items), len(items)) for items in make_batches(listing.items, request)]
    return Plan(
        run_key=run_key, generation=generation, identity=request.identity, source=listing.root,
        destination=request.destination, audit=request.audit, policy=request.policy,
        policy_hash=request.policy.policy_hash(), recipe_hash=recipe, detector=normalise(request.detector),
        detector_info=asdict(info), key_id=keys.key_id, key_conn_id=request.key_conn_id, id_scheme=keys.id_scheme,
        fog_version=FOG_VERSION, layout=request.layout, dataset=request.dataset, mirror=request.mirror,
        listing_id=_listing_id(request),
        retry_quarantined=request.retry_quarantined,
        base_snapshot=newest_seq(destination, request.dataset),
        listed_at=datetime.now(UTC).isoformat(timespec="microseconds"), listed=len(listing.items),
        batches=tuple(batches),
    )  # fmt: skip


def _write(plan: Plan, listing: Listing, keys: KeyRing, audit: Store) -> Plan:
    """Write batch files first, then the plan: a plan that exists is whole. A concurrent winner's plan is taken."""
    start = 0
    for batch_id, n in plan.batches:
        items = listing.items[start : start + n]
        start += n
        body = {"batch_id": batch_id, "items": [[item.key, item.size, item.etag] for item in items]}
        audit.create(plan.batch_key(batch_id), json.dumps(body).encode())
    key = f"plans/{plan.home}/plan.json"
    if not audit.create(key, json.dumps(plan.to_json(), indent=1).encode()):
        plan = Plan.from_json(json.loads(audit.read(key)))
    ensure_sources(plan, keys, audit)
    return plan


def ensure_sources(plan: Plan, keys: KeyRing, audit: Store) -> None:
    """Write the table that says which URI each ``source_ref`` of a plan stands for, unless it is there.

    Made from the plan's own batch files, after the plan: a list task that died and listed again must not leave the table
    of its first listing behind.
    """
    import pyarrow as pa

    from airflow_facefog.audit.parquet import to_parquet

    key = f"sources/{plan.home}.parquet"
    if audit.exists(key):
        return
    expires = (datetime.fromisoformat(plan.listed_at) + timedelta(days=SOURCE_RETENTION_DAYS)).isoformat()
    tables = [_sources(plan, batch_id, expires, keys, audit) for batch_id, _ in plan.batches]
    audit.create(key, to_parquet("facefog_source", pa.concat_tables(tables)))


def _sources(plan: Plan, batch_id: str, expires_at: str, keys: KeyRing, audit: Store) -> Any:
    """Source rows of one batch as a ``pyarrow.Table``: a run may list millions."""
    import pyarrow as pa

    from airflow_facefog.audit.parquet import arrow_schema

    items = json.loads(audit.read(plan.batch_key(batch_id)))["items"]
    uris = [item_uri(plan.source, name) for name, _, _ in items]
    columns = {
        "source_ref": [keys.source_ref(uri) for uri in uris],
        "source_uri": [printable_uri(uri) for uri in uris],
        "bytes": [size for _, size, _ in items],
        "expires_at": [expires_at] * len(items),
    }
    return pa.Table.from_pydict(columns, schema=arrow_schema("facefog_source"))


def item_uri(root: Place, key: str) -> str:
    """Canonical URI of an item, without userinfo or query; names that are not UTF-8 keep their surrogates."""
    return f"{root.uri.rstrip('/')}/{key}"


def printable_uri(uri: str) -> str:
    """The URI as text for the source table: bytes that are not UTF-8 are percent-encoded."""
    if uri.isascii():
        return uri
    return "".join(f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in uri)
