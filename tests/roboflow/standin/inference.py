"""The inference route of the hosted and the self-hosted server: ``POST /{project}/{version}``."""

from __future__ import annotations

import base64
import binascii
import time
import uuid
from typing import Any

import cv2
import numpy as np

from standin.exchange import Answer, Request, as_json, message, multipart, refuse
from standin.models import Model, Seen

NOT_FOUND = (
    "Requested Roboflow resource not found. Make sure that workspace, project or model you referred in request exists."
)
UNREADABLE = "Could not load input image. Cause: "


def infer(request: Request, model: Model | None, sleep_s: float | None, byte_limit: int) -> Answer:
    """Answer one inference call. ``sleep_s``: wait that long instead of looking (the echo model still echoes)."""
    started = time.perf_counter()
    if model is None or model.retired:
        raise message(404, NOT_FOUND)
    if len(request.body) > byte_limit:
        raise message(413, "Request payload too large.")
    pixels = _decode(_image_bytes(request))
    floor = max(_fraction(request, "confidence", 0.4), 0.01)
    if sleep_s is None:
        seen = _look(model, pixels, floor)
    else:
        time.sleep(sleep_s)
        seen = list(model.look(pixels, floor)) if model.look.__name__ == "look_echo" else []
    height, width = pixels.shape[:2]
    limit = int(_number(request, "max_detections", model.max_detections))
    kept = _thin(seen, _fraction(request, "overlap", 0.3), limit)
    payload: dict[str, Any] = {
        "inference_id": str(uuid.uuid4()),
        "time": time.perf_counter() - started,
        "resolved_model": {"model_id": model.model_id},
        "image": {"width": width, "height": height},
        "predictions": [_prediction(s, model, width, height) for s in kept if s.class_id < len(model.classes)],
    }
    if request.query.get("format") == "image":
        return _drawn(pixels, payload["predictions"])
    answer = as_json(payload)
    answer.headers |= {"x-request-id": payload["inference_id"], "x-model-id": model.model_id}
    answer.headers |= {"x-processing-time": f"{payload['time']:.4f}", "x-model-cold-start": "false"}
    return answer


def _fraction(request: Request, name: str, default: float) -> float:
    """The legacy route's scale: 0..1 as it is, from 1 upwards per cent (so 1 means 1 %)."""
    value = _number(request, name, default)
    return value / 100 if value >= 1 else value


def _number(request: Request, name: str, default: float) -> float:
    try:
        return float(request.query.get(name, default))
    except ValueError:
        problem = {"type": "float_parsing", "loc": ["query", name], "msg": "Input should be a valid number"}
        raise refuse(422, {"detail": [problem]}) from None


def _image_bytes(request: Request) -> bytes:
    kind = request.headers.get("content-type", "")
    if kind.startswith("multipart/form-data"):
        try:
            return multipart(request)["file"][1]
        except (ValueError, KeyError):
            raise message(400, UNREADABLE + "no part named file") from None
    if not kind.startswith("application/x-www-form-urlencoded"):
        raise message(400, "Content-Type must be multipart/form-data or application/x-www-form-urlencoded")
    text = request.body.partition(b"base64,")[2] or request.body
    try:
        return base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        raise message(400, UNREADABLE + "not base64") from None


def _decode(data: bytes) -> Any:
    """Upright BGR pixels: the real server decodes with OpenCV, which applies EXIF orientation."""
    cut = data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-64:]
    pixels = None if cut or not data else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise message(400, UNREADABLE + "the data is not a valid image")
    return pixels


def _look(model: Model, pixels: Any, floor: float) -> list[Seen]:
    """Look at the picture as the model's preprocessing wants it; boxes come back in pixels of ``pixels``."""
    if model.stretch is None:
        return list(model.look(pixels, floor))
    height, width = pixels.shape[:2]
    fx, fy = width / model.stretch[0], height / model.stretch[1]
    found = model.look(cv2.resize(pixels, model.stretch, interpolation=cv2.INTER_AREA), floor)
    return [
        Seen((s.xyxy[0] * fx, s.xyxy[1] * fy, s.xyxy[2] * fx, s.xyxy[3] * fy), s.confidence, s.class_id) for s in found
    ]


def _thin(seen: list[Seen], overlap: float, limit: int) -> list[Seen]:
    """Per-class non-maximum suppression, best first, silently cut at ``limit``: as the real server does it."""
    kept: list[Seen] = []
    for one in sorted(seen, key=lambda s: -s.confidence):
        if all(other.class_id != one.class_id or _iou(one, other) <= overlap for other in kept):
            kept.append(one)
    return kept[:limit]


def _drawn(pixels: Any, predictions: list[dict[str, Any]]) -> Answer:
    """``format=image``: the picture with the boxes drawn."""
    for p in predictions:
        x, y, wide, high = p["x"], p["y"], p["width"], p["height"]
        corners = [(round(x + side * wide / 2), round(y + side * high / 2)) for side in (-1, 1)]
        cv2.rectangle(pixels, corners[0], corners[1], (80, 252, 199), 1)
    return Answer(200, bytes(cv2.imencode(".jpg", pixels)[1]), {"Content-Type": "image/jpeg"})


def _iou(a: Seen, b: Seen) -> float:
    wide = min(a.xyxy[2], b.xyxy[2]) - max(a.xyxy[0], b.xyxy[0])
    high = min(a.xyxy[3], b.xyxy[3]) - max(a.xyxy[1], b.xyxy[1])
    if wide <= 0 or high <= 0:
        return 0.0
    areas = [(s.xyxy[2] - s.xyxy[0]) * (s.xyxy[3] - s.xyxy[1]) for s in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def _prediction(seen: Seen, model: Model, width: int, height: int) -> dict[str, Any]:
    limits = (width, height, width, height)
    corners = [min(max(v, 0.0), float(limit)) for v, limit in zip(seen.xyxy, limits, strict=True)]
    x1, y1, x2, y2 = (float(round(v)) for v in corners) if model.rounding else corners
    prediction: dict[str, Any] = {
        "x": (x1 + x2) / 2,
        "y": (y1 + y2) / 2,
        "width": x2 - x1,
        "height": y2 - y1,
        "confidence": seen.confidence,
        "class": model.classes[seen.class_id],
        "class_id": seen.class_id,
        "detection_id": str(uuid.uuid4()),
    }
    if model.polygons:
        prediction["points"] = [{"x": x, "y": y} for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]
    return prediction
