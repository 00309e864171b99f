"""What an export is made from: one sample per published object, with as much of its detections as may leave the audit.

No ``image_id`` (an id of raw bytes) and no ``source_ref`` is in a sample; ``item_id`` is what consumers' rows hold anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.records import XYXY, Action

if TYPE_CHECKING:
    from airflow_facefog.audit.objects import Objects
    from airflow_facefog.publish.store import Store

Row = Mapping[str, Any]


class Disclose(StrEnum):
    """Which detections leave the restricted audit.

    ``fogged``: the regions that the pixels show as fogged anyway, with class and confidence; ``all``: every recorded
    detection, also of what stayed visible, with the detector's own box; ``none``: nothing, and the audit is not opened.
    """

    FOGGED = "fogged"
    ALL = "all"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Box:
    """One annotation. ``xyxy``: pixels of the published image; the fogged region, or with ``Disclose.ALL`` the detector's
    box, cut to the image; ``region``: the fogged region, if it was fogged."""

    class_name: str
    confidence: float
    xyxy: XYXY
    action: str
    method: str | None
    region: XYXY | None

    @property
    def fogged(self) -> bool:
        """Whether it is covered."""
        return self.action == Action.FOGGED


@dataclass(frozen=True, slots=True)
class Sample:
    """One published object. ``name``: its path in the export; ``size`` in bytes, ``width`` and ``height`` in px."""

    name: str
    key: str = field(repr=False)
    sha256: str
    size: int
    width: int
    height: int
    format: str
    item_id: str
    recipe_hash: str
    boxes: tuple[Box, ...] = field(repr=False, default=())

    @property
    def extension(self) -> str:
        """File ending without dot."""
        return self.key.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Published:
    """The samples of one snapshot, sorted by name."""

    seq: int
    dataset: str
    disclosed: Disclose
    samples: tuple[Sample, ...] = field(repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of all boxes, sorted: a class has the same number in every form."""
        return tuple(sorted({box.class_name for sample in self.samples for box in sample.boxes}))


def read_samples(clean: Store, dataset: str, audit: Objects | None, disclose: Disclose) -> Published:
    """The newest snapshot as samples; ``audit`` is None with ``Disclose.NONE`` only.

    Items that share an object are one sample. Raises ConfigurationError when there is no snapshot, or when the audit has
    no row, or no longer the detections, of an object: an export must not say "no face" for "not known".
    """
    from airflow_facefog.job.record.current import with_keys
    from airflow_facefog.publish.layout import plain_names
    from airflow_facefog.publish.snapshots import newest_seq, open_dataset

    seq = newest_seq(clean, dataset)
    table = with_keys(open_dataset(clean, seq, dataset), clean)
    assert seq is not None
    objects: dict[str, Row] = {}
    for row in table.to_pylist():
        objects.setdefault(row["key"], row)
    names = plain_names(list(objects))
    boxes = {} if audit is None else _boxes(clean, dataset, audit, disclose)
    if audit is not None and objects.keys() - boxes.keys():
        raise ConfigurationError(
            f"the audit has no detections of {len(objects.keys() - boxes.keys())} of {len(objects)} published objects "
            "(other audit, or expired); give --audit, or --detections none"
        )
    samples = [_sample(row, names[key], boxes.get(key, ())) for key, row in objects.items()]
    return Published(seq, dataset, disclose, tuple(sorted(samples, key=lambda sample: sample.name)))


def _sample(row: Row, name: str, boxes: Sequence[Box]) -> Sample:
    values = {field: row[field] for field in ("key", "sha256", "size", "width", "height", "format", "item_id")}
    return Sample(name=name, recipe_hash=row["recipe_hash"], boxes=tuple(boxes), **values)


def _boxes(clean: Store, dataset: str, audit: Objects, disclose: Disclose) -> dict[str, list[Box]]:
    """Key → boxes in the audit's order. Of items that share an object the first by source_ref stands for all."""
    from airflow_facefog.audit.ledger import open_ledger
    from airflow_facefog.job.record.current import read_current

    found: dict[str, list[Box]] = {}
    for current in read_current(audit, open_ledger(audit), clean, dataset):
        if current.detections is None:
            continue
        for image, rows in sorted(current.rows(), key=lambda pair: str(pair[0]["source_ref"])):
            if image["n_detections"] == len(rows):
                kept = [row for row in rows if disclose is Disclose.ALL or row["action"] == Action.FOGGED]
                found.setdefault(image["key"], [_box(row, image, disclose) for row in kept])
    return found


def _box(row: Row, image: Row, disclose: Disclose) -> Box:
    region = None if row["fx1"] is None else _cut([row[name] for name in ("fx1", "fy1", "fx2", "fy2")], image)
    seen = _cut([row[name] for name in ("x1", "y1", "x2", "y2")], image)
    box = seen if disclose is Disclose.ALL or region is None else region
    return Box(row["class_name"], row["confidence"], box, row["action"], row["method"], region)


def _cut(box: Sequence[float], image: Row) -> XYXY:
    """Within the image: readers of these forms take boxes beyond it for damage. What lies outside becomes a border."""
    width, height = float(image["width"]), float(image["height"])
    x1, x2 = (min(max(float(v), 0.0), width) for v in (box[0], box[2]))
    y1, y2 = (min(max(float(v), 0.0), height) for v in (box[1], box[3]))
    return x1, y1, x2, y2
