"""WebDataset: tar shards ``shard-<snapshot>-<number>.tar``, in each ``<key>.jpg`` and ``<key>.json`` per sample.

Keys are the sample's number in the snapshot: readers cut a key at its first dot, so names cannot be keys; the name is in
the JSON. Times, owners and modes are constants: the same snapshot gives the same bytes. ``shards.json`` lists them.
https://github.com/webdataset/webdataset
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

from airflow_facefog.job.record.exports.files import Counts, Target, as_json, xywh
from airflow_facefog.job.record.exports.samples import Box, Published, Sample

SHARD_BYTES = 100_000_000
"""Size of a shard, about: it is built in memory."""

MODE = 0o644


def write(published: Published, target: Target, shard_bytes: int = SHARD_BYTES) -> Counts:
    """Write the export; a shard holds at least one sample and else at most about ``shard_bytes``. Counts samples."""
    shards = list(cut(published.samples, shard_bytes))
    names = [f"shard-{published.seq:06d}-{index:06d}.tar" for index in range(len(shards))]
    listed = [{"name": name, "samples": len(shard)} for name, shard in zip(names, shards, strict=True)]
    index = as_json({
        "format": "facefog-shards/1", "dataset": published.dataset, "snapshot_seq": published.seq,
        "detections": published.disclosed.value, "shards": listed,
    })  # fmt: skip
    target.check_index("shards.json", index)
    counts, start = Counts(), 0
    for name, shard in zip(names, shards, strict=True):
        written = target.put(name, _tar(shard, start, target))
        start += len(shard)
        for _ in shard:
            counts.add(written)
    target.put("shards.json", index)
    return counts


def cut(samples: Sequence[Sample], shard_bytes: int) -> Iterator[list[Sample]]:
    """Samples in order, cut by the size of their objects."""
    shard: list[Sample] = []
    size = 0
    for sample in samples:
        if shard and size + sample.size > shard_bytes:
            yield shard
            shard, size = [], 0
        shard.append(sample)
        size += sample.size
    if shard:
        yield shard


def _tar(samples: Sequence[Sample], start: int, target: Target) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, sample in enumerate(samples, start):
            _add(tar, f"{number:09d}.{sample.extension}", target.bytes_of(sample))
            _add(tar, f"{number:09d}.json", as_json(body(sample)))
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Owner, group and time are tarfile's constants: 0, no name, the epoch."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), MODE
    tar.addfile(info, io.BytesIO(data))


def body(sample: Sample) -> dict[str, Any]:
    """The JSON of one sample; ``bbox`` is [x, y, width, height] in px."""
    return {
        "file_name": sample.name, "width": sample.width, "height": sample.height, "sha256": sample.sha256,
        "item_id": sample.item_id, "recipe_hash": sample.recipe_hash,
        "detections": [_detection(box) for box in sample.boxes],
    }  # fmt: skip


def _detection(box: Box) -> dict[str, Any]:
    return {
        "class_name": box.class_name, "confidence": box.confidence, "bbox": xywh(box.xyxy), "fogged": box.fogged,
        "action": box.action, "method": box.method, "region": box.region and xywh(box.region),
    }  # fmt: skip
