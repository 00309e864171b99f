"""What a server's status means: a clear permanent error, or a fault that a retry may mend. Never quotes keys or URLs.

The table of statuses is the one in ``docs``; a self-hosted server answers 502 where its own licence check was told 429.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, quote_plus

from airflow_facefog.core.errors import (
    ConfigurationError,
    DetectorError,
    FogError,
    ImageError,
    PermanentError,
    TransientError,
)
from airflow_facefog.core.records import Reason
from airflow_facefog.detectors.roboflow.access import Secret

SAID_MAX = 200
RETRY_AFTER_CAP_S = 3600.0
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
_PERMANENT: Mapping[int, tuple[type[PermanentError], str]] = {
    400: (DetectorError, "it cannot read the request; check that the URL is an inference server's and the model detects objects"),
    401: (ConfigurationError, "the API key is missing or wrong; correct it in the connection"),
    402: (ConfigurationError, "the workspace has no credits left; add credits or ask your own inference server"),
    403: (ConfigurationError, "this key may not use the model, or its quota is used up; check both in the workspace"),
    404: (ConfigurationError, "there is no such model version; check the model id, and that it is trained and not retired"),
    405: (ConfigurationError, "the server has no such route; check the URL, and give the model as project/version"),
    407: (ConfigurationError, "a proxy wants a password; name it in the connection"),
    409: (DetectorError, "the model is in a state that contradicts the request; look at it in the workspace"),
    422: (DetectorError, "the server does not take these parameters; check its version (1.0 or newer) and the model type"),
    423: (ConfigurationError, "the workspace or model is locked; unlock it in the workspace"),
    501: (ConfigurationError, "the server cannot run this kind of model; choose another model or server"),
}  # fmt: skip


class TooLargeError(DetectorError):
    """413: the picture is too large for the server. Smaller pixels may pass; the same do not."""


class FaultError(TransientError):
    """One request failed in a way that often mends itself. ``throttled``: the server wants fewer requests (429)."""

    def __init__(self, message: str, *, retry_after_s: float | None = None, throttled: bool = False) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.throttled = throttled


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. Header names in lower case; ``cut``: the body was longer than what is read."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    cut: bool = False


def failure_of(reply: Reply, secret: Secret) -> FogError | None:
    """The error that an answer means, or None when its status is 2xx."""
    status = reply.status
    if 200 <= status < 300:
        return None
    said = _said(reply.body, secret)
    if 300 <= status < 400:
        return ConfigurationError(
            f"the Roboflow server answered {status}, a redirect, which is not followed: pictures and key go nowhere else; "
            "give the URL of the server itself"
        )
    if status == 413:
        return TooLargeError(f"the Roboflow server answered 413: the picture is too large for it{said}")
    if status in TRANSIENT or (status >= 500 and status not in _PERMANENT):
        text = f"the Roboflow server answered {status}{said}"
        return FaultError(text, retry_after_s=retry_after_s(reply.headers), throttled=status == 429)
    kind, action = _PERMANENT.get(status, (DetectorError, "this status is not known; check the URL"))
    return kind(f"the Roboflow server answered {status}: {action}{said}")


def read_json(reply: Reply) -> Any:
    """The body as JSON. Raises FaultError when it is none (a proxy's page), ImageError when it is longer than is read."""
    if reply.cut:
        raise ImageError(
            Reason.DETECTOR_REFUSED, f"the Roboflow server's answer is longer than {len(reply.body)} bytes; refused"
        )
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        kind = reply.headers.get("content-type", "no content type").partition(";")[0][:40]
    raise FaultError(
        f"the Roboflow server answered {reply.status} with {kind!r} that is not JSON; is there a proxy's page in between?"
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """``Retry-After`` in seconds from now (0 to one hour), or None when absent or unreadable.

    A date is compared with the server's own ``Date``, so that a clock that is wrong on one side does no harm.
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        return min(float(text), RETRY_AFTER_CAP_S)
    until = _date(text)
    if until is None:
        return None
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    return min(max((until - now).total_seconds(), 0.0), RETRY_AFTER_CAP_S)


def redact(text: str, secret: Secret) -> str:
    """``text`` without key, tokens and URLs, on one line of at most 200 printable characters."""
    key = secret.reveal()
    for form in {key, quote(key, safe=""), quote_plus(key)} - {""}:
        text = text.replace(form, "…")
    text = re.sub(r"(?i)\b(?:https?|wss?)://\S+", "(URL)", text)
    text = re.sub(r"(?i)(api_?key|token|bearer)[\"']?\s*[=: ]\s*[^\s&\"']+", r"\1 …", text)
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= SAID_MAX else text[: SAID_MAX - 1] + "…"


def _said(body: bytes, secret: Secret) -> str:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    text = redact(_message(content), secret)
    return f" (it says: {text})" if text else ""


def _message(content: Any) -> str:
    """The text in ``{"message"}``, ``{"error": text | {"message"}}`` or ``{"detail": text | [{"msg"}]}``."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "; ".join(filter(None, map(_message, content[:3])))
    if isinstance(content, dict):
        parts = (_message(content[name]) for name in ("message", "error", "detail", "msg") if name in content)
        return next(filter(None, parts), "")
    return ""


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
