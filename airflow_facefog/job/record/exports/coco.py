"""COCO object detection: ``data/<name>``, ``labels.json`` (the dataset) and ``results.json`` (detections with scores).

``bbox`` is [x, y, width, height] in px. Numbers of images, categories and annotations count from 1 in sorted order; COCO's
``image_id`` is such a number, nothing of the audit. Extra keys: ``score``, ``fogged``, ``action``, ``method``, ``region``.
Layout and fields: https://cocodataset.org/#format-data and #format-results, and FiftyOne's COCODetectionDataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_facefog.job.record.exports.files import Counts, Target, as_json, xywh
from airflow_facefog.job.record.exports.samples import Published, Sample

FOLDER = "data/"


def write(published: Published, target: Target) -> Counts:
    """Write the export. Raises as ``Target`` does."""
    labels, results = (as_json(body) for body in bodies(published))
    target.check_index("labels.json", labels)
    counts = target.copy(published.samples, FOLDER)
    target.put("results.json", results)
    target.put("labels.json", labels)
    return counts


def bodies(published: Published) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The dataset and the results."""
    numbers = {name: index for index, name in enumerate(published.classes, 1)}
    annotations = list(_annotations(published, numbers))
    labels = {
        "info": {
            "description": f"facefog dataset {published.dataset}, snapshot {published.seq}",
            "version": str(published.seq), "detections": published.disclosed.value,
        },
        "licenses": [],
        "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()],
        "images": [_image(index, sample) for index, sample in enumerate(published.samples, 1)],
        "annotations": annotations,
    }  # fmt: skip
    left_out = {"id", "area", "iscrowd"}
    return labels, [{name: value for name, value in a.items() if name not in left_out} for a in annotations]


def _image(index: int, sample: Sample) -> dict[str, Any]:
    return {
        "id": index, "file_name": sample.name, "width": sample.width, "height": sample.height,
        "sha256": sample.sha256, "item_id": sample.item_id,
    }  # fmt: skip


def _annotations(published: Published, numbers: dict[str, int]) -> Iterator[dict[str, Any]]:
    number = 0
    for index, sample in enumerate(published.samples, 1):
        for box in sample.boxes:
            number += 1
            bbox = xywh(box.xyxy)
            yield {
                "id": number, "image_id": index, "category_id": numbers[box.class_name], "bbox": bbox,
                "area": bbox[2] * bbox[3], "iscrowd": 0, "score": box.confidence, "fogged": box.fogged,
                "action": box.action, "method": box.method, "region": box.region and xywh(box.region),
            }  # fmt: skip
