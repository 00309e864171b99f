"""Stores that are full, read-only, down or remote: the task fails, nothing unrecorded is visible, a retry finishes."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faultkit import check_invariants, objects, shown
from jobkit import KEYS, World, attempt, run
from upath import UPath

from airflow_facefog.core.errors import ConfigurationError, GateError, StoreError
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.model import Place
from airflow_facefog.job.plan import make_plan
from airflow_facefog.publish import local_files


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Four photos."""
    made = World(tmp_path)
    made.photos(4)
    return made


def fails_at(monkeypatch: pytest.MonkeyPatch, part: str, code: int, *, after: int = 0) -> None:
    """Let writing fail with an errno for paths that hold ``part``, after ``after`` good ones; files stay half-written."""
    write, opened, good = local_files._write_all, local_files._write_temporary, itertools.count(1)
    here = threading.local()

    def temporary(path: str, data: bytes) -> str:
        here.fails = part in path and next(good) > after
        return opened(path, data)

    def write_some(descriptor: int, data: bytes) -> None:
        write(descriptor, data[: len(data) // 2] if here.fails else data)
        if here.fails:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(local_files, "_write_temporary", temporary)
    monkeypatch.setattr(local_files, "_write_all", write_some)


FAULTS = [
    pytest.param(errno.ENOSPC, StoreError, "no space left", id="full"),
    pytest.param(errno.EROFS, ConfigurationError, "not writable", id="read_only"),
    pytest.param(errno.EACCES, ConfigurationError, "not writable", id="forbidden"),
    pytest.param(errno.EIO, StoreError, "EIO", id="broken"),
]
POINTS = [
    pytest.param("/intents/", 1, 0, id="audit_down_at_the_intent"),
    pytest.param("/clean/data/", 0, 0, id="destination_down_at_the_first_object"),
    pytest.param("/clean/data/", 2, 2, id="destination_down_mid_batch"),
    pytest.param("/commits/", 0, 4, id="audit_down_at_the_commit"),
]


CASES = [pytest.param(*fault.values, *POINTS[2].values, id=f"{fault.id}_mid_batch") for fault in FAULTS]
CASES += [pytest.param(*FAULTS[0].values, *point.values, id=point.id) for point in POINTS if point is not POINTS[2]]


@pytest.mark.parametrize(("code", "error", "words", "part", "after", "visible"), CASES)
def test_a_store_that_fails_fails_the_task_and_a_retry_finishes(
    world: World, code: int, error: type[Exception], words: str, part: str, after: int, visible: int
) -> None:
    """StoreError when a retry may help, ConfigurationError when a person must act; never an object without intent."""
    (ref,) = make_plan(world.request(), KEYS)
    with pytest.MonkeyPatch.context() as patch:
        fails_at(patch, part, code, after=after)
        with pytest.raises(error, match=words):
            run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)
    check_invariants(world)
    assert len(objects(world)) <= visible
    assert not list(world.root.rglob("*.tmp")), "half-written files stay behind"
    with pytest.raises(GateError, match="no commit"):
        finalise(ref["plan"], attempt=attempt(), keys=KEYS)
    assert shown(world) == {}
    run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
    assert finalise(ref["plan"], attempt=attempt(), keys=KEYS)["counts"]["published"] == 4
    check_invariants(world)


@pytest.mark.parametrize("part", ["/runs/", "/snapshots/", "delta-", "committed.json", "latest.json"])
def test_a_store_that_fails_in_finalise_shows_nothing_half(world: World, part: str) -> None:
    """Consumers see no snapshot or a whole one; finalising again moves on from there."""
    (ref,) = make_plan(world.request(), KEYS)
    run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
    with pytest.MonkeyPatch.context() as patch:
        fails_at(patch, part, errno.ENOSPC)
        with pytest.raises(StoreError, match="no space left"):
            finalise(ref["plan"], attempt=attempt(), keys=KEYS)
    assert len(shown(world)) in (0, 4)
    check_invariants(world)
    result = finalise(ref["plan"], attempt=attempt(), keys=KEYS)
    assert (result["snapshot_seq"], len(shown(world))) == (1, 4)


def test_a_failed_gate_is_a_failed_run_in_sql(world: World) -> None:
    """The SQL row says failed and how many were listed; the finished run replaces it."""
    import sqlite3
    from contextlib import closing

    from airflow_facefog.audit.sql import SqlSink

    refs = make_plan(world.request(batch_images=2), KEYS)
    sink = SqlSink(f"sqlite:///{world.root}/facefog.db")
    read = "select status, listed, published from facefog_run"
    with closing(sqlite3.connect(world.root / "facefog.db")) as connection:
        run_batch(refs[0]["plan"], refs[0]["batch"], attempt=attempt(), keys=KEYS)
        with pytest.raises(GateError):
            finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS, sql=sink)
        assert connection.execute(read).fetchall() == [("failed", 4, 0)]
        run_batch(refs[1]["plan"], refs[1]["batch"], attempt=attempt(), keys=KEYS)
        finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS, sql=sink)
        assert connection.execute(read).fetchall() == [("final", 4, 4)]
    sink.close()


# ------------------------------------------------------------------ remote stores


