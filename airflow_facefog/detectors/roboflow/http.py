"""One client per server: retries, the shared pace, deadlines and size limits; errors that quote no key and no URL."""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_facefog.core.errors import ConfigurationError, FogError, TransientError
from airflow_facefog.core.raw import sealed
from airflow_facefog.detectors.roboflow.access import Access, host_name
from airflow_facefog.detectors.roboflow.faults import FaultError, Reply, TooLargeError, failure_of, read_json
from airflow_facefog.detectors.roboflow.guard import Gate
from airflow_facefog.detectors.roboflow.pace import pace_of

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

__all__ = ["Session", "TooLargeError"]

TRIES = 5
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 20.0
PATIENCE_S = 60.0
"""A server that wants more time than this is left to Airflow's own retry: the worker's slot is free meanwhile."""
BUDGET_S = 240.0
"""All tries of all calls for one picture end within this, below the 300 s after which a child process counts as hung."""
MAX_ANSWER = 16_000_000
MIN_BILLED_S = 0.1
CREDIT_S = 500.0
"""Roboflow's price list: max(x-processing-time, 0.1 s) / 500 s credits per call."""


class Session:
    """Requests to one server. Thread-safe; a forked child opens its own connections. Prints nothing of what it holds."""

    def __init__(self, access: Access, base_url: str, gate: Gate) -> None:
        parts = urlsplit(base_url)
        self._access = access
        self._base_url = base_url
        self._gate = gate
        self._host = host_name(parts.hostname or "")
        self._netloc = parts.netloc
        self._slots = threading.BoundedSemaphore(access.concurrency)
        self._lock = threading.Lock()
        self._client: tuple[int, httpx.Client] | None = None
        self._sent = {"calls": 0, "bytes": 0, "credits": 0.0}

    def __repr__(self) -> str:
        return f"Session({self._host})"

    def post_picture(self, path: str, params: Mapping[str, str], jpeg: bytes, ends: float) -> Any:
        """Send one picture as multipart part ``file``; return the JSON answer. Raises as ``call`` does."""
        return self.call("POST", path, params=params, files={"file": ("image.jpg", jpeg, "image/jpeg")}, ends=ends)

    @sealed
    def call(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, json_body: Any = None,
        files: Any = None, ends: float | None = None,
    ) -> Any:  # fmt: skip
        """Return the JSON of a 2xx answer to a request that may safely be sent twice.

        ``ends``: on the monotonic clock, when the caller's time is over; see ``deadline``.
        Raises TransientError (``retry_after_s`` says when) after bounded tries, PermanentError for everything that a
        retry repeats (TooLargeError for 413), ImageError for an answer longer than ``MAX_ANSWER`` bytes.
        """
        import tenacity

        ends = min(deadline() if ends is None else ends, time.monotonic() + TRIES * self._access.timeout_s)
        _check_time(ends)
        request = {"method": method, "url": self._base_url + path, "params": dict(params or {})}
        request |= {"json": json_body} if json_body is not None else {}
        request |= {"files": files} if files is not None else {}
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(FaultError), wait=_wait, stop=_stop_at(ends), sleep=time.sleep,
            reraise=True,
        )  # fmt: skip
        failure: FogError
        try:
            return retrying(self._try, request, ends)
        except FaultError as fault:
            again = f"{fault}; asked several times, it may pass later"
            failure = TransientError(again, retry_after_s=fault.retry_after_s)
        raise failure

    def egress(self) -> dict[str, dict[str, float]]:
        """``{host: {"calls", "bytes", "credits"}}`` of all requests that were sent, failed ones too."""
        with self._lock:
            return {self._host: dict(self._sent)} if self._sent["calls"] else {}

    def close(self) -> None:
        """Close all connections; the next request opens new ones."""
        with self._lock:
            held, self._client = self._client, None
        if held is not None and held[0] == os.getpid():
            held[1].close()

    def _try(self, request: Mapping[str, Any], ends: float) -> Any:
        """One attempt within the shared pace; tells the pace how it went."""
        pace = pace_of(self._netloc)
        if not self._slots.acquire(timeout=max(ends - time.monotonic(), 0)):
            raise TransientError("the Roboflow server is too slow for the pictures that wait; try again later")
        try:
            patience = min(max(ends - time.monotonic(), 0), PATIENCE_S)
            pace.wait_turn(self._access.rate_per_s, self._access.concurrency, patience)
            answer = self._exchange(request, ends)
        except FaultError as fault:
            if fault.throttled:
                pace.pause(fault.retry_after_s or FIRST_WAIT_S)
            else:
                pace.failed()
            raise
        finally:
            self._slots.release()
        pace.succeeded()
        return answer

    def _exchange(self, request: Mapping[str, Any], ends: float) -> Any:
        from airflow_facefog.detectors.roboflow.transport import one_request

        client = self._open()
        failure: Exception
        with one_request(min(self._access.timeout_s, max(ends - time.monotonic(), 0.001))):
            try:
                reply = self._send(client, request)
            except Exception as error:  # told apart below, outside: its context holds URL and headers
                failure = error
            else:
                problem = failure_of(reply, self._access.api_key)
                if problem is None:
                    return read_json(reply)
                raise problem
        raise self._explain(failure)

    def _send(self, client: httpx.Client, request: Mapping[str, Any]) -> Reply:
        """Send one request and read its answer whole, up to ``MAX_ANSWER`` bytes."""
        key = self._access.api_key.reveal()
        headers = {"Authorization": f"Bearer {key}"} if key and self._access.auth == "header" else {}
        params = {**request["params"], **({"api_key": key} if key and self._access.auth == "query" else {})}
        built = client.build_request(**{**request, "params": params, "headers": headers})
        size = int(built.headers.get("content-length", "0"))
        left = False
        try:
            response = client.send(built, stream=True)
            left = True
            try:
                parts, length = [], 0
                for part in response.iter_raw(65_536):
                    parts.append(part)
                    length += len(part)
                    if length > MAX_ANSWER:
                        break
                names = {name.lower(): value for name, value in response.headers.items()}
                body = b"".join(parts)[:MAX_ANSWER]
                return Reply(response.status_code, names, body, cut=length > MAX_ANSWER)
            finally:
                response.close()
                self._count(size, response.headers)
        except Exception as error:
            if not left and _was_connected(error):
                self._count(size, {})
            raise

    def _count(self, size: int, headers: Mapping[str, str]) -> None:
        with self._lock:
            self._sent["calls"] += 1
            self._sent["bytes"] += size
            self._sent["credits"] += billed(headers)

    def _open(self) -> httpx.Client:
        from airflow_facefog.detectors.roboflow.transport import make_client

        with self._lock:
            if self._client is None or self._client[0] != os.getpid():
                self._client = (os.getpid(), make_client(self._access, self._gate))
            return self._client[1]

    def _explain(self, error: Exception) -> Exception:
        """A failure of the network in our words. Errors that are ours, and bugs, come back as they are."""
        import httpcore

        from airflow_facefog.detectors.roboflow.transport import is_untrusted

        if is_untrusted(error):
            return ConfigurationError(
                f"the certificate of Roboflow server {self._host} is not trusted, or it speaks no TLS; give its right URL, "
                "or the connection's ca_file for a private authority"
            )
        if isinstance(error, httpcore.ProxyError) and str(error)[:1] != "5":
            return ConfigurationError("the proxy that the connection names refused; check its address and password")
        if isinstance(error, httpcore.TimeoutException):
            return FaultError(f"the Roboflow server {self._host} did not answer in time ({type(error).__name__})")
        if isinstance(error, (httpcore.NetworkError, httpcore.RemoteProtocolError, httpcore.ProxyError)):
            return FaultError(f"the connection to Roboflow server {self._host} failed ({type(error).__name__})")
        return error


