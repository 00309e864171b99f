"""Snapshots: what consumers see. Lock-free: numbers are taken by exclusive create, a loser merges on the winner.

``<home>/snapshots/<seq, 10 digits>.json`` is the truth, ``latest.json`` a cache of the newest number. A run writes its
part, then its delta against the newest snapshot, then the snapshot; each is put-if-absent and a function of what was
there, so a crash at any point is finished by the next call. An empty delta makes no snapshot.

Newest listing wins per item. What a run skipped it mentions too: its part keeps the rows of its base. A run whose delta
is empty is in no snapshot but is noted, and an older listing that finishes after it looks there (``merging``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.publish import erased, merging
from airflow_facefog.publish import parts as p
from airflow_facefog.publish.dataset import DEFAULT, home
from airflow_facefog.publish.parts import Part, PublishedItem
from airflow_facefog.publish.store import Store

if TYPE_CHECKING:
    from upath import UPath

FORMAT = "facefog-snapshot/1"


@dataclass(frozen=True, slots=True)
class RunManifestRef:
    """The run generation that a part belongs to. ``listed_at``: UTC ISO-8601; ``listing_id``: names the source pattern."""

    run_key: str
    generation: int
    listed_at: str
    recipe_hash: str
    listing_id: str = ""

    def __post_init__(self) -> None:
        when = datetime.fromisoformat(self.listed_at)
        if when.tzinfo is None:
            raise ValueError("listed_at has no time zone")
        object.__setattr__(self, "listed_at", when.astimezone(UTC).isoformat(timespec="microseconds"))


@dataclass(frozen=True, slots=True)
class SnapshotResult:
    """What a commit did. ``seq`` is the snapshot that holds the run, or the newest one when nothing changed (None: none).

    ``counts``: added, replaced, withdrawn.
    """

    seq: int | None
    delta_uri: str
    changed: bool
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot: parts in order, newest listing last."""

    seq: int
    parts: tuple[Part, ...]
    run_key: str
    generation: int
    delta: dict[str, Any]

    @property
    def sources(self) -> set[tuple[str, int]]:
        """Run generations whose parts are in it."""
        return {(part.run_key, part.generation) for part in self.parts}


def newest_seq(store: Store, dataset: str = DEFAULT) -> int | None:
    """Number of the newest snapshot, or None. Starts at the cached number and probes the following ones."""
    root = home(dataset)
    seq = _cached_seq(store, root)
    if seq is None or not store.exists(_snapshot_key(root, seq)):
        names = [key.rpartition("/")[2].removesuffix(".json") for key in store.list(f"{root}snapshots")]
        seq = max((int(name) for name in names if name.isdigit()), default=0)
    while store.exists(_snapshot_key(root, seq + 1)):
        seq += 1
    return seq or None


