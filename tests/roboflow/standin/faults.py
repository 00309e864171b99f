"""Misbehaviour on demand: a fault is a name and its parameters, so that it also travels through the control endpoint.

==================  ===============================================================================================
``status``          answer ``status`` with ``body`` (JSON or text) and ``headers``; ``retry_after`` seconds, as an HTTP
                    date by the server's (skewed) clock with ``as_date``
``stall``           wait ``seconds`` (at most 30) before the true answer
``slow_body``       wait ``seconds`` in the middle of the body
``truncate``        send ``fraction`` (.5) of the body; with ``lie`` the Content-Length still promises all of it
``html``            an HTML page with ``status`` (502)
``reset``           cut the connection: ``when`` "before" the answer, in the "middle" of it, or while the "upload" is read;
                    before and middle: the request was carried out
``redirect``        ``status`` (302) to ``location``
``flood``           ``n_bytes`` of JSON-like spaces without Content-Length
``body``            200 with this JSON ``body``
``wrong_size``      the answer's image is ``width`` x ``height``
``boxes``           ``n`` predictions, cut at the asked maximum unless ``beyond``
``edit``            every prediction (one is made if there is none) gets ``fields``, such as {"x": NaN} or {"class": "x"}
``drop``            the answer lacks ``key`` ("predictions")
``pretend``         an upload is confirmed and not kept
``zip_slip`` ``zip_symlink`` ``zip_bomb`` ``zip_bad_crc`` ``wrong_hash``   a dataset archive that must not be trusted
==================  ===============================================================================================
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from fnmatch import fnmatchcase
from typing import Any

from standin import archives
from standin.exchange import Answer, Request, as_json

LONGEST_STALL_S = 30.0


@dataclass(frozen=True)
class Fault:
    """One way to misbehave; see the table above."""

    kind: str
    params: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; there are: {', '.join(KINDS)}")


@dataclass
class Line:
    """One line of the script: ``fault`` for the matching requests number ``after`` .. ``after + times - 1``."""

    method: str
    path: str
    fault: Fault
    times: int | None
    after: int
    hits: int = 0

    def meets(self, request: Request) -> bool:
        """Whether this line speaks of the request."""
        return self.method in ("*", request.method) and fnmatchcase(request.path, self.path)

    def fires(self) -> bool:
        """Count a request that this line speaks of; whether it is to misbehave."""
        self.hits += 1
        return self.hits > self.after and (self.times is None or self.hits <= self.after + self.times)


@dataclass(frozen=True)
class Scene:
    """What a fault needs: the request, the true answer (made when called for) and the server's clock."""

    request: Request
    answer: Callable[[], Answer]
    skew_s: float


def play(fault: Fault, scene: Scene) -> Answer:
    """The answer under ``fault``."""
    return KINDS[fault.kind](scene, fault.params)


def _status(scene: Scene, params: dict[str, Any]) -> Answer:
    body = params.get("body", {"message": "The server misbehaves on demand."})
    answer = Answer(params["status"], body.encode()) if isinstance(body, str) else as_json(body, params["status"])
    wait = params.get("retry_after")
    if wait is not None:
        date = formatdate(time.time() + scene.skew_s + float(wait), usegmt=True)
        answer.headers["Retry-After"] = date if params.get("as_date") else str(wait)
    answer.headers |= params.get("headers", {})
    return answer


def _stall(scene: Scene, params: dict[str, Any]) -> Answer:
    answer = scene.answer()
    answer.delay_s = min(float(params["seconds"]), LONGEST_STALL_S)
    return answer


def _slow_body(scene: Scene, params: dict[str, Any]) -> Answer:
    answer = scene.answer()
    answer.middle_s = min(float(params["seconds"]), LONGEST_STALL_S)
    return answer


def _truncate(scene: Scene, params: dict[str, Any]) -> Answer:
    answer = scene.answer()
    whole = len(answer.body)
    answer.body = answer.body[: int(whole * params.get("fraction", 0.5))]
    answer.claimed_length = whole if params.get("lie") else None
    return answer


