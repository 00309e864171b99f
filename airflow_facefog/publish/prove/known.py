"""What the audit recorded, as columns: every output ever published or intended, and the ids of every raw image.

Read from the parts of sealed runs as the ledger names them now (their hashes are checked), and from the intents that
attempts left: an object without a sealed run is a crash's or a running batch's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from airflow_facefog.audit.ledger import Ledger, LedgerPart, SealedRun
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.parquet import read_batches
from airflow_facefog.audit.read_ahead import ahead
from airflow_facefog.audit.sealed import LedgerError
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.keys import NO_KEY
from airflow_facefog.publish.prove.index import DigestIndex, Digests, KeyIndex, from_hex

BATCH = 20_000
"""Rows decoded at a time."""

PARTS_AHEAD = 4
"""Parts that are read at the same time: they may be large."""

IMAGE = ("source_ref", "image_id", "status", "width", "height", "output_uri", "output_sha256", "pixel_id")
INTENT = ("run_key", "generation", "source_ref", "image_id", "output_key", "output_sha256")

Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run generation that outputs belong to; ``sealed`` None: it never was."""

    run_key: str
    generation: int
    sealed: SealedRun | None = field(repr=False, default=None)

    @property
    def expired(self) -> bool:
        """Whether it was sealed and its image rows are gone: what it published cannot be told any more."""
        return self.sealed is not None and "image" not in self.sealed.parts


@dataclass(frozen=True, slots=True)
class Ids:
    """Ids of raw images with the run and item that recorded each. All under one master key, or plain."""

    index: DigestIndex
    run: Numbers
    refs: Digests


class Known:
    """Recorded outputs, one row each: hash, key, run, item, upright size (0: not recorded), whether a sealed run has it.

    ``loose``: known from an intent outside of all sealed parts, which no signature covers. ``vouched``: published by a
    sealed run, or by one whose image rows have expired.
    """

    def __init__(self, runs: Sequence[RunRef], rows: Any, images: Ids, pixels: Ids) -> None:
        self.runs = tuple(runs)
        self.keys = rows["key"].combine_chunks()
        self.run: Numbers = rows["run"].to_numpy().astype(np.int32)
        self.width: Numbers = rows["width"].to_numpy().astype(np.int32)
        self.height: Numbers = rows["height"].to_numpy().astype(np.int32)
        self.sealed: npt.NDArray[np.bool_] = rows["sealed"].to_numpy(zero_copy_only=False).astype(np.bool_)
        self.loose: npt.NDArray[np.bool_] = rows["loose"].to_numpy(zero_copy_only=False).astype(np.bool_)
        expired = np.array([run.expired for run in self.runs], np.bool_)
        self.vouched: npt.NDArray[np.bool_] = self.sealed | (expired[self.run] & ~self.loose)
        self.refs: Digests = _matrix(rows["ref"])
        self.outputs = DigestIndex(_matrix(rows["sha256"]))
        self.by_key = KeyIndex(self.keys)
        self.images = images
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.outputs)

    def run_of(self, row: int) -> RunRef:
        """Who recorded a row."""
        return self.runs[int(self.run[row])]

    def key_of(self, row: int) -> str:
        """The recorded key of a row."""
        return str(self.keys[row].as_py())


def read_known(audit: Objects, ledger: Ledger, *, key_id: str, stray_intents: bool) -> Known:
    """Read everything recorded. ``key_id``: of the key at hand; ids under another key are left out.

    ``stray_intents``: also those of attempts that lost or came after the seal (one small object each). Raises
    LedgerError for a part that is missing or was changed.
    """
    return _Reader(audit, ledger, key_id).read(stray_intents)