def read_snapshot(store: Store, dataset: str, seq: int) -> Snapshot:
    """Read one snapshot. Raises ConfigurationError when it is missing or not a snapshot."""
    data = store.get(_snapshot_key(home(dataset), seq))
    try:
        body = json.loads(data) if data is not None else {}
        if body["format"] != FORMAT or body["seq"] != seq:
            raise KeyError(FORMAT)
        found = tuple(Part.from_json(part) for part in body["parts"])
        return Snapshot(seq, found, body["run_key"], body["generation"], body["delta"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigurationError(f"snapshot {seq} of dataset {dataset!r} is missing or not readable") from None


def resolve(store: Store, snapshot: Snapshot, columns: Sequence[str] | None = None) -> Any:
    """One deciding row per item of a snapshot (tombstones included), as a ``pyarrow.Table`` with a column ``part``.

    ``columns``: of the parts, ``item_id`` among them; None all.
    """
    return p.deciding_rows([p.read_part(store, part, columns) for part in snapshot.parts])


def commit_snapshot(
    dest: Store, *, dataset: str, run: RunManifestRef, published: Iterable[PublishedItem] | Any,
    withdrawn: Iterable[str] | Any, mirror: bool = False, listed: Iterable[str] | Any = (),
    skipped: Iterable[str] | Any = (), base: int | None = None,
) -> SnapshotResult:  # fmt: skip
    """Merge one sealed run into the dataset. Committing it again returns the same result and moves nothing.

    ``withdrawn``: items quarantined or failed. ``skipped``: items whose row in snapshot ``base``, the one that the plan
    pinned, still holds. ``mirror`` withdraws every visible item that earlier runs of the same ``listing_id`` showed and
    that is not among ``listed`` (all item_ids of this run). Large runs give what ``items.items_of`` makes: a
    ``pyarrow.Table`` and columns of item_ids.
    Raises StoreError, ConfigurationError (a part was changed, an item appears twice, a skipped one is not in the base).
    """
    folder = f"{home(dataset)}runs/{run.run_key}/{run.generation}/"
    saved = dest.get(f"{folder}committed.json")
    if saved is not None:
        return _result(dest, json.loads(saved))
    if mirror and not run.listing_id:
        raise ValueError("mirroring needs a listing_id: it says which earlier runs listed the same source")
    if mirror:
        withdrawn = _with_gone(dest, dataset, run, p.texts(listed), p.texts(withdrawn))
    rows = p.make_part(
        published, withdrawn, run_key=run.run_key, generation=run.generation, recipe_hash=run.recipe_hash, store=dest,
        kept=_kept(dest, dataset, base, p.texts(skipped), run.recipe_hash),
    )  # fmt: skip
    before = newest_seq(dest, dataset) or 0
    part, rows, new = _write_part(dest, folder, run, rows)
    done = _merge(dest, dataset, folder, part, rows, searched=before if new else 0)
    if not dest.create(f"{folder}committed.json", json.dumps(done).encode()):
        done = json.loads(dest.read(f"{folder}committed.json"))
    return _result(dest, done)


def is_committed(dest: Store, dataset: str, run_key: str, generation: int) -> bool:
    """Whether this run generation is merged already: committing it again moves nothing."""
    return dest.exists(f"{home(dataset)}runs/{run_key}/{generation}/committed.json")


def open_dataset(uri: str | UPath | Store, version: int | None = None, dataset: str = DEFAULT) -> Any:
    """The published rows of a dataset as a ``pyarrow.Table`` (columns: ``CONSUMER_COLUMNS``), sorted by key.

    ``version`` is a snapshot number; None the newest. Every part's hash is checked; URIs lie below the ``uri`` that was
    asked for, so a moved or mounted destination works. Raises ConfigurationError when there is no such snapshot.
    """
    from upath import UPath

    store = uri if isinstance(uri, Store) else Store(uri if isinstance(uri, UPath) else UPath(uri))
    seq = version if version is not None else newest_seq(store, dataset)
    if seq is None:
        raise ConfigurationError(f"dataset {dataset!r} has no snapshot here; a run must finish first")
    table = p.visible(resolve(store, read_snapshot(store, dataset, seq)))
    table = table.sort_by([("key", "ascending"), ("item_id", "ascending")])
    here = p.uris(store, table["key"])
    return table.set_column(table.schema.get_field_index("uri"), "uri", here).select(list(p.CONSUMER_COLUMNS))


def _merge(dest: Store, dataset: str, folder: str, part: Part, rows: Any, *, searched: int) -> dict[str, Any]:
    """Snapshots up to number ``searched`` are known not to be of this run generation."""
    root = home(dataset)
    while True:
        seq = newest_seq(dest, dataset)
        done = _find_committed(dest, dataset, part, searched, seq or 0)
        if done is not None:
            return done
        searched = seq or 0
        part, rows = erased.allowed(dest, root, folder, part, rows)
        try:
            known = read_snapshot(dest, dataset, seq).parts if seq else ()
            merged, delta, counts, total = merging.apply(dest, root, known, part, rows)
        except ConfigurationError:
            if newest_seq(dest, dataset) == seq:
                raise
            continue  # an erasure took a part of it away and wrote a newer snapshot
        number = (seq or 0) + 1
        delta_key = f"{folder}delta-{number:010d}.parquet"
        dest.create(delta_key, p.encode(delta))
        if not any(counts.values()):
            merging.note(dest, root, part)
            if newest_seq(dest, dataset) != seq:
                continue  # made by a run that may not have seen the note
            return {"seq": seq, "delta_key": delta_key, "changed": False, "counts": counts}
        body = {
            "format": FORMAT, "seq": number, "dataset": dataset, "created_at": datetime.now(UTC).isoformat(),
            "run_key": part.run_key, "generation": part.generation, "rows": total,
            "delta": {"key": delta_key, "uri": dest.uri(delta_key), "counts": counts},
            "parts": [item.to_json(dest) for item in merged],
        }  # fmt: skip
        if dest.create(_snapshot_key(root, number), json.dumps(body, indent=1).encode()):
            dest.replace(f"{root}latest.json", json.dumps({"seq": number}).encode())
            erased.drop_first(dest, folder, part)
            return {"seq": number, "delta_key": delta_key, "changed": True, "counts": counts}


def _with_gone(dest: Store, dataset: str, run: RunManifestRef, listed: Any, withdrawn: Any) -> Any:
    """``withdrawn`` and what earlier runs of the same listing show and this one did not list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    seq = newest_seq(dest, dataset)
    if seq is None:
        return withdrawn
    snapshot = read_snapshot(dest, dataset, seq)
    columns = ("item_id", "change")
    same = tuple(part for part in snapshot.parts if part.listing_id == run.listing_id)
    items = p.visible(resolve(dest, snapshot, columns))["item_id"]
    theirs = p.visible(resolve(dest, replace(snapshot, parts=same), columns))["item_id"]
    items = items.filter(pc.is_in(items, value_set=theirs))
    for kept in (listed, withdrawn):
        items = items.filter(pc.invert(pc.is_in(items, value_set=kept)))
    return pa.concat_tables([pa.table({"item_id": column}) for column in (withdrawn, items)])["item_id"]


def _kept(dest: Store, dataset: str, base: int | None, skipped: Any, recipe_hash: str) -> Any:
    """The rows of some items in the snapshot against which they were skipped."""
    import pyarrow.compute as pc

    if not len(skipped):
        return None
    known = read_snapshot(dest, dataset, base).parts if base else ()
    rows = p.visible(p.deciding_rows([merging.mentions(p.part_bytes(dest, part), skipped) for part in known]))
    rows = rows.filter(pc.equal(rows["recipe_hash"], recipe_hash)).drop_columns("part")
    if rows.num_rows != len(skipped):
        raise ConfigurationError("an item was skipped that the plan's snapshot does not show under this recipe")
    return rows


def _write_part(dest: Store, folder: str, run: RunManifestRef, rows: Any) -> tuple[Part, Any, bool]:
    """Write the part, or take the one that an earlier call of this generation wrote."""
    key, data = f"{folder}part.parquet", p.encode(rows)
    new = dest.create(key, data)
    if not new:
        data = dest.read(key)
        rows = p.decode(data)
    part = Part(key, hashlib.sha256(data).hexdigest(), rows.num_rows, **asdict(run), kept_from=p.origins(rows))
    return part, rows, new


def _find_committed(dest: Store, dataset: str, part: Part, after: int, newest: int) -> dict[str, Any] | None:
    """The snapshot after number ``after`` that this run generation made: before a crash, or by a second finaliser."""
    for seq in range(newest, after, -1):
        snapshot = read_snapshot(dest, dataset, seq)
        if (snapshot.run_key, snapshot.generation) == (part.run_key, part.generation):
            delta = snapshot.delta
            return {"seq": seq, "delta_key": delta["key"], "changed": True, "counts": delta["counts"]}
    return None


def _result(dest: Store, body: dict[str, Any]) -> SnapshotResult:
    return SnapshotResult(body["seq"], dest.uri(body["delta_key"]), body["changed"], body["counts"])


def _cached_seq(store: Store, root: str) -> int | None:
    """A damaged cache is no cache."""
    try:
        seq = json.loads(store.get(f"{root}latest.json") or b"{}")["seq"]
        return seq if isinstance(seq, int) and seq > 0 else None
    except (ValueError, KeyError, TypeError):
        return None


def _snapshot_key(root: str, seq: int) -> str:
    return f"{root}snapshots/{seq:010d}.json"
