"""Rows of ``audit.leaves`` as bytes, a whole table at a time. ``leaves.leaf_of`` says the same row by row.

What keeps it fast: text that repeats is one sha256 per distinct combination, numbers are columns of one structured
array, and every text is a slice of one buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from airflow_facefog.audit.sealed import LedgerError

Pair = Callable[[str, Any], str]
"""Column and value → ``"column":value`` in the code's JSON."""

CODES = 2**62
"""Combinations that one int64 can tell apart; above, they are numbered anew."""

SMALL = 2**16
"""Combinations that are numbered through a table that stays in the processor's cache, not through a hash table."""

CODE = "code"


@dataclass(frozen=True, slots=True)
class Encoded:
    """``fixed``: a numpy structured array, one item per row; ``texts``: all texts in order of the rows; row i has
    ``texts[at[i]:at[i + 1]]`` (``at``: int64 array of rows + 1)."""

    fixed: Any
    texts: bytes
    at: Any


def encode(
    table: Any, kinds: Mapping[str, str], fixed: Sequence[str], pair: Pair,
    before: Sequence[tuple[str, str, Any]] = (),
) -> Encoded:  # fmt: skip
    """Rows of a ``pyarrow.Table``: ``before`` (name, numpy type, values), the code and the ``fixed`` columns.

    ``kinds``: type in the schema of each column that is hashed.
    """
    import numpy as np

    columns = {name: one_chunk(table[name]) for name in sorted(kinds)}
    dtype = [(name, kind) for name, kind, _ in before] + [(CODE, "V32")]
    dtype += [(name, "<f8" if kinds.get(name) == "float" else "<i8") for name in fixed]
    rows = np.empty(table.num_rows, dtype)
    for name, _, values in before:
        rows[name] = values
    rows[CODE] = _codes(columns, frozenset(fixed), table.num_rows, pair)
    texts = []
    for name in fixed:
        if name not in columns:
            rows[name] = 0
        elif kinds[name] in ("integer", "flag", "float"):
            rows[name] = numbers(columns[name])
        else:
            texts.append(_text(columns[name]))
            rows[name] = np.diff(_offsets(texts[-1]))
    return Encoded(rows, *_joined(texts, table.num_rows))


def match(images: Any, detections: Any, shared: Sequence[str]) -> tuple[Any, Any]:
    """Detections in the order of their images and ``det_idx``, and where each image's start (int64, images + 1).

    Raises LedgerError when one has no image, or differs from it in a ``shared`` column.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    refs = _coded(one_chunk(detections["source_ref"]))
    found = pc.index_in(refs.dictionary, value_set=_text(one_chunk(images["source_ref"])))
    codes = refs.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    position = np.append(found.fill_null(-1).to_numpy(zero_copy_only=False), -1).astype(np.int64)[codes]
    if np.any(position < 0):
        raise LedgerError("a detection belongs to no image of its run; the parts of this run do not fit together")
    for name in shared:
        if name != "source_ref" and not _same(images[name], detections[name], codes, found):
            raise LedgerError(f"a detection says another {name} than its image; the parts of this run were mixed up")
    rank = numbers(one_chunk(detections["det_idx"]))
    step = np.diff(position)
    if np.any(step < 0) or np.any((step == 0) & (np.diff(rank) < 0)):
        order = np.lexsort((rank, position))
        detections, position = detections.take(pa.array(order)), position[order]
    counts = np.bincount(position, minlength=images.num_rows)
    return detections, np.concatenate(([0], np.cumsum(counts))).astype(np.int64)


def numbers(column: Any) -> Any:
    """Values of a numeric column as numpy; 0 where there is none, -0.0 as 0.0, every NaN as the same."""
    import numpy as np

    values = (column.fill_null(0) if column.null_count else column).to_numpy(zero_copy_only=False)
    if values.dtype.kind != "f":
        return values
    values = values + 0.0  # turns -0.0 into 0.0
    if np.isnan(values.sum()):
        values[np.isnan(values)] = np.nan
    return values


def one_chunk(column: Any) -> Any:
    """A column as one ``pyarrow.Array``."""
    import pyarrow as pa

    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.unify_dictionaries().combine_chunks()


def _same(image: Any, detection: Any, codes: Any, found: Any) -> bool:
    """Whether each detection's value is that of its image. ``codes``: number of its source_ref; ``found``: its image."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    mine = _coded(one_chunk(detection))
    if mine.null_count:
        return False
    one = np.zeros(len(found), np.int64)
    if len(mine.dictionary) > 1:
        numbered = mine.indices.to_numpy(zero_copy_only=False)
        one[codes] = numbered
        if not np.array_equal(one[codes], numbered):  # two detections of one image differ
            return False
    used = pa.array(np.bincount(codes, minlength=len(found)) > 0)
    theirs = _plain(one_chunk(image)).take(found.filter(used))
    equal = pc.equal(mine.dictionary.take(pa.array(one).filter(used)), theirs)
    return not equal.null_count and bool(pc.all(equal).as_py() is not False)


