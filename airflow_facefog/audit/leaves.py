"""Salted leaves: one 32-byte commitment per image row, its detections hashed in (format ``facefog-leaf/1``).

leaf = sha256(0x00 || salt || count || rows of 1 image || rows of ``count`` detections), where ``count`` and every number
are 8 bytes, little endian, and detections are in order of ``det_idx``. *Rows* are first the fixed parts of all rows, then
their texts. The fixed part of a row is its code (32 bytes) and 8 bytes for each column in ``FIXED``, sorted by name: a
64-bit integer, an IEEE-754 double (-0.0 as 0.0, one NaN) or the length of a text in UTF-8; 0 where the row has no value.
Its texts are those of ``FIXED``, joined. Its code is the sha256 of the RFC 8785 JSON of {column: value} for every column
that has a value; what the fixed part holds stands as ``true``, other integers as numbers, other floats as 16 hex digits.

So a leaf names its columns, no value differs from an empty one, and a nullable column that is added later changes no
old leaf. ``leaf_idx`` is left out (the proof says it), and what a detection shares with its image is hashed once.
The salt (16 random bytes) keeps leaves in proofs from being tried against guessed rows.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from airflow_facefog.audit.schema import DETECTION, IMAGE, Table
from airflow_facefog.audit.sealed import LedgerError
from airflow_facefog.audit.tree import HASH

if TYPE_CHECKING:
    from airflow_facefog.audit.leaf_rows import Encoded

SALT = 16
"""Bytes of a salt."""

SHARED = ("run_key", "generation", "source_ref", "image_id")
"""Columns of a detection that must equal its image's; they are hashed with the image."""

LEFT_OUT = ("leaf_idx",)

FIXED: Mapping[str, tuple[str, ...]] = {
    IMAGE.name: (
        "detect_floor", "duplicate_of", "height", "image_id", "n_detections", "n_dropped", "n_fogged", "output_bytes",
        "output_sha256", "output_uri", "outside_psnr", "pixel_id", "source_etag", "source_group", "source_ref",
        "t_detect_ms", "t_fog_ms", "t_read_ms", "t_write_ms", "verify_coverage", "verify_worst_score", "width",
    ),
    DETECTION.name: ("confidence", "fx1", "fx2", "fy1", "fy2", "polygon", "threshold", "x1", "x2", "y1", "y2"),
}  # fmt: skip
"""Numbers that differ from row to row, and such text; few other values make few codes, so that rows stay short.

Frozen with the format: columns that come later go into the code."""

EXACT = 2**53
"""From here on, JSON numbers are not exact: such values stand as text."""

AT_ONCE = 4_096
"""Images whose rows are encoded at the same time: enough to forget the cost of a call, few enough to stay in small memory."""

NAN = struct.pack("<d", math.nan)


def make_leaves(images: Any, detections: Any, salts: bytes) -> bytes:
    """The leaves of a run: 32 bytes per row of ``images``, in its order.

    ``images``, ``detections``: ``pyarrow.Table`` of columns of the two tables, plain or compact: equal values give equal
    leaves. ``salts``: 16 bytes per image. Fast when detections come in the order of their images.
    Raises LedgerError when a detection has no image or says another run or image_id than it, ValueError for salts that
    do not fit or a column that the table does not have.
    """
    import numpy as np

    from airflow_facefog.audit.leaf_match import match
    from airflow_facefog.audit.leaf_rows import Rows

    if len(salts) != SALT * images.num_rows:
        raise ValueError(f"{len(salts)} bytes of salts for {images.num_rows} images; each takes {SALT}")
    detections, starts = match(images, detections, SHARED)
    heads = Rows(images, _kinds(IMAGE, images.column_names, LEFT_OUT), FIXED[IMAGE.name], _pair)
    rows = Rows(detections, _kinds(DETECTION, detections.column_names, SHARED), FIXED[DETECTION.name], _pair)
    found = []
    for first in range(0, images.num_rows, AT_ONCE):
        own = starts[first : first + AT_ONCE + 1]
        last = first + len(own) - 1
        salt = np.frombuffer(salts, "V16")[first:last]
        before = [("prefix", "u1", 0), ("salt", "V16", salt), ("count", "<i8", np.diff(own))]
        encoded = heads.encode(first, last, before), rows.encode(own[0], own[-1])
        found.append(_hash(*encoded, (own - own[0]).tolist()))
    return b"".join(found)


def leaf_of(image_row: Mapping[str, Any], detection_rows: Sequence[Mapping[str, Any]], salt: bytes) -> bytes:
    """The leaf of one image row and its detections (any order), from plain values or those of ``to_json``.

    Raises LedgerError, which names the column, for a value that is not exactly what its column holds, for a column that
    this release does not know, and for a detection of another image.
    """
    if len(salt) != SALT:
        raise LedgerError(f"a salt has {len(salt)} bytes, not {SALT}")
    for row in detection_rows:
        for name in SHARED:
            if row.get(name) != image_row.get(name):
                raise LedgerError(f"a detection says another {name} than its image")
    image = _encode(IMAGE, _parse(IMAGE, image_row, LEFT_OUT))
    found = sorted((_parse(DETECTION, row, SHARED) for row in detection_rows), key=lambda row: row.get("det_idx", 0))
    rows = [_encode(DETECTION, row) for row in found]
    parts = [b"\0", salt, struct.pack("<q", len(rows)), *image, *(row[0] for row in rows), *(row[1] for row in rows)]
    return hashlib.sha256(b"".join(parts)).digest()


