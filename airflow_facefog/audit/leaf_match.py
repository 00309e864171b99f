"""Which detections belong to which image, for ``audit.leaves``; in order, and with nothing that contradicts the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_facefog.audit.leaf_rows import coded_text, large_text, numbers, one_chunk, plain_values
from airflow_facefog.audit.sealed import LedgerError


def match(images: Any, detections: Any, shared: Sequence[str]) -> tuple[Any, Any]:
    """Detections in the order of their images and ``det_idx``, and where each image's start (int64, images + 1).

    Raises LedgerError when one has no image, or differs from it in a ``shared`` column.
    """
    import numpy as np
    import pyarrow as pa

    position = _positions(images["source_ref"], detections["source_ref"])
    if np.any(position < 0):
        raise LedgerError("a detection belongs to no image of its run; the parts of this run do not fit together")
    rank = numbers(one_chunk(detections["det_idx"]))
    step = np.diff(position)
    if np.any(step < 0) or np.any((step == 0) & (rank[1:] < rank[:-1])):
        order = np.lexsort((rank, position))
        detections, position = detections.take(pa.array(order)), position[order]
    first = np.flatnonzero(np.append(True, position[1:] != position[:-1])[: len(position)])
    for name in shared:
        if name != "source_ref" and not _same(images[name], detections[name], position, first):
            raise LedgerError(f"a detection says another {name} than its image; the parts of this run were mixed up")
    counts = np.bincount(position, minlength=images.num_rows)
    return detections, np.concatenate(([0], np.cumsum(counts))).astype(np.int64)


def _positions(image_refs: Any, refs: Any) -> Any:
    """The image row of each detection; -1: none."""
    import numpy as np
    import pyarrow.compute as pc

    coded = coded_text(one_chunk(refs))
    found = pc.index_in(coded.dictionary, value_set=large_text(one_chunk(image_refs)))
    rows = np.append(found.fill_null(-1).to_numpy(zero_copy_only=False), np.int32(-1))
    codes = coded.indices.fill_null(-1) if coded.null_count else coded.indices
    return rows[codes.to_numpy(zero_copy_only=False)]


def _same(image: Any, detection: Any, position: Any, first: Any) -> bool:
    """Whether each detection has the value of its image. ``position``: its image; ``first``: the first of each image."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    mine = one_chunk(detection)
    if mine.null_count:
        return False
    number = pa.types.is_integer(mine.type)
    mine = mine if number else coded_text(mine)
    codes = (mine if number else mine.indices).to_numpy(zero_copy_only=False)
    if np.any((codes[1:] != codes[:-1]) & (position[1:] == position[:-1])):  # two detections of one image differ
        return False
    theirs = plain_values(one_chunk(image).take(pa.array(position[first])))
    equal = pc.equal(plain_values(mine.take(pa.array(first))), theirs)
    return not equal.null_count and bool(pc.all(equal).as_py() is not False)