def _html(scene: Scene, params: dict[str, Any]) -> Answer:
    title = b"502 Bad Gateway"
    page = b"<html>\r\n<head><title>%b</title></head>\r\n<body><center><h1>%b</h1></center></body></html>" % (
        title,
        title,
    )
    return Answer(params.get("status", 502), page, {"Content-Type": "text/html"})


def _reset(scene: Scene, params: dict[str, Any]) -> Answer:
    answer = scene.answer()
    whole = len(answer.body)
    answer.body = answer.body[: whole // 2] if params.get("when") == "middle" else b""
    answer.claimed_length = whole
    answer.reset = True
    return answer


def _redirect(scene: Scene, params: dict[str, Any]) -> Answer:
    return Answer(params.get("status", 302), b"", {"Location": params["location"]})


def _flood(scene: Scene, params: dict[str, Any]) -> Answer:
    return Answer(200, b'{"predictions":[', {"Content-Type": "application/json"}, flood=int(params["n_bytes"]))


def _body(scene: Scene, params: dict[str, Any]) -> Answer:
    return as_json(params["body"])


def _edited(scene: Scene, change: Callable[[dict[str, Any]], None]) -> Answer:
    answer = scene.answer()
    payload = json.loads(answer.body)
    if answer.status == 200:
        change(payload)
    return as_json(payload, answer.status)


def _wrong_size(scene: Scene, params: dict[str, Any]) -> Answer:
    def change(payload: dict[str, Any]) -> None:
        payload["image"] = {"width": params["width"], "height": params["height"]}

    return _edited(scene, change)


def _boxes(scene: Scene, params: dict[str, Any]) -> Answer:
    def change(payload: dict[str, Any]) -> None:
        limit = params["n"] if params.get("beyond") else int(scene.request.query.get("max_detections", 300))
        wide, high = payload["image"]["width"], payload["image"]["height"]
        payload["predictions"] = [_box(i, wide, high) for i in range(min(params["n"], limit))]

    return _edited(scene, change)


def _box(i: int, wide: int, high: int) -> dict[str, Any]:
    x, y = i % 100 * wide / 100 + wide / 200, i // 100 % 100 * high / 100 + high / 200
    box = {"x": x, "y": y, "width": wide / 120, "height": high / 120, "confidence": 0.9, "class": "face", "class_id": 0}
    return {**box, "detection_id": f"d-{i}"}


def _edit(scene: Scene, params: dict[str, Any]) -> Answer:
    def change(payload: dict[str, Any]) -> None:
        found = payload["predictions"] or [_box(0, payload["image"]["width"], payload["image"]["height"])]
        payload["predictions"] = [{**prediction, **params["fields"]} for prediction in found]

    return _edited(scene, change)


def _drop(scene: Scene, params: dict[str, Any]) -> Answer:
    return _edited(scene, lambda payload: payload.pop(params.get("key", "predictions")))


def _pretend(scene: Scene, params: dict[str, Any]) -> Answer:
    return as_json({"success": True, "id": "never-kept"})


def _archive(make: Callable[[bytes], bytes]) -> Callable[[Scene, dict[str, Any]], Answer]:
    def fault(scene: Scene, params: dict[str, Any]) -> Answer:
        answer = scene.answer()
        return archives.as_answer(make(answer.body)) if answer.status == 200 else answer

    return fault


def _wrong_hash(scene: Scene, params: dict[str, Any]) -> Answer:
    answer = scene.answer()
    return Answer(200, answer.body, archives.hashes(b"other bytes"))


KINDS: dict[str, Callable[[Scene, dict[str, Any]], Answer]] = {
    "status": _status, "stall": _stall, "slow_body": _slow_body, "truncate": _truncate, "html": _html, "reset": _reset,
    "redirect": _redirect, "flood": _flood, "body": _body, "wrong_size": _wrong_size, "boxes": _boxes, "edit": _edit,
    "drop": _drop, "pretend": _pretend, "wrong_hash": _wrong_hash, "zip_slip": _archive(archives.slipping),
    "zip_symlink": _archive(archives.linking), "zip_bomb": _archive(archives.bomb),
    "zip_bad_crc": _archive(archives.bad_crc),
}  # fmt: skip