def to_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON values that ``leaf_of`` takes for the same row. Columns without a value are left out.

    Numbers that JSON does not carry exactly (from 2^53 on, NaN, infinities) stand as text.
    """
    return {name: _json(value) for name, value in row.items() if value is not None}


def LEAF_SCHEMA() -> Any:  # noqa: N802 -- a constant that may not import pyarrow when this module is loaded
    """``pyarrow.Schema`` of the leaf part: row i belongs to row i of the image part. No salt: the row was erased."""
    import pyarrow as pa

    return pa.schema([pa.field("salt", pa.binary(SALT)), pa.field("leaf", pa.binary(HASH), nullable=False)])


def leaf_table(salts: bytes, leaves: bytes) -> Any:
    """The rows of the leaf part as a ``pyarrow.Table``. Raises ValueError when the two do not fit together."""
    import pyarrow as pa

    rows = len(leaves) // HASH
    if len(leaves) != rows * HASH or len(salts) != rows * SALT:
        raise ValueError(f"{len(salts)} bytes of salts do not fit {len(leaves)} bytes of leaves")
    sides = ((salts, SALT), (leaves, HASH))
    arrays = [
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), rows, [None, pa.py_buffer(data)]) for data, size in sides
    ]
    return pa.Table.from_arrays(arrays, schema=LEAF_SCHEMA())


def _hash(heads: Encoded, rows: Encoded, starts: Sequence[int]) -> bytes:
    """One sha256 per image over its slices of the four buffers."""
    head, row, text = memoryview(heads.fixed).cast("B"), memoryview(rows.fixed).cast("B"), memoryview(heads.texts)
    wide, long = heads.fixed.dtype.itemsize, rows.fixed.dtype.itemsize
    mine, theirs = heads.at.tolist(), rows.at[starts].tolist()
    found, sha256 = [], hashlib.sha256
    for i, (start, stop) in enumerate(pairwise(starts)):
        leaf = sha256(head[i * wide : i * wide + wide])
        leaf.update(text[mine[i] : mine[i + 1]])
        leaf.update(row[start * long : stop * long])
        if theirs[i] != theirs[i + 1]:
            leaf.update(rows.texts[theirs[i] : theirs[i + 1]])
        found.append(leaf.digest())
    return b"".join(found)


def _kinds(table: Table, names: Iterable[str], left_out: Sequence[str]) -> dict[str, str]:
    """Type of each column that is hashed, by name."""
    types = {column.name: column.type for column in table.columns}
    unknown = sorted(set(names) - set(types))
    if unknown:
        raise LedgerError(f"{table.name} has no column {unknown[0][:40]!r} in this release; use one that knows it")
    return {name: types[name] for name in sorted(names) if name not in left_out}


def _parse(table: Table, row: Mapping[str, Any], left_out: Sequence[str]) -> dict[str, Any]:
    kinds = _kinds(table, row, left_out)
    return {name: _value(f"{table.name}.{name}", kinds[name], row[name]) for name in kinds if row[name] is not None}


def _encode(table: Table, row: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Fixed part and texts of a row without empty columns."""
    held = [_pair(name, name in FIXED[table.name] or row[name]) for name in sorted(row)]
    fixed, texts = [hashlib.sha256(f"{{{','.join(held)}}}".encode()).digest()], []
    for name in FIXED[table.name]:
        value = row.get(name, 0)
        if isinstance(value, str):
            texts.append(value.encode())
            value = len(texts[-1])
        fixed.append(_double(value) if isinstance(value, float) else struct.pack("<q", value))
    return b"".join(fixed), b"".join(texts)


def _pair(name: str, value: Any) -> str:
    """A member of the code's JSON; ``True``: the fixed part holds the value."""
    held = _double(value).hex() if isinstance(value, float) else _json(value)
    return f'"{name}":{json.dumps(held, ensure_ascii=False)}'


def _double(value: float) -> bytes:
    return NAN if math.isnan(value) else struct.pack("<d", value + 0.0)


def _json(value: Any) -> Any:
    if isinstance(value, float):
        return value + 0.0 if abs(value) < EXACT else repr(value)
    return str(value) if isinstance(value, int) and abs(value) >= EXACT else value


def _value(column: str, kind: str, value: Any) -> Any:
    """A value as its column holds it: str, int of 64 bits or float; exact, or LedgerError."""
    with suppress(ValueError, OverflowError):  # UnicodeEncodeError is a ValueError
        if kind in ("integer", "flag"):
            number = int(value) if type(value) in (int, str) else None
            if number is not None and -(2**63) <= number < 2**63 and value in (number, str(number)):
                return number
        elif kind == "float":
            real = float(value) if type(value) in (int, float, str) else None
            if real is not None and (value == real or value == repr(real) or value != value):
                return real
        elif isinstance(value, str) and value.encode() is not None:
            return value
    raise LedgerError(f"{column}: a value is not {kind}, or not exactly what this column can hold")
