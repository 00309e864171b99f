"""Rows of ``audit.leaves`` as bytes, a whole table at a time. ``leaves.leaf_of`` says the same row by row.

What keeps it fast: text that repeats is one sha256 per distinct combination, numbers are columns of one structured
array, and every text is a slice of one buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

Pair = Callable[[str, Any], str]
"""Column and value → ``"column":value`` in the code's JSON."""

CODES = 2**62
"""Combinations that one int64 can tell apart; above, they are numbered anew."""

SMALL = 2**16
"""Combinations that are numbered through a table that stays in the processor's cache, not through a hash table."""

FEW = 64
"""Numbers that need no numbering anew."""

CODE = "code"


@dataclass(frozen=True, slots=True)
class Encoded:
    """``fixed``: a numpy structured array, one item per row; ``texts``: all texts in order of the rows; row i has
    ``texts[at[i]:at[i + 1]]`` (``at``: int64 array of rows + 1)."""

    fixed: Any
    texts: bytes
    at: Any


class Rows:
    """The rows of a ``pyarrow.Table``, some at a time; ``kinds``: type in the schema of each column that is hashed.

    Codes are made once for all rows: few of them differ.
    """

    def __init__(self, table: Any, kinds: Mapping[str, str], fixed: Sequence[str], pair: Pair) -> None:
        self._columns = {name: one_chunk(table[name]) for name in sorted(kinds)}
        self._kinds, self._fixed = kinds, fixed
        self._space: Any = None
        self._codes, self._numbers = _codes(self._columns, frozenset(fixed), table.num_rows, pair)

    def encode(self, start: int, stop: int, before: Sequence[tuple[str, str, Any]] = ()) -> Encoded:
        """Rows from ``start`` to ``stop``: ``before`` (name, numpy type, values), the code, the ``fixed`` columns.

        They lie where those of the call before lay.
        """
        import numpy as np

        dtype = [(name, kind) for name, kind, _ in before] + [(CODE, "V32")]
        dtype += [(name, "<f8" if self._kinds.get(name) == "float" else "<i8") for name in self._fixed]
        if self._space is None or len(self._space) < stop - start:
            self._space = np.empty(stop - start, dtype)
        rows = self._space[: stop - start]
        for name, _, values in before:
            rows[name] = values
        rows[CODE] = self._codes.take(self._numbers[start:stop])
        texts = []
        for name in self._fixed:
            column = self._columns[name].slice(start, stop - start) if name in self._columns else None
            if column is None or column.null_count == len(column):
                rows[name] = 0
            elif self._kinds[name] in ("integer", "flag", "float"):
                rows[name] = numbers(column)
            else:
                texts.append(large_text(column))
                rows[name] = _lengths(texts[-1])
        return Encoded(rows, *_joined(texts, stop - start))


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


def _codes(columns: Mapping[str, Any], fixed: frozenset[str], n_rows: int, pair: Pair) -> tuple[Any, Any]:
    """The distinct codes, and for each row which one it has: each combination of what codes depend on is hashed once."""
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
    if size > FEW:  # of few numbers, those that no row has may stand for the first row
        number, size = _renumber(number, size)
    first = np.zeros(size if n_rows else 0, np.int64)
    first[number[::-1]] = np.arange(n_rows - 1, -1, -1)
    rows = pa.array(first)
    pairs = [_pairs(name, column.take(rows), name in fixed, pair) for name, column in columns.items()]
    comma = pa.scalar(",", pa.large_string())
    texts = pc.binary_join_element_wise(*pairs, comma, null_handling="skip").cast(pa.large_binary()).to_pylist()
    return np.frombuffer(b"".join(sha256(b"{%b}" % text).digest() for text in texts), "V32"), number


def _pairs(name: str, column: Any, is_fixed: bool, pair: Pair) -> Any:
    """``"name":value`` for each row as ``large_string``; null where it has no value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if is_fixed:
        return pc.if_else(column.is_valid(), pa.scalar(pair(name, True), pa.large_string()), None)
    coded = coded_text(plain_values(column))
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
        elif 0 < column.null_count < len(column):
            there = column.is_valid()
            if not any(map(there.equals, seen)):
                seen.append(there)
                yield there.to_numpy(zero_copy_only=False), 2


def _values(column: Any) -> tuple[Any, int]:
    """Numbers below a count, equal for equal values. Small integers and what never changes are not looked up."""
    import numpy as np
    import pyarrow as pa

    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if numeric and len(column) and not column.null_count:
        values = column.to_numpy(zero_copy_only=False)
        if np.all(values == values[0]):
            return values, 1
        least, most = values.min(), values.max()
        if values.dtype.kind == "i" and int(most) - int(least) < SMALL:
            return values.astype(np.int64) - int(least), int(most) - int(least) + 1
    coded = coded_text(column)
    count = len(coded.dictionary)
    if coded.null_count == 0:
        return coded.indices.to_numpy(zero_copy_only=False), count
    return coded.indices.fill_null(count).to_numpy(zero_copy_only=False), count + 1


def coded_text(column: Any) -> Any:
    """A column as codes into a dictionary; text with 64-bit offsets."""
    import pyarrow as pa

    coded = column if pa.types.is_dictionary(column.type) else plain_values(column).dictionary_encode()
    if pa.types.is_string(coded.dictionary.type):
        coded = pa.DictionaryArray.from_arrays(coded.indices, large_text(coded.dictionary))
    return coded


def plain_values(column: Any) -> Any:
    """A column without a dictionary; text with 64-bit offsets."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return large_text(column) if pa.types.is_string(column.type) else column


def large_text(column: Any) -> Any:
    """Text with 64-bit offsets."""
    import pyarrow as pa

    return column.cast(pa.large_string())


def _lengths(text: Any) -> Any:
    """Bytes of each text; no text: 0."""
    import pyarrow.compute as pc

    return pc.binary_length(text).fill_null(0).to_numpy(zero_copy_only=False)


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