def deadline() -> float:
    """When work that starts now must end, on the monotonic clock."""
    return time.monotonic() + BUDGET_S


def _check_time(ends: float) -> None:
    """Send nothing that could not be waited for: the breaker must not count it as the server's failure."""
    if time.monotonic() >= ends:
        raise TransientError(
            f"the Roboflow server is too slow: the requests for one picture take more than {BUDGET_S:g} s; "
            "try again later, lower max_side or split long pictures"
        )


def billed(headers: Mapping[str, str]) -> float:
    """Credits of one call from its ``x-processing-time`` (seconds); 0 when the server sends none, as self-hosted ones."""
    try:
        seconds = float(headers.get("x-processing-time", ""))
    except ValueError:
        return 0.0
    return max(seconds, MIN_BILLED_S) / CREDIT_S if 0 <= seconds < math.inf else 0.0


def _was_connected(error: Exception) -> bool:
    """Whether pixels may have left before the failure."""
    import httpcore

    before = (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout, httpcore.ProxyError, FogError)
    return not isinstance(error, before)


def _wait(state: RetryCallState) -> float:
    """Seconds until the next try: what the server asked for, else full jitter below 1, 2, 4, … 20 s."""
    fault = state.outcome.exception() if state.outcome else None
    asked = fault.retry_after_s if isinstance(fault, FaultError) else None
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (state.attempt_number - 1))
    jitter = random.uniform(0, longest)  # noqa: S311 - spreads threads, keeps no secret
    return jitter if asked is None else asked + min(jitter, 1.0)


def _stop_at(ends: float) -> Callable[[RetryCallState], bool]:
    def stop(state: RetryCallState) -> bool:
        """After the last try, or when the server wants more time than there is."""
        wait = state.upcoming_sleep
        return state.attempt_number >= TRIES or wait > PATIENCE_S or time.monotonic() + wait >= ends

    return stop
