"""What a detector sees in a folder, as one Parquet table. Nothing is fogged, published or recorded; prints nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ImageError, StoreError
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy
from airflow_facefog.core.raw import sealed
from airflow_facefog.job.listing import list_source
from airflow_facefog.job.model import Place, open_root_plain

if TYPE_CHECKING:
    from airflow_facefog.core.detector import Detector
    from airflow_facefog.job.source import Item, Source

COLUMNS = ("source_uri", "class_name", "confidence", "x1", "y1", "x2", "y2", "width", "height")
"""Boxes are xyxy in pixels of the upright image, half-open; width and height are the upright image's."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One image: its rows, or why it was refused."""

    rows: tuple[tuple[Any, ...], ...]
    refused: str | None = None


@sealed
def detect_to_parquet(
    source: Place, output: Place, detector_spec: Any, *, start: Callable[[int], Callable[[int], None]],
    allow_remote: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Write every detection above the default ``record_floor`` to ``output``; return counts.

    Returns {"listed", "looked_at", "refused": {reason: n}, "detections", "output"}; the same counts are in the file's
    metadata, because an image that was refused has no row, and that must not read as "nothing found". ``start(total)``
    returns what is called with 1 per image. ``allow_remote``: raw images may go to a detector outside this network.
    Raises ConfigurationError, PolicyError, DetectorError, StoreError.
    """
    from airflow_facefog.detectors import resolve
    from airflow_facefog.detectors.canary import check_canary
    from airflow_facefog.job.machine import calm_process, usable_cpus
    from airflow_facefog.job.source import Source
    from airflow_facefog.job.worker import run_in_order

    detector = resolve(detector_spec, allow_remote=allow_remote)
    listing = list_source(source, None, open_root_plain)
    policy = FogPolicy()
    reader = Source(
        open_root_plain(listing.root.uri), local_root=listing.root.local_path if listing.root.is_local else None,
        max_bytes=policy.limits.max_bytes,
    )  # fmt: skip
    items = tuple(_items(listing.root, listing.items))
    advance = start(len(items))
    calm_process()
    check_canary(detector)
    threads = detector.info.concurrency or usable_cpus()
    seen = []
    for image in run_in_order(partial(_look, listing.root, reader, detector, policy), items, threads):
        seen.append(image)
        advance(1)
    check_canary(detector)
    return _write(seen, output, detector.info.name)


def _items(root: Place, listed: Any) -> Iterator[Item]:
    from airflow_facefog.job.opening import make_item

    for item in listed:
        yield make_item(root, item.key, item.size, item.etag, keys=KeyRing.from_master(None))


@sealed
def _look(root: Place, reader: Source, detector: Detector, policy: FogPolicy, item: Item) -> Seen:
    from airflow_facefog.core.pipeline import look
    from airflow_facefog.job.plan import item_uri, printable_uri

    try:
        looked = look(reader.read(item, KeyRing.from_master(None)), detector, policy)
    except ImageError as error:
        return Seen((), str(error.reason))
    uri = printable_uri(item_uri(root, item.key))
    size = (looked.picture.width, looked.picture.height)
    return Seen(tuple((uri, d.class_name, d.confidence, *d.xyxy, *size) for d in looked.detections))


def _write(seen: list[Seen], output: Place, detector: str) -> dict[str, Any]:
    import json

    refused = Counter(image.refused for image in seen if image.refused)
    rows = [row for image in seen for row in image.rows]
    counts = {
        "listed": len(seen), "looked_at": len(seen) - refused.total(), "refused": dict(refused), "detections": len(rows),
    }  # fmt: skip
    data = _parquet(rows, {"facefog": json.dumps({**counts, "detector": detector})})
    try:
        path = open_root_plain(output.uri)
        if output.is_local:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise StoreError(f"the output file cannot be written ({error.strerror or type(error).__name__})") from None
    return {**counts, "output": output.uri}


def _parquet(rows: list[tuple[Any, ...]], metadata: dict[str, str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = (pa.string(), pa.string(), *(pa.float64(),) * 5, *(pa.int64(),) * 2)
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)), metadata=metadata)
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    table = pa.table([pa.array(values, kind) for values, kind in zip(columns, types, strict=True)], schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
