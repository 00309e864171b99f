"""Stored predictions, for the staged driver and for caches: one authenticated JSON line per image.

``open_prediction`` gives detections only if the line was sealed under the same key for exactly this item, image, upright
size and recipe. Anything else is None, which means *detect again*; it is never an empty tuple, which means "looked and
found nothing". Numbers come back as they went in (shortest round-trip form), so both drivers write the same bytes.
Keyless, the seal is a checksum: it finds damage and mix-ups, not an attacker with write access.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from typing import Any

from airflow_facefog.core.detector import Detections, used_floor
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.records import Detection

FORMAT = "facefog/prediction/1"


def seal_prediction(
    keys: KeyRing, *, source_ref: str, image_id: str, width: int, height: int, recipe_hash: str,
    detections: Sequence[Detection],
) -> bytes:  # fmt: skip
    """Return one canonical JSON line (no line end) with a MAC over everything in it.

    ``width``, ``height``: the upright picture, px.
    """
    body = {
        "format": FORMAT,
        "source_ref": source_ref,
        "image_id": image_id,
        "width": width,
        "height": height,
        "recipe_hash": recipe_hash,
        "detections": [_row(detection) for detection in detections],
    }
    floor = used_floor(detections)
    if floor is not None:
        body["floor"] = float(floor)
    return _canonical({**body, "mac": keys.mac(_canonical(body))})


def open_prediction(
    line: bytes | None, keys: KeyRing, *, source_ref: str, image_id: str, recipe_hash: str,
    width: int | None = None, height: int | None = None,
) -> Detections | None:  # fmt: skip
    """Return the detections stored in ``line``, or None: nothing stored, damaged, forged or about something else.

    Sealing what was read must give the same bytes again: that checks identity, MAC and canonical form at once. Without
    ``width`` and ``height`` (picture not decoded yet) the sealed size stands, which belongs to the same raw bytes.
    """
    if not line:
        return None
    try:
        stored = json.loads(line)
        detections = Detections((_detection(row) for row in stored["detections"]), stored.get("floor"))
        size = (int(stored["width"]), int(stored["height"]))
        again = seal_prediction(
            keys, source_ref=source_ref, image_id=image_id, width=size[0], height=size[1], recipe_hash=recipe_hash,
            detections=detections,
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    fits = size == (size[0] if width is None else width, size[1] if height is None else height)
    return detections if fits and hmac.compare_digest(again, line) else None


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _row(detection: Detection) -> list[Any]:
    polygon = detection.polygon
    return [
        *(float(v) for v in detection.xyxy),
        float(detection.confidence),
        detection.class_name,
        int(detection.class_id),
        None if polygon is None else [[float(x), float(y)] for x, y in polygon],
        detection.detector,
    ]


def _detection(row: list[Any]) -> Detection:
    x1, y1, x2, y2, confidence, class_name, class_id, points, detector = row
    polygon = None if points is None else tuple((float(x), float(y)) for x, y in points)
    return Detection((x1, y1, x2, y2), confidence, class_name, class_id, polygon, detector)
