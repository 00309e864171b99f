"""How Roboflow is reached: addresses, key, limits. One frozen value that never prints its key.

It is pickled only to travel to our own child process over our own pipe; plans, XCom and audit hold connection names.
"""

from __future__ import annotations

import hmac
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from airflow_facefog.core.errors import ConfigurationError

HOSTED_INFERENCE = "https://serverless.roboflow.com"
HOSTED_API = "https://api.roboflow.com"
KEY_ENV = "FACEFOG_ROBOFLOW_API_KEY"
URL_ENV = "FACEFOG_ROBOFLOW_URL"
API_URL_ENV = "FACEFOG_ROBOFLOW_API_URL"
WORKSPACE_ENV = "FACEFOG_ROBOFLOW_WORKSPACE"
AUTH_ENV = "FACEFOG_ROBOFLOW_AUTH"
MAX_CONCURRENCY = 64


class Secret:
    """Text that never prints: ``reveal()`` is the only way to it. False when empty."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself; for a header or a query, never for a message."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(("facefog.Secret", self._text))

    def __repr__(self) -> str:
        return "Secret(…)" if self._text else "Secret()"


@dataclass(frozen=True, slots=True)
class Access:
    """One way to Roboflow.

    ``inference_url`` answers pictures (a self-hosted server: ``http://host:9001``), ``api_url`` manages datasets and
    training. ``timeout_s`` bounds one request from its first byte to its last. ``concurrency`` calls run at once,
    ``rate_per_s`` is the process's budget per host. ``auth``: the key as Bearer header, or in the query for servers
    before 1.5. ``allowed_hosts``: names that pictures may be sent to although their address is public. ``ca_file``: PEM
    file of an own certificate authority; verification itself is never off.

    Raises ConfigurationError that names the field; never quotes its value.
    """

    api_key: Secret = field(default_factory=Secret)
    inference_url: str = HOSTED_INFERENCE
    api_url: str = HOSTED_API
    workspace: str | None = None
    timeout_s: float = 60.0
    connect_timeout_s: float = 10.0
    concurrency: int = 8
    rate_per_s: float = 20.0
    auth: Literal["header", "query"] = "header"
    proxy: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    ca_file: str | None = None

    def __post_init__(self) -> None:
        _check_key(self.api_key)
        for name in ("inference_url", "api_url"):
            object.__setattr__(self, name, _base_url(name, getattr(self, name)))
        if self.proxy is not None:
            _split("proxy", self.proxy)
        for name in ("timeout_s", "connect_timeout_s", "rate_per_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigurationError(f"Roboflow {name} is {value}; it must be a positive number")
        if not 1 <= self.concurrency <= MAX_CONCURRENCY:
            raise ConfigurationError(f"Roboflow concurrency is {self.concurrency}; it must be 1 to {MAX_CONCURRENCY}")
        if self.auth not in ("header", "query"):
            raise ConfigurationError(f"Roboflow auth is {self.auth!r}; valid: header, query")
        object.__setattr__(self, "allowed_hosts", tuple(host_name(host) for host in self.allowed_hosts))

    @property
    def inference_host(self) -> str:
        """Host name (no port) that answers pictures."""
        return host_name(urlsplit(self.inference_url).hostname or "")

    @property
    def hosted(self) -> bool:
        """Whether pictures go to Roboflow's own servers."""
        return self.inference_host.endswith((".roboflow.com", ".roboflow.eu", ".roboflow.cloud"))


AccessOpener = Callable[[str | None], Access]
"""Connection id (None: the environment) → Access. Operators pass one that reads Airflow connections."""


def access_from_env(conn_id: str | None = None) -> Access:
    """Access from ``FACEFOG_ROBOFLOW_API_KEY``, ``…_URL``, ``…_API_URL``, ``…_WORKSPACE`` and ``…_AUTH``.

    Raises ConfigurationError when a connection id is asked for, and when there is no key for Roboflow's own servers;
    a self-hosted server needs none.
    """
    if conn_id:
        raise ConfigurationError(
            f"the detector names connection {conn_id!r}, which only Airflow can resolve; leave conn_id out and set "
            f"{KEY_ENV} and {URL_ENV}, or run it there"
        )
    access = Access(
        api_key=Secret(os.environ.get(KEY_ENV, "").strip()),
        inference_url=os.environ.get(URL_ENV) or HOSTED_INFERENCE,
        api_url=os.environ.get(API_URL_ENV) or HOSTED_API,
        workspace=os.environ.get(WORKSPACE_ENV) or None,
        auth=os.environ.get(AUTH_ENV) or "header",  # type: ignore[arg-type]  # checked by Access
    )
    if access.hosted and not access.api_key:
        raise ConfigurationError(
            f"no Roboflow key: set {KEY_ENV}, or {URL_ENV} to your own inference server (http://host:9001)"
        )
    return access


def host_name(host: str) -> str:
    """A host name in the form in which names are compared: lower case, no dot at the end."""
    return host.strip().casefold().rstrip(".")


def _check_key(key: object) -> None:
    if not isinstance(key, Secret):
        raise ConfigurationError("the Roboflow api_key must be given as Secret(…): plain text would print")
    text = key.reveal()
    if not all("!" <= letter <= "~" for letter in text):
        raise ConfigurationError("the Roboflow API key holds spaces or characters that no key has; copy it again")


def _base_url(name: str, url: str) -> str:
    host, rest = _split(name, url)
    if "@" in host or rest:
        raise ConfigurationError(f"Roboflow {name} holds credentials or a query; give scheme, host and port only")
    return url.strip().rstrip("/")


def _split(name: str, url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url.strip())
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except (ValueError, AttributeError):
        fine = False
    if not fine:
        raise ConfigurationError(f"Roboflow {name} is not a URL like https://host or http://host:9001")
    return parts.netloc, parts.query + parts.fragment
