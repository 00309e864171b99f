"""What passes through the stand-in: one request as it came, one answer as it will be sent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote


@dataclass
class Request:
    """One request. ``path`` is unquoted, without query; header names are lower case; ``status`` is what was answered."""

    method: str
    path: str
    raw_query: str
    headers: dict[str, str]
    body: bytes = field(repr=False)
    index: int = 0
    status: int | None = None
    fault: str | None = None
    client: str = ""

    @property
    def query(self) -> dict[str, str]:
        """The query; the last of repeated names wins."""
        return dict(parse_qsl(self.raw_query, keep_blank_values=True))

    @property
    def parts(self) -> list[str]:
        """The segments of the path."""
        return [unquote(part) for part in self.path.split("/") if part]

    @property
    def key(self) -> str | None:
        """The API key, from the Bearer header or else the query."""
        header = self.headers.get("authorization", "")
        return header.removeprefix("Bearer ") if header.startswith("Bearer ") else self.query.get("api_key")

    def json(self) -> Any:
        """The body as JSON; an empty body is {}. Raises ValueError."""
        return json.loads(self.body or b"{}")

    def record(self, keep_body: bool) -> Recorded:
        """What is kept for assertions."""
        return Recorded(
            self.index, self.method, self.path, self.raw_query, self.query, self.headers, len(self.body),
            hashlib.sha256(self.body).hexdigest(), self.status, self.fault, self.client, self.body if keep_body else None,
        )  # fmt: skip


@dataclass(frozen=True)
class Recorded:
    """One request as the assertions see it. ``body`` only with ``keep_bodies``; ``status`` None: no answer was sent."""

    index: int
    method: str
    path: str
    raw_query: str
    query: dict[str, str]
    headers: dict[str, str]
    body_size: int
    body_sha256: str
    status: int | None
    fault: str | None
    client: str
    body: bytes | None = field(default=None, repr=False)


@dataclass
class Answer:
    """One answer and how to misdeliver it.

    ``claimed_length`` is sent as Content-Length in place of the truth. ``reset`` cuts the connection after ``body``, or
    before anything when the body is empty. ``delay_s`` passes before the answer, ``middle_s`` between the halves of the
    body. ``flood`` bytes of spaces follow the body, without a Content-Length.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    claimed_length: int | None = None
    reset: bool = False
    delay_s: float = 0.0
    middle_s: float = 0.0
    flood: int = 0


def as_json(payload: Any, status: int = 200) -> Answer:
    """A JSON answer; NaN and infinities are written as Python does, which is how a broken server does it."""
    body = json.dumps(payload, separators=(",", ":")).encode()
    return Answer(status, body, {"Content-Type": "application/json"})


class Refused(Exception):
    """Ends a request with ``answer``."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def refuse(status: int, body: Any) -> Refused:
    """An error answer with this JSON body, to be raised."""
    return Refused(as_json(body, status))


def message(status: int, text: str) -> Refused:
    """An inference server's error: ``{"message": …}``."""
    return refuse(status, {"message": text})


def api_error(status: int, text: str, kind: str = "GraphMethodException") -> Refused:
    """A management API's error: ``{"error": {"message", "status", "type", "hint"}}``."""
    hint = "You can see the valid URLs in the API reference."
    return refuse(status, {"error": {"message": text, "status": status, "type": kind, "hint": hint}})


def multipart(request: Request) -> dict[str, tuple[dict[str, str], bytes]]:
    """The parts of a multipart body by name: (Content-Disposition parameters, bytes). Raises ValueError."""
    kind = request.headers.get("content-type", "")
    boundary = kind.partition("boundary=")[2].split(";")[0].strip('"')
    if not kind.startswith("multipart/form-data") or not boundary:
        raise ValueError("not a multipart body")
    found = {}
    for chunk in request.body.split(b"--" + boundary.encode())[1:-1]:
        head, _, content = chunk.partition(b"\r\n\r\n")
        line = next(
            (h for h in head.decode("utf-8", "replace").split("\r\n") if h.lower().startswith("content-disp")), ""
        )
        pairs = (item.strip().partition("=") for item in line.split(";")[1:])
        parameters = {name: value.strip('"') for name, _, value in pairs}
        found[parameters.get("name", "")] = (parameters, content.removesuffix(b"\r\n"))
    return found
