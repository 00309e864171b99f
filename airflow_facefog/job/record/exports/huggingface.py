"""Hugging Face ImageFolder: ``train/<name>`` and ``train/metadata.parquet`` with ``file_name`` and one row per image.

``objects`` holds lists of equal length, as the object detection guide of ``datasets`` has them; ``bbox`` is [x, y, width,
height] in px. Names and metadata share a folder: ``datasets`` ignores a metadata file above the folder of a split.
https://huggingface.co/docs/datasets/image_dataset#imagefolder
"""

from __future__ import annotations

from typing import Any

from airflow_facefog.job.record.exports.files import Counts, Target, xywh
from airflow_facefog.job.record.exports.samples import Published, Sample

FOLDER = "train/"


def write(published: Published, target: Target) -> Counts:
    """Write the export. Raises as ``Target`` does."""
    index = metadata(published)
    target.check_index(f"{FOLDER}metadata.parquet", index)
    counts = target.copy(published.samples, FOLDER)
    target.put(f"{FOLDER}metadata.parquet", index)
    return counts


def metadata(published: Published) -> bytes:
    """``metadata.parquet``: the same rows, the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, box = pa.string(), pa.list_(pa.float64())
    objects = pa.struct(
        [
            ("bbox", pa.list_(box)), ("categories", pa.list_(text)), ("confidence", pa.list_(pa.float64())),
            ("fogged", pa.list_(pa.bool_())), ("action", pa.list_(text)), ("method", pa.list_(text)),
        ]
    )  # fmt: skip
    number = pa.int64()
    schema = pa.schema(
        [
            ("file_name", text), ("width", number), ("height", number), ("sha256", text), ("item_id", text),
            ("recipe_hash", text), ("objects", objects),
        ]
    )  # fmt: skip
    sink = pa.BufferOutputStream()
    rows = [_row(sample) for sample in published.samples]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, compression="zstd")
    return bytes(sink.getvalue())


def _row(sample: Sample) -> dict[str, Any]:
    boxes = sample.boxes
    return {
        "file_name": sample.name, "width": sample.width, "height": sample.height, "sha256": sample.sha256,
        "item_id": sample.item_id, "recipe_hash": sample.recipe_hash,
        "objects": {
            "bbox": [xywh(box.xyxy) for box in boxes], "categories": [box.class_name for box in boxes],
            "confidence": [box.confidence for box in boxes], "fogged": [box.fogged for box in boxes],
            "action": [box.action for box in boxes], "method": [box.method for box in boxes],
        },
    }  # fmt: skip
