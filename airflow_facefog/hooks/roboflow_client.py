"""The real ``roboflow`` client made safe for a task: time-outs, redaction, own addresses, no prompts, no silent failures.

All its HTTP passes through the functions of ``roboflow.util.http``; we put ours there, for this process. The client keeps
addresses in module globals, so one process speaks to one connection at a time: a request whose key belongs to another
connection's hosts is refused. Imports ``roboflow`` and ``requests`` inside functions only.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, quote_plus, urlsplit

from airflow_facefog.core.errors import ConfigurationError, PermanentError
from airflow_facefog.core.raw import sealed
from airflow_facefog.detectors.roboflow.access import Access, host_name
from airflow_facefog.detectors.roboflow.faults import FaultError, Reply, failure_of, redact

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

VERBS = ("get", "post", "put", "patch", "delete", "head")
REFUSED = {
    ("roboflow", "login"): "it waits for a person; put the key into the connection",
    ("roboflow.core.version", "Version.train"): "it hides failures; use RoboflowTrainOperator",
    (
        "roboflow.core.version",
        "Version.deploy",
    ): "it prints the key and hides failures; upload weights in the Roboflow app",
    ("roboflow.core.project", "Project.train"): "it starts billable work and crashes; use RoboflowTrainOperator",
    ("roboflow.core.workspace", "Workspace.deploy_model"): "it hides failures; upload weights in the Roboflow app",
}
"""Calls of the client that must not run in a task, and what to do instead."""
INFERENCE_NAMES = ("OBJECT_DETECTION_URL", "INSTANCE_SEGMENTATION_URL", "SEMANTIC_SEGMENTATION_URL", "SERVERLESS_URL")

_undo: list[Callable[[], None]] = []


def open_client(access: Access) -> Any:
    """A ``roboflow.Roboflow`` for ``access``; the key is checked with one request.

    The client keeps the key in its objects and frames: never log them, nor local variables of its exceptions.

    Raises ConfigurationError for a missing or refused key, TransientError when the API cannot answer now.
    """
    if not any(letter.islower() for letter in access.api_key.reveal()):
        raise ConfigurationError("the Roboflow client needs an API key; what the connection holds is none")
    with _quiet_import(), _captured(access):
        import roboflow

        _install(access)
        client = _opened(roboflow, access)
    return client


def restore() -> None:
    """Give the client's own HTTP functions and refused calls back. For tests."""
    while _undo:
        _undo.pop()()


@sealed
def _opened(roboflow: Any, access: Access) -> Any:
    return roboflow.Roboflow(api_key=access.api_key.reveal())


@contextlib.contextmanager
def _quiet_import() -> Iterator[None]:
    """The client needs HOME, reads ``.env`` files and looks for hosts in the environment: leave no trace of that."""
    before = dict(os.environ)
    os.environ.setdefault("HOME", tempfile.gettempdir())
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _captured(access: Access) -> Iterator[None]:
    """What the client prints goes to the log, without the key."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            yield
    finally:
        for line in filter(None, map(str.strip, text.getvalue().splitlines())):
            log.info("roboflow: %s", redact(line, access.api_key))


def _install(access: Access) -> None:
    """Put our functions into the client's modules; undoes an earlier connection's."""
    import threading

    import roboflow.util.http as http
    from roboflow.adapters import rfapi

    restore()
    _point_urls(access)
    guard = _Guard(access)
    for verb in VERBS:
        _replace(http, verb, guard.function(verb))
    _replace(http, "request", guard.send)
    _replace(http, "Session", guard.session)
    _replace(rfapi, "_upload_sessions", threading.local())  # sessions of uploads before us
    for (module, name), why in REFUSED.items():
        _refuse(module, name, why)
    wire = logging.getLogger("urllib3.connectionpool")  # its debug lines are URLs
    wire.addFilter(guard.filter)
    _undo.append(lambda: wire.removeFilter(guard.filter))


def _point_urls(access: Access) -> None:
    """Bind the connection's addresses in all loaded modules of the client, through its own mechanism."""
    import roboflow.config as config

    wanted = {"API_URL": access.api_url, **dict.fromkeys(INFERENCE_NAMES, access.inference_url)}
    os.environ.update(wanted)
    try:
        config.refresh_region_urls()
    finally:
        for name in wanted:
            del os.environ[name]
    _undo.append(_refreshed)


def _refreshed() -> None:
    import roboflow.config as config

    with _quiet_import():
        config.refresh_region_urls()