class Remote:
    """Source, destination and audit below one remote root."""

    def __init__(self, root: str, options: dict[str, Any]) -> None:
        self.root = root
        self.options = options

    def open(self, uri: str, _conn_id: str | None = None) -> UPath:
        """What Airflow's connections do for a plan: open a URI with explicit client settings."""
        return UPath(uri, **self.options)

    def request(self, world: World, run_id: str = "run-1", **changes: Any) -> Any:
        """A plan request over the remote root."""
        places = {name: Place.parse(f"{self.root}/{name}") for name in ("raw", "clean", "audit")}
        return world.request(
            run_id, source=places["raw"], destination=places["clean"], audit=places["audit"], **changes
        )

    def run(self, request: Any, between: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Plan, ``between``, all batches, finalise."""
        refs = make_plan(request, KEYS, self.open)
        between()
        for ref in refs:
            run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, open_root=self.open)
        return finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS, open_root=self.open)

    def put(self, world: World) -> None:
        """Upload the raw folder."""
        for path in world.raw.iterdir():
            self.open(f"{self.root}/raw/{path.name}").write_bytes(path.read_bytes())

    def objects(self) -> dict[str, bytes]:
        """Every published object."""
        base = self.open(f"{self.root}/clean/data")
        base.fs.invalidate_cache()
        return {name.rpartition("/")[2]: base.fs.cat_file(name) for name in base.fs.find(base.path)}

    def image_rows(self, result: dict[str, Any]) -> list[dict[str, Any]]:
        """Image rows of a sealed run."""
        from airflow_facefog.audit.parquet import from_parquet

        uri = result["manifest_uri"].rpartition("/")[0]
        return from_parquet("facefog_image", self.open(f"{uri}/image.parquet").read_bytes())


@pytest.fixture(scope="module")
def s3_options() -> Iterator[dict[str, Any]]:
    """A moto server on loopback and the client settings for it."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "key": "testing", "secret": "testing-secret-of-the-store",
        "client_kwargs": {"endpoint_url": f"http://{host}:{port}"},
    }  # fmt: skip
    server.stop()


@pytest.fixture(params=["memory", "s3"])
def remote(request: pytest.FixtureRequest) -> Remote:
    """An empty remote root of each kind."""
    name = f"b{uuid.uuid4().hex[:16]}"
    if request.param == "memory":
        return Remote(f"memory://{name}", {})
    made = Remote(f"s3://{name}", request.getfixturevalue("s3_options"))
    made.open(made.root).fs.mkdir(name)
    return made


def test_a_remote_run_writes_the_same_bytes_as_a_local_one(world: World, remote: Remote) -> None:
    """Same input, same objects under the same keys; a second run skips all of it."""
    run(world.request())
    remote.put(world)
    result = remote.run(remote.request(world))
    assert result["counts"]["published"] == 4
    assert remote.objects() == world.published()
    assert {row["output_sha256"] for row in remote.image_rows(result)} == set(objects(world).values())
    again = remote.run(remote.request(world, "run-2"))
    assert (again["counts"]["skipped"], again["changed"]) == (4, False)


def test_remote_objects_that_changed_or_went_since_the_listing_fail(world: World, remote: Remote) -> None:
    """Gone, changed in size, changed at equal size: failed with their reason; the rest is published."""
    world.photos(8)
    remote.put(world)
    raw = remote.open(f"{remote.root}/raw")

    def change() -> None:
        raw.fs.rm_file(f"{raw.path}/photo_000.jpg")
        (raw / "photo_001.jpg").write_bytes(b"shorter")
        (raw / "photo_002.jpg").write_bytes((raw / "photo_002.jpg").read_bytes()[:-1] + b"x")

    from airflow_facefog.core.policy import load_policy

    request = remote.request(world, policy=load_policy({"max_quarantined": 0.9}))
    result = remote.run(request, change)
    failed = sorted(row["reason"] for row in remote.image_rows(result) if row["status"] == "failed")
    assert failed == ["source_changed", "source_changed", "source_missing"]
    assert result["counts"]["published"] == 5


def test_s3_writes_are_conditional_and_say_nothing_raw(
    world: World, s3_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every write but the cache latest.json carries If-None-Match; at DEBUG level no log record holds raw bytes."""
    import s3fs

    puts: dict[str, Any] = {}
    call = s3fs.S3FileSystem._call_s3

    async def recorded(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if "put_object" in method or "complete_multipart" in method:
            puts[kwargs["Key"]] = kwargs.get("IfNoneMatch")
        return await call(self, method, *args, **kwargs)

    name = f"b{uuid.uuid4().hex[:16]}"
    remote = Remote(f"s3://{name}", s3_options)
    remote.open(remote.root).fs.mkdir(name)
    remote.put(world)
    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", recorded)
    caplog.set_level(logging.DEBUG)
    remote.run(remote.request(world))
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert {key.rpartition("/")[2] for key, value in puts.items() if value != "*"} == {"latest.json"}
    assert sum(key.startswith("clean/data/") for key in puts) == 4
    for path in world.raw.iterdir():
        data = path.read_bytes()
        scan = data[data.index(b"\xff\xda") + 14 :]
        assert not any(repr(scan[i : i + 12])[2:-1] in logged for i in range(0, len(scan) - 12, 40))
    assert s3_options["secret"] not in logged
