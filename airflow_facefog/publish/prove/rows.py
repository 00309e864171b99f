"""The Parquet tables of our bookkeeping: does one hold rows of runs that the audit knows, and nothing beside them?

A snapshot that names a table's hash says nothing here: whoever can write the table can write the snapshot.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.publish import items
from airflow_facefog.publish import parts as p
from airflow_facefog.publish.erased import SHOWN
from airflow_facefog.publish.prove.index import NONE, from_hex
from airflow_facefog.publish.prove.known import Known
from airflow_facefog.publish.prove.shapes import URI_LENGTH
from airflow_facefog.publish.prove.shown import HEX64

CHANGES = (p.PUBLISHED, p.KEPT, p.WITHDRAWN, "added", "replaced")

PLACES = 4
"""Places that the URIs of one table may name: a dataset can be moved between runs."""

Runs = Collection[tuple[str, int]]


def rows_problem(data: bytes, known: Known, runs: Runs) -> str:
    """What is wrong with a part or delta, or nothing. ``runs``: all (run_key, generation) that the audit knows."""
    try:
        table = p.decode(data)
    except ConfigurationError:
        return "bookkeeping: it is not the Parquet that its name says"
    again = p.encode(table)
    if again != data and (_writer(again) == _writer(data) or len(data) > 1.1 * len(again) + 4096):
        return "bookkeeping: it holds more than its rows"
    column = _wrong_column(table)
    if column:
        return f"bookkeeping: a {column} in it is not what a run writes there"
    made = table.group_by(["run_key", "generation"]).aggregate([]).to_pylist()
    if {(row["run_key"], row["generation"]) for row in made} - set(runs):
        return "bookkeeping of a run that the audit does not know"
    return "" if _published(table, known) else "bookkeeping: it holds rows that no sealed run published"


def _writer(data: bytes) -> str:
    """Which version of which library wrote it: another one may write other bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return str(pq.ParquetFile(pa.BufferReader(data)).metadata.created_by)


def _wrong_column(table: Any) -> str:
    """The first column with a value that its form or the row's key rules out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in ("item_id", "recipe_hash", "sha256"):
        if not _all(pc.match_substring_regex(table[name], HEX64)):
            return name
    if not _all(pc.is_in(table["change"], value_set=pa.array(CHANGES))):
        return "change"
    shown = pc.is_valid(table["key"])
    for name in set(SHOWN) - {"path"}:
        if not _all(pc.equal(pc.is_valid(table[name]), shown)):
            return name
    rows = table.filter(shown)
    keys = rows["key"]
    if pc.any(pc.and_(pc.is_valid(table["path"]), pc.invert(shown))).as_py():
        return "path"
    if not _same(rows["path"], items.paths(keys)):
        return "path"
    if not _same(rows["format"], items.formats(keys)):
        return "format"
    return "" if _in_few_places(rows["uri"], keys) else "uri"


def _all(mask: Any) -> bool:
    """Whether no value says no; no value at all says nothing."""
    import pyarrow.compute as pc

    return pc.all(mask).as_py() is not False


def _same(one: Any, other: Any) -> bool:
    """Equal values; null equals null."""
    import pyarrow as pa

    return bool(
        pa.chunked_array([one.combine_chunks()], pa.string()).equals(pa.chunked_array([_one(other)], pa.string()))
    )


def _one(column: Any) -> Any:
    import pyarrow as pa

    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _in_few_places(uris: Any, keys: Any) -> bool:
    """Whether each URI is one of a few places and the row's key."""
    import pyarrow.compute as pc

    for _ in range(PLACES):
        if not len(uris):
            return True
        uri, key = uris[0].as_py(), keys[0].as_py()
        place = uri.removesuffix(key)
        if place == uri or not place.endswith("/") or len(place) > URI_LENGTH:
            return False
        other = pc.not_equal(uris, pc.binary_join_element_wise(place, keys, ""))
        uris, keys = uris.filter(other), keys.filter(other)
    return not len(uris)


def _published(table: Any, known: Known) -> bool:
    """Whether each row shows, under its key, what a sealed run published; of an expired run nobody can tell."""
    import pyarrow.compute as pc

    rows = table.filter(pc.is_valid(table["key"]))
    if not rows.num_rows:
        return True
    at = known.outputs.find(from_hex(rows["sha256"]))
    good = _under_key(rows["key"], at, known) if len(known) else np.zeros(len(at), np.bool_)
    if good.all():
        return True
    expired = {(run.run_key, run.generation) for run in known.runs if run.expired}
    rest = rows.filter(pc.invert(_mask(good))).select(["run_key", "generation"]).to_pylist()
    return all((row["run_key"], row["generation"]) in expired for row in rest)


def _under_key(keys: Any, at: npt.NDArray[np.int64], known: Known) -> npt.NDArray[np.bool_]:
    """Which rows have their key recorded by a sealed run for the bytes found ``at``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    said = known.keys.take(pa.array(np.maximum(at, 0)))
    same = pc.equal(said, _one(keys).cast(said.type)).to_numpy(zero_copy_only=False)
    good = np.asarray(same & (at != NONE) & known.sealed[np.maximum(at, 0)], np.bool_)
    for row in np.nonzero((at != NONE) & ~good)[0].tolist():  # equal bytes under several names
        key, digest = keys[row].as_py(), known.outputs.digests[at[row]]
        good[row] = any(known.key_of(n) == key and known.sealed[n] for n in known.outputs.find_all(digest))
    return good


def _mask(values: npt.NDArray[np.bool_]) -> Any:
    import pyarrow as pa

    return pa.array(values)
