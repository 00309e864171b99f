"""Where snapshots and store differ: what the newest show and is not there, and what they show that nobody published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from airflow_facefog.publish.dataset import home
from airflow_facefog.publish.prove.book import Book
from airflow_facefog.publish.prove.model import Class, Finding
from airflow_facefog.publish.prove.shown import Expected


def absent(
    book: Book, seen: npt.NDArray[np.bool_], there: Collection[str], elsewhere: Mapping[bytes, str]
) -> Iterator[Finding]:
    """What the newest snapshots show and the walk did not meet. An object with other bytes is tampered, not missing.

    ``seen``: rows met under their key; ``there``: keys of what is unknown; ``elsewhere``: hash → key of renamed objects.
    """
    known, rows = book.known, book.expected.rows
    for row in rows[~seen[rows]].tolist():
        key, digest = known.key_of(row), known.outputs.digests[row].tobytes()
        if key not in there:
            at, run = elsewhere.get(digest), known.run_of(row)
            detail = "published, current, and not there" + (f"; its bytes are at {at}" if at else "")
            yield Finding(key, Class.MISSING, detail, 0, digest, run_key=run.run_key, generation=run.generation)


def strange_snapshots(expected: Expected) -> dict[str, str]:
    """Newest snapshots that show what nobody published: whoever reads them gets objects that are not proven."""
    counts = Counter(shown for shown, _ in expected.strangers)
    return {
        f"{home(shown.dataset)}snapshots/{shown.seq:010d}.json": (
            f"bookkeeping: this snapshot shows {count} objects that no sealed run published"
        )
        for shown, count in counts.items()
    }
