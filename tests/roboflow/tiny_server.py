"""A throw-away inference server on loopback: answers whatever a function says, and remembers what it was asked."""

from __future__ import annotations

import json
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import cv2
import numpy as np


@dataclass
class Asked:
    """One request: path, parameters, headers (lower-case names), the JPEG in part ``file``."""

    path: str
    raw_path: str
    params: dict
    headers: dict
    body: bytes = field(repr=False)

    @property
    def jpeg(self):
        """The bytes of the only multipart part."""
        boundary = self.headers["content-type"].partition("boundary=")[2].encode()
        head, _, rest = self.body.partition(b"\r\n\r\n")
        assert b'name="file"' in head
        return rest.rpartition(b"\r\n--" + boundary)[0]

    @property
    def picture(self):
        """What the JPEG shows, (h, w, 3) BGR."""
        return cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR)


@dataclass
class Answer:
    """What to send back. ``body``: bytes, or anything for JSON. ``cut``: close after so many bytes of the body."""

    body: object = field(default=b"", repr=False)
    status: int = 200
    headers: dict = field(default_factory=dict, repr=False)
    cut: int | None = None


def predictions(asked, found=(), **more):
    """A whole answer of the inference server for the picture that was sent; ``found``: dicts of predictions."""
    height, width = asked.picture.shape[:2]
    return {"time": 0.1, "image": {"width": width, "height": height}, "predictions": list(found), **more}


def box(x=20, y=20, width=10, height=12, confidence=0.9, **more):
    """One prediction as the server writes it: centre and size."""
    return {"x": x, "y": y, "width": width, "height": height, "confidence": confidence, "class": "face", "class_id": 0,
            "detection_id": "d", **more}  # fmt: skip


class TinyServer:
    """``server.url``, ``server.asked``; ``reply(asked)`` returns an Answer or plain JSON.

    ``keep``: remember requests. ``tls``: files of certificate and key.
    """

    def __init__(self, reply, keep=True, tls=None):
        self.reply = reply
        self.asked = []
        self.running = self.most_running = self.count = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                outer._serve(self, keep)

            do_GET = do_POST

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_):
                pass  # clients that hang up are part of the tests

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_port}"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            listener = self._server.socket
            self._server.socket = context.wrap_socket(listener, server_side=True, do_handshake_on_connect=False)

    def _serve(self, handler, keep):
        with self._lock:
            self.count += 1
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            parts = urlsplit(handler.path)
            body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in handler.headers.items()}
            asked = Asked(parts.path, handler.path, dict(parse_qsl(parts.query)), headers, body)
            if keep:
                self.asked.append(asked)
            answer = self.reply(asked)
        finally:
            with self._lock:
                self.running -= 1
        self._send(handler, answer if isinstance(answer, Answer) else Answer(answer))

    def _send(self, handler, answer):
        data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        handler.send_response(answer.status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **answer.headers,
        }.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data[: answer.cut])
        if answer.cut is not None:
            handler.close_connection = True

    @contextmanager
    def run(self):
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()


def sleeper(seconds):
    """Answers nothing but the size, after ``seconds``, without looking at the picture; for counting and timing."""

    def reply(asked):
        time.sleep(seconds)
        return {"image": {"width": 400, "height": 250}, "predictions": []}

    return reply