def _codes(columns: Mapping[str, Any], fixed: frozenset[str], n_rows: int, pair: Pair) -> Any:
    """The code of each row: rows are numbered by what their code depends on, and each number is hashed once."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    number, size = np.zeros(n_rows, np.int64), 1
    for part, count in _distinctions(columns, fixed):
        if size * count > CODES:
            number, size = _renumber(number, size)
        number *= count
        number += part
        size *= count
    number, size = _renumber(number, size)
    first = np.zeros(size, np.int64)
    first[number[::-1]] = np.arange(n_rows)[::-1]
    rows = pa.array(first)
    pairs = [_pairs(name, column.take(rows), name in fixed, pair) for name, column in columns.items()]
    comma = pa.scalar(",", pa.large_string())
    texts = pc.binary_join_element_wise(*pairs, comma, null_handling="skip").cast(pa.large_binary()).to_pylist()
    return np.frombuffer(b"".join(sha256(b"{%b}" % text).digest() for text in texts), "V32")[number]


def _pairs(name: str, column: Any, is_fixed: bool, pair: Pair) -> Any:
    """``"name":value`` for each row as ``large_string``; null where it has no value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if is_fixed:
        return pc.if_else(column.is_valid(), pa.scalar(pair(name, True), pa.large_string()), None)
    coded = _coded(_plain(column))
    return pa.array([pair(name, value) for value in coded.dictionary.to_pylist()], pa.large_string()).take(
        coded.indices
    )


def _renumber(numbers: Any, size: int) -> tuple[Any, int]:
    """The same distinction by numbers without gaps. ``numbers``: 0 up to ``size``, exclusive."""
    import numpy as np
    import pyarrow as pa

    if size > SMALL:
        coded = pa.array(numbers).dictionary_encode()
        return coded.indices.to_numpy(zero_copy_only=False).astype("i8"), len(coded.dictionary)
    used = np.zeros(size, bool)
    used[numbers] = True
    return (np.cumsum(used) - 1)[numbers], int(used.sum())


def _distinctions(columns: Mapping[str, Any], fixed: frozenset[str]) -> Iterator[tuple[Any, int]]:
    """What tells rows apart: numbers below a count, for each column that does. Columns often lack values together."""
    seen: list[Any] = []
    for name, column in columns.items():
        if name not in fixed:
            part, count = _values(column)
            if count > 1:
                yield part, count
        elif column.null_count:
            there = column.is_valid()
            if not any(map(there.equals, seen)):
                seen.append(there)
                yield there.to_numpy(zero_copy_only=False), 2


def _values(column: Any) -> tuple[Any, int]:
    coded = _coded(column)
    count = len(coded.dictionary)
    if coded.null_count == 0:
        return coded.indices.to_numpy(zero_copy_only=False), count
    return coded.indices.fill_null(count).to_numpy(zero_copy_only=False), count + 1


def _coded(column: Any) -> Any:
    import pyarrow as pa

    coded = column if pa.types.is_dictionary(column.type) else _plain(column).dictionary_encode()
    if pa.types.is_string(coded.dictionary.type):
        coded = pa.DictionaryArray.from_arrays(coded.indices.cast(pa.int64()), _text(coded.dictionary))
    return coded


def _plain(column: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return _text(column) if pa.types.is_string(column.type) else column


def _text(column: Any) -> Any:
    import pyarrow as pa

    return column.cast(pa.large_string())


def _offsets(text: Any) -> Any:
    """Where the texts of a ``large_string`` array start, and where the last ends; no text: of length 0."""
    import numpy as np
    import pyarrow.compute as pc

    lengths = pc.binary_length(text).fill_null(0).to_numpy(zero_copy_only=False)
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


def _joined(texts: Sequence[Any], n_rows: int) -> tuple[bytes, Any]:
    """All texts of a row side by side: one buffer and its offsets."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = [text for text in texts if text.null_count < len(text)]
    if not texts:
        return b"", np.zeros(n_rows + 1, np.int64)
    whole = [text.fill_null("") for text in texts]
    joined = pc.binary_join_element_wise(*whole, pa.scalar("", pa.large_string())) if len(whole) > 1 else whole[0]
    at = np.frombuffer(joined.buffers()[1], np.int64)[joined.offset : joined.offset + n_rows + 1]
    data = joined.buffers()[2]
    return b"" if data is None else memoryview(data)[at[0] : at[-1]].tobytes(), at - at[0]
