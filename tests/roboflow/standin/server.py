"""The HTTP side: keep-alive, many threads, a record of every request, the script of faults, and the control endpoint."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from email.utils import formatdate
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from standin.control import CONTROL, obey
from standin.exchange import Answer, Recorded, Refused, Request, as_json
from standin.faults import Fault, Line, Scene, play
from standin.routes import route
from standin.world import World


class StandIn:
    """The server and what tests do with it; see the package's docstring. Use it as a context manager."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._settle()
        self._server = _Server((host, port), _Handler)
        self._server.standin = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def _settle(self) -> None:
        self.world = World()
        self.sleep_s: float | None = None
        self.clock_skew_s = 0.0
        self.keep_bodies = False
        self.peak = 0
        self.bugs: list[str] = []
        self._active = 0
        self._count = 0
        self._lines: list[Line] = []
        self._requests: list[Recorded] = []
        self.released = threading.Event()

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``: inference URL and API URL in one, without a slash at the end."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def reset(self) -> None:
        """A fresh world, no script, no records, no fault; ends stalls."""
        self.released.set()
        with self._idle:
            self._idle.wait_for(lambda: self._active == 0, timeout=5)
            self._settle()

    def script(
        self, path: str, fault: str, *, method: str = "*", times: int | None = 1, after: int = 0, **params: Any
    ) -> Line:
        """Let requests to ``path`` (a glob over the whole path) meet ``fault``.

        ``times`` of them do (None: all that follow), ``after`` so many good ones.

        Lines are asked in order and the first that fires counts. ``line.hits`` tells how many requests it has seen.
        """
        line = Line(method, path, Fault(fault, params), times, after)
        with self._lock:
            self._lines.append(line)
        return line

    def requests(self, path: str = "*", method: str = "*") -> list[Recorded]:
        """The requests so far, in order of arrival; the control endpoint's are not among them."""
        with self._lock:
            found = [r for r in self._requests if method in ("*", r.method) and fnmatchcase(r.path, path)]
        return sorted(found, key=lambda r: r.index)

    def begin(self, request: Request) -> Fault | None:
        """Count a request in; the fault that it meets."""
        with self._lock:
            self._count += 1
            request.index = self._count
            self._active += 1
            self.peak = max(self.peak, self._active)
            line = next((one for one in self._lines if one.meets(request) and one.fires()), None)
        return line.fault if line else None

    def keep(self, request: Request) -> None:
        """Record a request, before its answer is sent."""
        with self._lock:
            self._requests.append(request.record(self.keep_bodies))

    def end(self) -> None:
        """Count a request out."""
        with self._lock:
            self._active -= 1
            self._idle.notify_all()

    def answer(self, request: Request, fault: Fault | None) -> Answer:
        """The answer to ``request``, the true one or that of ``fault``. What goes wrong in here is kept in ``bugs``."""
        try:
            return (
                play(fault, Scene(request, lambda: self._truth(request), self.clock_skew_s))
                if fault
                else self._truth(request)
            )
        except Exception as bug:
            self.bugs.append(f"{request.method} {request.path}: {type(bug).__name__}: {bug}")
            return as_json({"error": "the stand-in itself failed"}, 500)

    def _truth(self, request: Request) -> Answer:
        try:
            return route(self.world, request, self.url, self.sleep_s)
        except Refused as refused:
            return refused.answer


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True
    block_on_close = False
    standin: StandIn

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, unquote(path), query, headers, b"", client=str(self.client_address[1]))
        if request.path.startswith(CONTROL):
            self._read(request)
            self._send(obey(self.server.standin, request))
            return
        fault = self.server.standin.begin(request)
        released = self.server.standin.released
        try:
            self._send(self._answer(request, fault), released)
        finally:
            self.server.standin.end()

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = _serve

    def _answer(self, request: Request, fault: Fault | None) -> Answer:
        standin = self.server.standin
        request.fault = fault.kind if fault else None
        if fault and fault.kind == "reset" and fault.params.get("when") == "upload":
            request.body = self.rfile.read(int(request.headers.get("content-length", 0)) // 2)
            standin.keep(request)
            return Answer(reset=True)
        self._read(request)
        answer = standin.answer(request, fault)
        request.status = None if answer.reset else answer.status
        standin.keep(request)
        return answer

    def _read(self, request: Request) -> None:
        if "chunked" in request.headers.get("transfer-encoding", ""):
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            request.body = b"".join(pieces)
        else:
            request.body = self.rfile.read(int(request.headers.get("content-length", 0)))

    def _send(self, answer: Answer, released: threading.Event | None = None) -> None:
        pause = released or threading.Event()
        pause.wait(answer.delay_s) if answer.delay_s else None
        if not answer.reset or answer.body:
            head = self._head(answer)
            half = len(answer.body) // 2 if answer.middle_s else len(answer.body)
            body = b"" if self.command == "HEAD" else answer.body
            with contextlib.suppress(ConnectionError):
                self.connection.sendall(head + body[:half])
                pause.wait(answer.middle_s) if answer.middle_s else None
                self.connection.sendall(body[half:])
                self._pour(answer.flood)
        if answer.reset:
            self._cut()

    def _head(self, answer: Answer) -> bytes:
        clock = time.time() + self.server.standin.clock_skew_s
        headers = {"Date": formatdate(clock, usegmt=True), "Server": "uvicorn", **answer.headers}
        length = len(answer.body) if answer.claimed_length is None else answer.claimed_length
        self.close_connection |= length != len(answer.body) or bool(answer.flood)
        if not answer.flood:
            headers["Content-Length"] = str(length)
        if self.close_connection:
            headers["Connection"] = "close"
        reason = self.responses.get(answer.status, ("Status",))[0]
        lines = [f"HTTP/1.1 {answer.status} {reason}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def _pour(self, n_bytes: int) -> None:
        spaces = b" " * 65536
        while n_bytes > 0:
            self.connection.sendall(spaces[:n_bytes])
            n_bytes -= len(spaces)

    def _cut(self) -> None:
        """End the connection with RST: no lingering, nothing flushed."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        """Nothing is printed: paths hold keys."""
