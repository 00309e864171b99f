"""Certificates: what was done to one image, provable without the audit and without any other row of it.

``facefog-certificate/1``, RFC 8785 JSON: {format, image: its row, detections: its rows, leaf: {algorithm, hash, salt, index,
proof}, manifest: the run's whole manifest, chain: the entry that names it}. Columns without a value are left out. It has
no signature of its own: manifest and chain entry are signed, and everything else must lead to the manifest's tree root.
``audit.certificate_check`` checks one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_facefog.audit import chain, leaves, tree
from airflow_facefog.audit.ledger import Ledger, SealedRun, read_part
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.schema import DETECTION, IMAGE
from airflow_facefog.audit.sealed import LedgerError, canonical
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.records import Status

FORMAT = "facefog-certificate/1"
LEAF_FORMAT = "facefog-leaf/1"

IDS = ("image_id", "source_ref", "output_sha256")
"""Columns by which an image is found."""

FULL = 64
"""Digits of a whole id."""

LOOKED_AT = (*IDS, "status", "done_run_key", "duplicate_of", "leaf_idx")


@dataclass(frozen=True, slots=True)
class Found:
    """One image row of a sealed run. ``others``: further rows of that run that fit as well (equal bytes)."""

    run: SealedRun = field(repr=False)
    row: Mapping[str, Any] = field(repr=False)
    others: int = 0


def find_image(audit: Objects, ledger: Ledger, wanted: Collection[str], run_key: str | None = None) -> Found:
    """The image that one of these ids or prefixes names (hex digits; any of ``IDS``), as the newest run has it.

    A row that says ``skipped`` leads to the run that did the image, unless ``run_key`` asks for this run's own row.
    Raises LedgerError when no sealed run has such a row, or a part is missing or damaged; ConfigurationError when a
    prefix fits several images or the run is unknown.
    """
    runs = [run for run in reversed(ledger.runs) if run_key in (None, run.run_key)]
    if run_key is not None and not runs:
        raise ConfigurationError(f"the audit has no sealed run {run_key[:40]!r}; `--run` takes a whole run_key")
    hits: list[Found] = []
    ids: set[str] = set()
    for run in runs:
        rows = _rows(audit, run, wanted)
        ids.update(row[name] for row in rows for name in IDS if (row[name] or "").startswith(tuple(wanted)))
        hits += _choose(run, rows)
        if hits and all(len(name) == FULL for name in wanted):
            break
    if not hits:
        raise LedgerError(_nowhere(runs))
    if len(ids) > len(wanted):
        raise ConfigurationError(f"{len(ids)} ids in the audit start with these digits; give more of them")
    return hits[0] if run_key is not None else _follow(audit, ledger, hits[0])


def make_certificate(audit: Objects, found: Found) -> bytes:
    """The certificate of an image row. Raises LedgerError when the record cannot prove the row, with what to do."""
    run = found.run
    if "tree" not in run.manifest:
        raise LedgerError(
            f"run {run.run_key} was sealed by an older release, without a tree: its rows cannot be proven one by one; "
            "fog the image again with this release (for example into another dataset), or show the whole audit"
        )
    if run.seq is None:
        raise LedgerError(f"run {run.run_key} is sealed but not in the chain yet; run `facefog audit seal` first")
    ref = str(found.row["source_ref"])
    image, detections = (_of_source(audit, run, table.name, ref) for table in (IMAGE, DETECTION))
    document = {
        "format": FORMAT, "image": _without_index(image[0]), "detections": detections,
        "leaf": _leaf(audit, run, int(found.row["leaf_idx"])),
        "manifest": run.manifest, "chain": _entry(audit, run.seq),
    }  # fmt: skip
    return canonical(document)


def _rows(audit: Objects, run: SealedRun, wanted: Iterable[str]) -> list[dict[str, Any]]:
    """Image rows of a run with an id that starts with one of ``wanted``; no rows when they have expired."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from airflow_facefog.audit.parquet import read_arrow

    part = run.parts.get("image")
    if part is None:
        return []
    table = read_arrow(IMAGE.name, read_part(audit, part), LOOKED_AT)
    found: set[int] = set()
    for name in IDS:
        for text in wanted:
            mask = pc.fill_null(pc.starts_with(table[name], text), False)
            found.update(pc.indices_nonzero(mask).to_pylist())
    rows: list[dict[str, Any]] = table.take(pa.array(sorted(found), pa.int64())).to_pylist()
    return rows


