"""Change a sealed run's record in the open: parts are written anew without some rows, or removed, and the chain says so.

Order: new parts, then the signed chain entry, then the old bytes go. Until the entry is there nothing has changed; from
then on readers use the new parts, and what is left of the old ones is swept by ``sweep``, now or by the next call.
A leaf keeps its place and hash and loses its salt, so that the proofs of other rows hold and nobody can try what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from airflow_facefog.audit import chain
from airflow_facefog.audit.chain import Entry
from airflow_facefog.audit.ledger import Ledger, LedgerPart, SealedRun, read_run
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.sealed import LedgerError, SigningKey, sha256
from airflow_facefog.core.errors import TransientError

ROWS = ("image", "detection", "intent")
"""Parts whose rows name images; the fourth, ``leaf``, names none."""

Gone = Callable[[Any], Any]
"""A ``pyarrow.Table`` with source_ref and image_id (text, coded or not) → mask of the rows that go."""


class OvertakenError(TransientError):
    """Another amendment of the same run was chained first. Read the ledger again and repeat; nothing was changed."""


class Editable(Objects, Protocol):
    """A store in which objects can be removed and, before anything names them, replaced."""

    def replace(self, key: str, data: bytes) -> None:
        """Write or overwrite, atomically."""

    def delete(self, key: str) -> bool:
        """Remove an object. False: there was none."""


@dataclass(frozen=True, slots=True)
class Request:
    """Why a record is changed. ``request_id``: 32 hex digits; ``actor``: who asked, as the caller names them; ``note``:
    what else should be remembered. Both stay in the chain for ever: no personal data belongs there.
    """

    request_id: str
    reason: Literal["erasure", "expiry"]
    actor: str | None = None
    note: str | None = None


@dataclass(slots=True)
class Cursor:
    """How far the chain was read, and which runs were amended on the way, by which entry: others than these are known."""

    head: chain.Head
    moved: dict[tuple[str, int], int] = field(default_factory=dict, repr=False)

    @classmethod
    def after(cls, ledger: Ledger) -> Cursor:
        """From where a ledger ends."""
        newest = ledger.entries[-1] if ledger.entries else None
        return cls(chain.Head(newest.seq, newest.sha256) if newest else chain.START)

    def pass_by(self, entry: Entry) -> None:
        """Read on."""
        self.head = chain.Head(entry.seq, entry.sha256)
        if entry.kind == chain.AMENDMENT:
            self.moved[entry.run] = entry.seq


@dataclass(frozen=True, slots=True)
class Amended:
    """One amendment: its chain entry and how many rows each part lost."""

    entry: Entry
    rows_removed: Mapping[str, int]


def remove_rows(
    audit: Editable, cursor: Cursor, run: SealedRun, request: Request, gone: Gone, signer: SigningKey | None, *,
    objects_removed: int = 0,
) -> Amended | None:  # fmt: skip
    """Write a run's parts without the rows for which ``gone`` holds; None when it has no such rows.

    ``cursor``: from where on the chain was not yet read when ``run`` was. Raises LedgerError when a part is missing or
    damaged (what it held cannot be told then), OvertakenError when another amendment of this run was faster.
    """
    tables = {name: _read(audit, run, name) for name in ROWS if name in run.parts}
    masks = {name: gone(table) for name, table in tables.items()}
    removed = {name: count for name, mask in masks.items() if (count := _true(mask))}
    if not removed:
        return None
    parts = {}
    for name in removed:
        left = _left(tables[name], masks[name])
        parts[name] = _write(audit, run, request, name, _encode(name, left), left.num_rows)
    if "leaf" in run.parts and "image" in removed:
        leaves = _without_salts(audit, run, tables["image"].filter(masks["image"])["leaf_idx"].to_pylist())
        parts["leaf"] = _write(audit, run, request, "leaf", leaves, run.parts["leaf"].rows)
    return _chain(audit, cursor, run, request, parts, removed, objects_removed, signer)


def remove_parts(
    audit: Editable, cursor: Cursor, run: SealedRun, request: Request, names: Iterable[str], signer: SigningKey | None
) -> Amended | None:
    """Say that these parts of a run are gone; its manifest and chain entry stay. None when none of them is left.

    Raises OvertakenError as ``remove_rows`` does.
    """
    there = {name: run.parts[name] for name in names if name in run.parts}
    parts = {name: _entry(None, None, 0, 0, part) for name, part in there.items()}
    removed = {name: part.rows for name, part in there.items() if name in ROWS and part.rows}
    return _chain(audit, cursor, run, request, parts, removed, 0, signer) if parts else None


def sweep(audit: Editable, ledger: Ledger) -> list[str]:
    """Delete what amendments replaced and is still there; return those keys. Safe to repeat."""
    deleted = []
    for run in ledger.runs:
        if run.amendments:
            now = {part.key for part in run.parts.values()}
            stale = sorted({key for key in superseded(audit, run) if key not in now})
            deleted += [key for key in stale if audit.delete(key)]
    return deleted


def superseded(audit: Objects, run: SealedRun) -> Iterable[str]:
    """Every key that once held rows of an amended run, and its salts."""
    yield from (part.key for part in read_run(audit, run.manifest_key).parts.values())
    yield f"runs/{run.home}/salt.bin"
    for entry in run.amendments:
        yield from (part["key"] for part in entry.document["parts"].values() if part["key"])


def erasure_rows(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Rows of ``facefog_erasure`` as the chain's amendments tell them: one per part that was changed."""
    return [
        {
            "request_id": entry.document["request_id"], "run_key": entry.run[0], "generation": entry.run[1],
            "part": name, "reason": entry.document["reason"], "old_sha256": part["replaces"],
            "new_sha256": part["sha256"], "rows_removed": entry.document["rows_removed"].get(name, 0),
            "seq": entry.seq, "at": entry.at, "actor": entry.document.get("actor"),
        }
        for entry in entries
        if entry.kind == chain.AMENDMENT
        for name, part in entry.document["parts"].items()
    ]  # fmt: skip