def _replace(owner: Any, name: str, value: Any) -> None:
    old = getattr(owner, name)
    setattr(owner, name, value)
    _undo.append(lambda: setattr(owner, name, old))


def _refuse(module: str, name: str, why: str) -> None:
    __import__(module)
    owner: Any = sys.modules[module]
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)

    def refused(*_: Any, **__: Any) -> None:
        raise PermanentError(f"roboflow's {last}() is refused in a task: {why}")

    _replace(owner, last, refused)


class _Guard:
    """Sends the client's requests: bounded in time, to the connection's hosts only, with answers that hold no key."""

    def __init__(self, access: Access) -> None:
        self._access = access
        key = access.api_key.reveal()
        self._forms = {key, quote(key, safe=""), quote_plus(key)}
        self._hosts = {host_name(urlsplit(url).hostname or "") for url in (access.api_url, access.inference_url)}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a log line holds no key."""
        line = record.getMessage()
        return not any(form in line for form in self._forms)

    def function(self, verb: str) -> Callable[..., requests.Response]:
        """The client's ``http.get`` and so on."""

        def send(url: str, **kwargs: Any) -> requests.Response:
            return self.send(verb.upper(), url, **kwargs)

        return send

    def session(self) -> Any:
        """The client's ``http.Session()``."""
        guard = self

        class Guarded:
            """Speaks as ``requests.Session`` does, through the guard."""

            def __getattr__(self, verb: str) -> Any:
                if verb in VERBS:
                    return guard.function(verb)
                raise AttributeError(verb)

        return Guarded()

    def send(self, method: str, url: str, **kwargs: Any) -> requests.Response:
        """One request. Raises FaultError when the network fails, the session's errors when the key check is refused."""
        import requests

        keyed = self._check_key(url, kwargs)
        failure: Exception
        try:
            with requests.Session() as session:
                response = session.request(method, url, **self._settings(session, keyed, kwargs))
        except requests.RequestException as error:
            failure = FaultError(f"the Roboflow API could not be asked ({type(error).__name__})")
        else:
            return self._cleaned(response, is_check=method == "POST" and urlsplit(url).path in ("", "/"))
        raise failure

    def _settings(self, session: requests.Session, keyed: bool, kwargs: dict[str, Any]) -> dict[str, Any]:
        """No environment proxies or ``.netrc``; a request with the key follows no redirect; every wait is bounded."""
        from roboflow.util.http import USER_AGENT

        access = self._access
        session.trust_env = False
        session.verify = access.ca_file or True
        session.proxies = {"http": access.proxy, "https": access.proxy} if access.proxy else {}
        settings = {"timeout": (access.connect_timeout_s, access.timeout_s), **kwargs}
        settings["headers"] = {"User-Agent": USER_AGENT, **(kwargs.get("headers") or {})}
        return {**settings, "allow_redirects": not keyed}

    def _check_key(self, url: str, kwargs: dict[str, Any]) -> bool:
        """Whether the request carries a key. Raises ConfigurationError when it is not for this connection's hosts."""
        parts = urlsplit(url)
        params = kwargs.get("params") or {}
        named = [*parse_qs(parts.query).get("api_key", ()), *([params["api_key"]] if "api_key" in params else ())]
        header = str((kwargs.get("headers") or {}).get("Authorization", ""))
        if not named and not header:
            return False
        foreign = any(key not in self._forms for key in named)
        if foreign or host_name(parts.hostname or "") not in self._hosts:
            raise ConfigurationError(
                "a Roboflow client of another connection was used: one process speaks to one connection at a time; "
                "call get_conn() again"
            )
        return True

    def _cleaned(self, response: requests.Response, *, is_check: bool) -> requests.Response:
        """Take the key out of what the client may quote; let a refused key check say why, instead of asking six times."""
        reply = Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, b"")
        if is_check and response.status_code != 200:
            problem = failure_of(Reply(reply.status, reply.headers, response.content), self._access.api_key)
            if problem is not None:
                raise problem
        response.url = self._without_key(response.url)
        if response.request is not None:
            response.request.url = self._without_key(response.request.url or "")
            response.request.headers.pop("Authorization", None)
        if response.status_code >= 400:
            body = response.content
            for form in self._forms:
                body = body.replace(form.encode(), b"(key)")
            response._content = body
        return response

    def _without_key(self, url: str) -> str:
        for form in self._forms:
            url = url.replace(form, "(key)")
        return url