def _choose(run: SealedRun, rows: Sequence[Mapping[str, Any]]) -> list[Found]:
    """Of rows with equal bytes the one that the others point to; nothing when there is no row."""
    if not rows:
        return []
    first = min(rows, key=lambda row: (row["status"] == Status.SKIPPED, row["duplicate_of"] is not None))
    return [Found(run, first, len(rows) - 1)]


def _follow(audit: Objects, ledger: Ledger, found: Found) -> Found:
    """The row of the run that did a skipped image."""
    if found.row["status"] != Status.SKIPPED:
        return found
    done, image_id, ref = (found.row[name] for name in ("done_run_key", "image_id", "source_ref"))
    for run in reversed(ledger.runs):
        if run.run_key != done or not image_id:
            continue
        rows = [row for row in _rows(audit, run, [image_id]) if row["status"] == Status.PUBLISHED]
        same = [row for row in rows if row["source_ref"] == ref]
        if rows:
            return _choose(run, same or rows)[0]
    raise LedgerError(
        f"run {found.run.run_key} reused this image from run {done}, which has no row of it any more (erased or expired)"
    )


def _nowhere(runs: Sequence[SealedRun]) -> str:
    changed = sum(bool(run.amendments) for run in runs)
    return (
        f"no row of {len(runs)} sealed runs is of this image: it was not listed, it is not the published file, or its id "
        "depends on a master key that is not here"
        + (f"; or it was erased or has expired ({changed} runs were amended)" if changed else "")
    )


def _of_source(audit: Objects, run: SealedRun, table_name: str, source_ref: str) -> list[dict[str, Any]]:
    """All rows of one source in a part, as JSON values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from airflow_facefog.audit.parquet import open_part

    part = run.parts.get(table_name.removeprefix("facefog_"))
    if part is None:
        raise LedgerError(f"the {table_name} rows of run {run.run_key} have expired; there is nothing left to certify")
    data = read_part(audit, part)
    open_part(table_name, data)
    rows = pq.read_table(pa.BufferReader(data), filters=[("source_ref", "=", source_ref)]).to_pylist()
    return [leaves.to_json(row) for row in rows]


def _leaf(audit: Objects, run: SealedRun, index: int) -> dict[str, Any]:
    """Salt, leaf and inclusion proof of one row. Raises LedgerError when they do not belong to the manifest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = run.parts.get("leaf")
    if part is None:
        raise LedgerError(
            f"the leaves of run {run.run_key} have expired; its rows cannot be proven one by one any more"
        )
    table = pq.read_table(pa.BufferReader(read_part(audit, part)))
    found = b"".join(table["leaf"].to_pylist())
    salt = table["salt"][index].as_py() if index < table.num_rows else None
    if salt is None or tree.root(found).hex() != run.manifest["tree"]["root"]:
        raise LedgerError(f"the leaves of run {run.run_key} do not belong to its manifest; see `facefog audit verify`")
    return {
        "algorithm": LEAF_FORMAT, "hash": found[index * tree.HASH : (index + 1) * tree.HASH].hex(), "salt": salt.hex(),
        "index": index, "proof": [step.hex() for step in tree.proof(found, index)],
    }  # fmt: skip


def _entry(audit: Objects, seq: int) -> Mapping[str, Any]:
    entry = chain.read_entry(audit, seq)
    if entry is None:
        raise LedgerError(f"chain entry {seq} is missing; see `facefog audit verify`")
    return entry.document


def _without_index(row: Mapping[str, Any]) -> dict[str, Any]:
    """The leaf's place is said by the proof."""
    return {name: value for name, value in row.items() if name not in leaves.LEFT_OUT}