def _read(audit: Objects, run: SealedRun, name: str) -> Any:
    """The rows in the form that takes least memory."""
    from airflow_facefog.audit.parquet import read_compact

    return read_compact(f"facefog_{name}", _bytes(audit, run.parts[name]))


def _bytes(audit: Objects, part: LedgerPart) -> bytes:
    data = audit.get(part.key)
    if data is None or sha256(data) != part.sha256:
        raise LedgerError(f"{part.key} is missing or does not hold the recorded bytes; restore the audit")
    return data


def _left(table: Any, mask: Any) -> Any:
    import pyarrow.compute as pc

    return table.filter(pc.invert(mask))


def _true(mask: Any) -> int:
    import pyarrow.compute as pc

    return int(pc.sum(mask).as_py() or 0)


def _encode(name: str, rows: Any) -> bytes:
    from airflow_facefog.audit.parquet import to_parquet

    return to_parquet(f"facefog_{name}", rows, compacted=True)


def _without_salts(audit: Objects, run: SealedRun, places: Iterable[int | None]) -> bytes:
    """The leaf part with null salts at these places, encoded as it was."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from airflow_facefog.audit.parquet import encode, row_groups

    leaves = pq.read_table(pa.BufferReader(_bytes(audit, run.parts["leaf"])))
    salts = leaves["salt"].to_pylist()
    for place in places:
        if place is not None:
            salts[place] = None
    column = pa.array(salts, leaves.schema.field("salt").type)
    left = leaves.set_column(leaves.schema.get_field_index("salt"), leaves.schema.field("salt"), column)
    return encode(left.schema, row_groups(left.combine_chunks()))


def _write(audit: Editable, run: SealedRun, request: Request, name: str, data: bytes, rows: int) -> dict[str, Any]:
    """A leftover of a call that died before its chain entry is replaced; what the chain names never is."""
    digest = sha256(data)
    key = f"runs/{run.home}/amended/{request.request_id}/{name}.parquet"
    if key in superseded(audit, run) and audit.get(key) != data:
        key = f"runs/{run.home}/amended/{request.request_id}/{digest[:16]}/{name}.parquet"
    if not audit.create(key, data) and audit.read(key) != data:
        audit.replace(key, data)
    return _entry(key, digest, rows, len(data), run.parts[name])


def _entry(key: str | None, digest: str | None, rows: int, size: int, old: LedgerPart) -> dict[str, Any]:
    return {"key": key, "sha256": digest, "rows": rows, "bytes": size, "replaces": old.sha256}


def _chain(
    audit: Objects, cursor: Cursor, run: SealedRun, request: Request, parts: Mapping[str, Any],
    removed: Mapping[str, int], objects_removed: int, signer: SigningKey | None,
) -> Amended:  # fmt: skip
    """Append the amendment. ``parts`` replace those that ``run`` says: after another amendment they would undo it."""
    body = {
        "kind": chain.AMENDMENT, "run_key": run.run_key, "generation": run.generation, "request_id": request.request_id,
        "reason": request.reason, "actor": request.actor, "parts": dict(parts), "rows_removed": dict(removed),
        "objects_removed": objects_removed, **({"note": request.note} if request.note else {}),
    }  # fmt: skip
    name, known = (run.run_key, run.generation), {entry.seq for entry in run.amendments}

    def same(entry: Entry) -> bool:
        cursor.pass_by(entry)
        if entry.kind == chain.AMENDMENT and entry.run == name and entry.seq not in known:
            if all(entry.document[field_] == body[field_] for field_ in ("request_id", "reason", "parts")):
                return True
            raise OvertakenError(f"chain entry {entry.seq} amended this run meanwhile; read it again")
        return False

    if cursor.moved.get(name, 0) not in {0, *known}:
        raise OvertakenError("another amendment of this run was chained meanwhile; read it again")
    entry = chain.append(audit, body, signer, after=cursor.head, same=same)
    cursor.pass_by(entry)
    return Amended(entry, removed)
