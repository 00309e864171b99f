"""A loopback S3 (moto) that counts its requests and can forbid deletes, as a bucket policy does."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

SECRET = "testing-secret-of-the-store"
DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>explicit deny</Message></Error>"


class S3:
    """A running server. ``counts``: requests by kind since ``reset``; ``forbid_deletes``: answer these with 403."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.forbid_deletes = False
        self.url = ""
        self._client: Any = None

    @property
    def environment(self) -> dict[str, str]:
        """What a command line finds in its environment."""
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
        return dict(zip(names, ("testing", SECRET, self.url, "us-east-1"), strict=True))

    def client(self) -> Any:
        """A boto3 client; one, because making it takes longer than most requests."""
        if self._client is None:
            self._client = self._make_client()
        return self._client

    def _make_client(self) -> Any:
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key=SECRET
        )  # fmt: skip

    def connection(self) -> dict[str, Any]:
        """An Airflow connection to it."""
        extra = {"region_name": "us-east-1", "endpoint_url": self.url}
        return {"conn_type": "aws", "login": "testing", "password": SECRET, "extra": extra}

    def reset(self) -> Counter[str]:
        """Requests since the last reset."""
        with self._lock:
            found, self.counts = self.counts, Counter()
        return found

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """WSGI: count, refuse, pass on."""
        kind = _kind(environ["REQUEST_METHOD"], environ.get("QUERY_STRING", ""))
        with self._lock:
            self.counts[kind] += 1
        if kind == "DELETE" and self.forbid_deletes:
            start("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(DENIED)))])
            return [DENIED]
        return self._app(environ, start)


def _kind(method: str, query: str) -> str:
    if method == "POST" and query.startswith("delete"):
        return "DELETE"
    return "LIST" if method == "GET" and ("list-type" in query or "prefix=" in query) else method


@contextmanager
def serve() -> Iterator[S3]:
    """A server for the time of the block, on a free port of the loopback interface. Its buckets go with it: moto keeps them
    for the whole process.
    """
    from urllib.request import Request, urlopen

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    found = S3(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, found, threaded=True, request_handler=MotoRequestHandler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        urlopen(Request(f"{found.url}/moto-api/reset", method="POST")).close()
        server.shutdown()
        thread.join()
