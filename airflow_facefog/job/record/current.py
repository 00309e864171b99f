"""What consumers see now, with the audit's rows about it: the newest snapshot joined with the runs that made its rows.

The snapshot decides what is current. Its rows name the run and hold the object's key and hash; the audit rows of that run
with this key and hash are the image's. Consumers' rows hold no id of raw bytes, so nothing else could match them. In the
``content`` layout several items may share an object: then each of their rows is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow_facefog.audit.ledger import Ledger, SealedRun
    from airflow_facefog.audit.objects import Objects
    from airflow_facefog.publish.store import Store

Row = dict[str, Any]

IMAGE = (
    "run_key", "generation", "source_ref", "image_id", "status", "width", "height", "output_uri", "output_sha256",
    "n_detections", "n_dropped", "detect_floor", "refogged", "committed_at",
)  # fmt: skip
DETECTION = (
    "source_ref", "detector", "class_name", "confidence", "x1", "y1", "x2", "y2", "n_members", "polygon", "action",
    "method", "params_hash", "fx1", "fy1", "fx2", "fy2", "source",
)  # fmt: skip
"""Columns that are read: a run may have a million detections."""

SLICE = 5_000
"""Images whose rows are Python values at the same time."""


@dataclass(frozen=True, slots=True)
class Current:
    """The visible rows of one run. ``shown``: rows of the snapshot; ``images``, ``detections``: of the audit.

    All are ``pyarrow`` tables. ``images`` has a column ``key`` too. ``detections`` is None when the audit no longer has
    that part; ``run`` is None, and both are empty, when it has no such run.
    """

    run: SealedRun | None
    shown: Any = field(repr=False)
    images: Any = field(repr=False)
    detections: Any = field(repr=False)

    def unrecorded(self) -> list[Row]:
        """Snapshot rows without an audit row."""
        import pyarrow.compute as pc

        known = pc.is_in(_pair(self.shown, "sha256"), value_set=_pair(self.images, "output_sha256"))
        rows: list[Row] = self.shown.filter(pc.invert(known)).to_pylist()
        return rows

    def rows(self) -> Iterator[tuple[Row, list[Row]]]:
        """Each image's audit row with its detection rows, in the parts' order."""
        for start in range(0, self.images.num_rows, SLICE):
            images = self.images.slice(start, SLICE)
            found = self._detections_of(images)
            for image in images.to_pylist():
                yield image, found.get(image["source_ref"], [])

    def _detections_of(self, images: Any) -> dict[str, list[Row]]:
        import pyarrow.compute as pc

        found: dict[str, list[Row]] = {}
        if self.detections is not None:
            rows = self.detections.filter(pc.is_in(self.detections["source_ref"], value_set=images["source_ref"]))
            for row in rows.to_pylist():
                found.setdefault(row["source_ref"], []).append(row)
        return found


def datasets(ledger: Ledger) -> list[tuple[str, str]]:
    """Every (destination, dataset) that sealed runs published to, sorted."""
    return sorted({(run.row["destination"].rstrip("/"), run.row["dataset"]) for run in ledger.runs})


def read_current(
    audit: Objects, ledger: Ledger, clean: Store, dataset: str, *, run_keys: Sequence[str] | None = None
) -> Iterator[Current]:
    """What the newest snapshot of ``dataset`` in ``clean`` shows, by run. No snapshot yet: nothing.

    ``run_keys``: these runs alone. Raises ConfigurationError when ``clean`` has no such dataset (it was moved, or cannot be
    seen from here: that must not read as "nothing is published") or a manifest part cannot be read, LedgerError when a part of
    the audit is gone or was changed.
    """
    import pyarrow.compute as pc

    from airflow_facefog.publish.dataset import home
    from airflow_facefog.publish.snapshots import newest_seq, open_dataset

    if not clean.exists(f"{home(dataset)}dataset.json"):
        raise ConfigurationError(
            f"dataset {dataset!r} is not where the audit says that it was published; if it was moved, say where it is now"
        )
    seq = newest_seq(clean, dataset)
    if seq is None:
        return
    shown = with_keys(open_dataset(clean, seq, dataset), clean)
    made = shown.group_by(["run_key", "generation"]).aggregate([]).to_pylist()
    for name in sorted((row["run_key"], row["generation"]) for row in made):
        if run_keys is None or name[0] in run_keys:
            own = pc.and_(pc.equal(shown["run_key"], name[0]), pc.equal(shown["generation"], name[1]))
            yield _joined(audit, ledger.find(*name), shown.filter(own))


def with_keys(shown: Any, clean: Store) -> Any:
    """Rows of ``open_dataset`` with their keys below the destination."""
    from airflow_facefog.publish.items import keys

    return shown.append_column("key", keys(shown["uri"], clean))


def _joined(audit: Objects, run: SealedRun | None, shown: Any) -> Current:
    import pyarrow.compute as pc

    images = _images(audit, run)
    images = images.filter(pc.is_in(_pair(images, "output_sha256"), value_set=_pair(shown, "sha256")))
    detections = None
    if run is None or "detection" in run.parts:
        detections = _part(audit, run, "detection", DETECTION)
        detections = detections.filter(pc.is_in(detections["source_ref"], value_set=images["source_ref"]))
    return Current(run, shown, images, detections)


def _images(audit: Objects, run: SealedRun | None) -> Any:
    """Published rows of a run with their keys, as its plan's destination made their URIs."""
    import pyarrow.compute as pc

    images = _part(audit, run, "image", IMAGE)
    images = images.filter(pc.equal(images["status"], "published"))
    first = images["output_uri"][0].as_py() if images.num_rows else ""
    start = _key_at(first, run.row["destination"]) if run is not None else 0
    return images.append_column("key", pc.utf8_slice_codeunits(images["output_uri"], start))


def _key_at(uri: str, destination: str) -> int:
    """Where the key starts in an output's URI; stores may write another number of slashes after ``scheme://``."""
    path = uri.partition("://")[2].lstrip("/")
    return len(uri) - len(path) + len(destination.partition("://")[2].strip("/")) + 1


def _part(audit: Objects, run: SealedRun | None, name: str, columns: Sequence[str]) -> Any:
    """Columns of a part, its hash checked; empty without such a part."""
    from airflow_facefog.audit.ledger import read_part
    from airflow_facefog.audit.parquet import read_arrow, to_arrow

    table = f"facefog_{name}"
    part = run.parts.get(name) if run is not None else None
    if part is None:
        return to_arrow(table, []).select(list(columns))
    return read_arrow(table, read_part(audit, part), columns)


def _pair(table: Any, digest: str) -> Any:
    """Key and hash as one value."""
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(table["key"], table[digest], "\n")
