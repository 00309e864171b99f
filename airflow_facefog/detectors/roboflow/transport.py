"""The httpx client's floor: each connection passes the gate, each request has one deadline, and nothing is logged.

Leaf: imports httpx; imported only from inside functions.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import httpcore
import httpx

from airflow_facefog import __version__
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.detectors.roboflow.access import Access
from airflow_facefog.detectors.roboflow.guard import Gate, UnresolvedError

KEEP_ALIVE_S = 20.0
"""Below the 60 s and more after which load balancers drop idle connections."""
CHUNK = 65_536
_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy")
_request = threading.local()


@contextlib.contextmanager
def one_request(seconds: float) -> Iterator[None]:
    """Bound everything that this thread does on the network, from the first byte to the last; keep libraries silent.

    httpx and httpcore log URLs (with the key, in query mode) and response headers.
    """
    _request.ends = time.monotonic() + seconds
    _request.quiet = True
    try:
        yield
    finally:
        _request.ends = None
        _request.quiet = False


def make_client(access: Access, gate: Gate) -> httpx.Client:
    """A client that follows no redirect, reads no environment, keeps no cookie and connects through the gate alone.

    Raises PolicyError and ConfigurationError when the gate or the connection's certificate authority is shut.
    """
    gate.check_proxied()
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if _silent not in logger.filters:
            logger.addFilter(_silent)
    timeout = httpx.Timeout(access.timeout_s, connect=access.connect_timeout_s)
    client = httpx.Client(
        transport=_Transport(access, gate), trust_env=False, follow_redirects=False, timeout=timeout,
        headers={"User-Agent": f"airflow-facefog/{__version__}", "Accept-Encoding": "identity"},
    )  # fmt: skip
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return client


def is_untrusted(error: BaseException) -> bool:
    """Whether a connection failed because the server's certificate does not prove its name, or it speaks no TLS."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


class _Transport(httpx.BaseTransport):
    def __init__(self, access: Access, gate: Gate) -> None:
        options: dict[str, Any] = {
            "ssl_context": _tls(access, gate),
            "max_connections": access.concurrency,
            "max_keepalive_connections": access.concurrency,
            "keepalive_expiry": KEEP_ALIVE_S,
            "network_backend": _Backend(gate),
        }
        if access.proxy is None:
            self._pool: httpcore.ConnectionPool = httpcore.ConnectionPool(**options)
        else:
            proxy = httpx.Proxy(access.proxy)
            self._pool = httpcore.HTTPProxy(str(proxy.url), proxy_auth=proxy.raw_auth, **options)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        url = request.url
        answer = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw, content=request.stream, extensions=request.extensions,
            )
        )  # fmt: skip
        stream = _Body(answer)
        return httpx.Response(answer.status, headers=answer.headers, stream=stream, extensions=answer.extensions)

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


class _Backend(httpcore.NetworkBackend):
    """Connects to addresses that the gate allows, and looks at the socket's peer before anything is sent."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:  # fmt: skip
        try:
            addresses = self._gate.addresses(host, port)
        except UnresolvedError as error:
            raise httpcore.ConnectError(str(error)) from None
        failure: Exception = httpcore.ConnectError("no address")
        for address in addresses:
            try:
                stream = self._plain.connect_tcp(address, port, _left(timeout), local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            return self._checked(host, stream)
        raise failure

    def _checked(self, host: str, stream: httpcore.NetworkStream) -> httpcore.NetworkStream:
        try:
            peer = str(stream.get_extra_info("server_addr")[0])
        except OSError:
            stream.close()
            raise httpcore.ConnectError("the connection was closed at once") from None
        try:
            self._gate.check(host, peer)
        except Exception:
            stream.close()
            raise
        return _Stream(stream)


class _Stream(httpcore.NetworkStream):
    """A stream whose every wait ends with the request's deadline, however slowly the other side drips."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = _left(timeout)
        if left <= 0:
            raise httpcore.ReadTimeout("deadline")
        return self._stream.read(max_bytes, left)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        view = memoryview(buffer)
        for start in range(0, len(view), CHUNK):
            left = _left(timeout)
            if left <= 0:
                raise httpcore.WriteTimeout("deadline")
            self._stream.write(bytes(view[start : start + CHUNK]), left)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, max(_left(timeout), 0.001)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Silent(logging.Filter):
    """Drops what libraries say about our own requests; other users of httpx in this process are heard as before."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_request, "quiet", False)


_silent = _Silent()


def _left(timeout: float | None) -> float:
    ends = getattr(_request, "ends", None)
    left = float("inf") if ends is None else ends - time.monotonic()
    return min(left, 3600.0 if timeout is None else timeout)


def _tls(access: Access, gate: Gate) -> ssl.SSLContext | None:
    if gate.plain:
        return None
    if access.ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=access.ca_file)
    except (OSError, ssl.SSLError):
        pass
    raise ConfigurationError("the connection's ca_file is not a readable PEM file of certificates")