class _Reader:
    def __init__(self, audit: Objects, ledger: Ledger, key_id: str) -> None:
        self._audit = audit
        self._ledger = ledger
        self._key_ids = {key_id, NO_KEY}
        self._runs = [RunRef(run.run_key, run.generation, run) for run in ledger.runs]
        self._numbers = {(run.run_key, run.generation): number for number, run in enumerate(self._runs)}
        self._ids: dict[str, list[Any]] = {"image_id": [], "pixel_id": []}

    def read(self, stray_intents: bool) -> Known:
        published = _concat(table for run, data in self._parts("image") for table in self._images(run, data))
        intended = _concat(self._intents(stray_intents))
        seen = DigestIndex(_matrix(published["sha256"]))
        fresh = seen.find(_matrix(intended["sha256"])) < 0
        rows = pa.concat_tables([published, intended.filter(pa.array(fresh))])
        return Known(self._runs, rows, *(_ids(self._ids[name]) for name in ("image_id", "pixel_id")))

    def _parts(self, name: str) -> Iterator[tuple[SealedRun, bytes]]:
        runs = [run for run in self._ledger.runs if name in run.parts]
        return zip(runs, ahead(lambda run: read_part(self._audit, run.parts[name]), runs, PARTS_AHEAD), strict=True)

    def _images(self, run: SealedRun, data: bytes) -> Iterator[Any]:
        """Published rows of a sealed run; ids of all of its images are noted on the way."""
        number = self._numbers[(run.run_key, run.generation)]
        place = str(run.row["destination"])
        for batch in read_batches("facefog_image", data, IMAGE, BATCH):
            if str(run.row["key_id"]) in self._key_ids:
                self._note(batch, number)
            shown = batch.filter(pc.and_(pc.equal(batch["status"], "published"), pc.is_valid(batch["output_sha256"])))
            sizes = [pc.fill_null(shown[name], 0) for name in ("width", "height")]
            yield _rows(number, keys_below(place, shown["output_uri"]), shown, sizes, sealed=True)

    def _intents(self, stray: bool) -> Iterator[Any]:
        for _, data in self._parts("intent"):
            yield from self._intent_rows(data, loose=False)
        sealed = {run.home for run in self._ledger.runs}
        keys = [key for key in self._audit.list("intents") if _is_intent(key) and (stray or _home(key) not in sealed)]
        for key, found in zip(keys, ahead(self._audit.get, keys), strict=True):
            try:
                rows = [] if found is None else list(self._intent_rows(found, loose=True))
            except (ConfigurationError, ValueError):
                raise LedgerError(f"{key} is not what an attempt writes there; look at it, and remove it") from None
            yield from rows

    def _intent_rows(self, data: bytes, *, loose: bool) -> Iterator[Any]:
        for batch in read_batches("facefog_intent", data, INTENT, BATCH):
            for run_key, generation in set(
                zip(batch["run_key"].to_pylist(), batch["generation"].to_pylist(), strict=True)
            ):
                mine = batch.filter(
                    pc.and_(pc.equal(batch["run_key"], run_key), pc.equal(batch["generation"], generation))
                )
                number = self._number(run_key, generation)
                if self._runs[number].sealed is None:
                    self._note(mine, number)  # under whatever key; another one matches nothing
                zeros = pa.array(np.zeros(mine.num_rows, np.int64))
                yield _rows(number, mine["output_key"], mine, [zeros, zeros], sealed=False, loose=loose)

    def _number(self, run_key: str, generation: int) -> int:
        number = self._numbers.setdefault((run_key, generation), len(self._runs))
        if number == len(self._runs):
            self._runs.append(RunRef(run_key, generation))
        return number

    def _note(self, batch: Any, number: int) -> None:
        for name, found in self._ids.items():
            if name in batch.column_names:
                some = batch.filter(pc.is_valid(batch[name]))
                found.append((from_hex(some[name]), from_hex(some["source_ref"]), number))


def _home(key: str) -> str:
    return "/".join(key.split("/")[1:3])


def _is_intent(key: str) -> bool:
    name = key.rpartition("/")[2]
    return name.startswith("intent-") and name.endswith(".parquet")


def read_part(audit: Objects, part: LedgerPart) -> bytes:
    """The bytes of a sealed part. Raises LedgerError when they are gone or not those that the ledger names."""
    data = audit.get(part.key)
    if data is None or hashlib.sha256(data).hexdigest() != part.sha256:
        raise LedgerError(
            f"{part.key} is missing or does not hold the bytes that its manifest names; nothing can be proven with this "
            "audit: run `facefog audit verify`, and restore it"
        )
    return data


def keys_below(place: str, uris: Any) -> Any:
    """Keys from a column of URIs below ``place``, whichever of its spellings (s3, s3a) they use."""
    below = place.partition("://")[2].rstrip("/") + "/"
    paths = pc.replace_substring_regex(uris, r"^[A-Za-z0-9+.-]+://", "")
    return pc.if_else(pc.starts_with(paths, below), pc.utf8_slice_codeunits(paths, len(below)), paths)


def _rows(number: int, keys: Any, rows: Any, sizes: Sequence[Any], *, sealed: bool, loose: bool = False) -> Any:
    count = rows.num_rows
    columns = {
        "sha256": _binary(rows["output_sha256"]), "key": keys.cast(pa.large_string()),
        "ref": _binary(rows["source_ref"]), "run": pa.array(np.full(count, number, np.int32)),
        "width": sizes[0].cast(pa.int64()), "height": sizes[1].cast(pa.int64()),
        "sealed": pa.array(np.full(count, sealed, np.bool_)), "loose": pa.array(np.full(count, loose, np.bool_)),
    }  # fmt: skip
    return pa.table(columns, schema=_SCHEMA)


_SCHEMA = pa.schema([
    ("sha256", pa.binary(32)), ("key", pa.large_string()), ("ref", pa.binary(32)), ("run", pa.int32()),
    ("width", pa.int64()), ("height", pa.int64()), ("sealed", pa.bool_()), ("loose", pa.bool_()),
])  # fmt: skip


def _binary(column: Any) -> Any:
    data = from_hex(column)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(data), [None, pa.py_buffer(data.tobytes())])


def _matrix(column: Any) -> Digests:
    parts = [np.empty((0, 32), np.uint8)]
    for chunk in column.chunks:
        rows = np.frombuffer(chunk.buffers()[1] or b"", np.uint8).reshape(-1, 32)
        parts.append(rows[chunk.offset : chunk.offset + len(chunk)])
    return np.concatenate(parts)


def _concat(tables: Iterable[Any]) -> Any:
    return pa.concat_tables([_SCHEMA.empty_table(), *tables])


def _ids(found: Sequence[tuple[Digests, Digests, int]]) -> Ids:
    none = np.empty((0, 32), np.uint8)
    digests, refs = (np.concatenate([none, *(entry[at] for entry in found)]) for at in (0, 1))
    runs = [np.full(len(ids), number, np.int32) for ids, _, number in found]
    return Ids(DigestIndex(digests), np.concatenate([np.empty(0, np.int32), *runs]), refs)
