"""FiftyOne: ``data/<name>`` and ``samples.json``, as its ``FiftyOneDataset`` importer reads it (the portable form with
relative file paths and no database ids), with ``metadata.json``.

``bounding_box`` is [x, y, width, height] relative to the image (0..1). https://docs.voxel51.com/user_guide/import_datasets.html
"""

from __future__ import annotations

from typing import Any

from airflow_facefog.job.record.exports.files import Counts, Target, as_json
from airflow_facefog.job.record.exports.samples import Box, Published, Sample

FOLDER = "data/"


def write(published: Published, target: Target) -> Counts:
    """Write the export. Raises as ``Target`` does."""
    samples = as_json({"samples": [body(sample) for sample in published.samples]})
    target.check_index("samples.json", samples)
    counts = target.copy(published.samples, FOLDER)
    info = {
        "dataset": published.dataset, "snapshot_seq": published.seq, "detections": published.disclosed.value,
        "classes": list(published.classes),
    }  # fmt: skip
    target.put("metadata.json", as_json({"media_type": "image", "info": info}))
    target.put("samples.json", samples)
    return counts


def body(sample: Sample) -> dict[str, Any]:
    """One sample document."""
    return {
        "filepath": FOLDER + sample.name,
        "tags": [],
        "metadata": {
            "_cls": "ImageMetadata", "size_bytes": sample.size, "mime_type": f"image/{sample.format}",
            "width": sample.width, "height": sample.height,
        },
        "sha256": sample.sha256,
        "item_id": sample.item_id,
        "detections": {"_cls": "Detections", "detections": [_detection(box, sample) for box in sample.boxes]},
    }  # fmt: skip


def _detection(box: Box, sample: Sample) -> dict[str, Any]:
    return {
        "_cls": "Detection", "tags": [], "label": box.class_name, "bounding_box": _relative(box, sample),
        "confidence": box.confidence, "fogged": box.fogged, "action": box.action, "method": box.method,
    }  # fmt: skip


def _relative(box: Box, sample: Sample) -> list[float]:
    x1, y1, x2, y2 = box.xyxy
    return [x1 / sample.width, y1 / sample.height, (x2 - x1) / sample.width, (y2 - y1) / sample.height]
