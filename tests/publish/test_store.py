"""What every store promises, on local files, memory and S3 (a real conditional PUT against moto on loopback)."""

from __future__ import annotations

import errno
import os
import stat
import threading
import uuid

import pytest
from upath import UPath

from airflow_facefog.core.errors import ConfigurationError, StoreError
from airflow_facefog.publish import local_files
from airflow_facefog.publish.store import Store

BACKENDS = ["local", "memory", "s3"]


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory):
    """A moto server for the session and the credentials that it accepts."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {"key": "testing", "secret": "testing", "client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
    server.stop()


@pytest.fixture(params=BACKENDS)
def store(request, tmp_path):
    """A fresh empty store of each kind."""
    name = uuid.uuid4().hex
    if request.param == "local":
        return Store(UPath(tmp_path / "zone"))
    if request.param == "memory":
        return Store(UPath(f"memory://{name}/zone"))
    root = UPath(f"s3://b{name[:20]}/zone", **request.getfixturevalue("s3_endpoint"))
    root.fs.mkdir(f"b{name[:20]}")
    return Store(root)


def test_create_is_exclusive(store):
    """The second writer of a key is told so and changes nothing."""
    assert store.exclusive is True
    assert store.create("a/b/c.bin", b"first") is True
    assert store.create("a/b/c.bin", b"second") is False
    assert store.read("a/b/c.bin") == b"first"
    assert store.list() == ["a/b/c.bin"]


def test_missing_objects(store):
    """Nothing is not an error for get, exists, list and delete; it is one for read and size."""
    assert store.get("x/y") is None
    assert store.exists("x/y") is False
    assert store.list("x") == []
    assert store.delete("x/y") is False
    for call in (store.read, store.size):
        with pytest.raises(FileNotFoundError):
            call("x/y")


def test_answers_are_never_cached(store):
    """A listing, a look-up and a size see what another client wrote a moment ago."""
    other = Store(store.root)
    assert (store.list("p"), store.exists("p/1")) == ([], False)
    other.create("p/1", b"1")
    assert (store.list("p"), store.exists("p/1"), store.size("p/1")) == (["p/1"], True, 1)
    other.create("p/0", b"22")
    other.replace("p/1", b"333")
    assert (store.list("p"), store.size("p/1"), store.read("p/1")) == (["p/0", "p/1"], 3, b"333")
    other.delete("p/1")
    assert (store.list("p"), store.exists("p/1"), store.get("p/1")) == (["p/0"], False, None)


def test_list_takes_whole_segments(store):
    """A prefix is a folder: ``run1`` does not list ``run10``; a key itself is no folder."""
    for key in ("run1/a", "run10/b", "run1/z/c"):
        store.create(key, b"")
    assert store.list("run1") == store.list("run1/") == ["run1/a", "run1/z/c"]
    assert store.list("run1/a") == []
    assert not store.exists("run1")


def test_create_many(store):
    """Every object of a call lands, and the ones that existed are reported and untouched."""
    store.create("d/3", b"old")
    items = [(f"d/{n}", b"%d" % n) for n in range(20)]
    assert store.create_many(items) == [n != 3 for n in range(20)]
    assert [store.read(key) for key, _ in items] == [b"old" if n == 3 else b"%d" % n for n in range(20)]
    assert store.create_many([]) == []


def test_one_winner_of_many_threads(store):
    """Of eight writers racing for one key exactly one is told that it won, and its bytes are there."""
    start, won = threading.Barrier(8), []

    def race(number: int) -> None:
        start.wait()
        if store.create("race", b"%d" % number * 1000):
            won.append(number)

    threads = [threading.Thread(target=race, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("race") == b"%d" % won[0] * 1000


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/abs",
        "a//b",
        "../x",
        "a/../b",
        "a/./b",
        "a/",
        "a\\b",
        "a\0b",
        "a\nb",
        "x" * 256,
        "ab/" * 400 + "c",
        "\ud800",
    ],
)
def test_unsafe_keys_are_refused(store, key):
    """No key can leave the root or mean different things to different backends, and the message does not quote it."""
    for call in (lambda: store.create(key, b""), lambda: store.get(key), lambda: store.delete(key)):
        with pytest.raises(ConfigurationError) as caught:
            call()
        assert len(str(caught.value)) < 220


def test_odd_but_legal_names_survive(store):
    """Percent signs, blanks, brackets and accents are bytes of a name, not syntax."""
    keys = sorted(["d/a%20b.png", "d/a b", "d/[x]*?.png", "d/é#1.png", "d/e\u0301#1.png"])
    for key in keys:
        assert store.create(key, key.encode())
    assert store.list("d") == keys
    assert [store.read(key).decode() for key in keys] == keys


def test_uri_is_readable_by_fsspec_and_names_no_user(store):
    """What consumers get opens with the same file system and holds no connection id."""
    store.create("d/a%20b.png", b"x")
    uri = store.uri("d/a%20b.png")
    assert store.root.fs.cat_file(uri) == b"x"
    assert uri.endswith("/zone/d/a%20b.png")
    assert store.uri() == uri.removesuffix("/d/a%20b.png")


def test_uri_drops_userinfo(s3_endpoint):
    """A connection id in the root never reaches a manifest."""
    assert Store(UPath("s3://my_conn@bucket/in", **s3_endpoint)).uri("k") == "s3://bucket/in/k"


def test_no_half_written_file_after_a_full_disk(tmp_path, monkeypatch):
    """ENOSPC in the middle of a write: a transient error, no object, no residue, and the retry succeeds."""
    store = Store(UPath(tmp_path / "zone"))
    real, calls = os.write, []

    def full(descriptor: int, data: memoryview) -> int:
        calls.append(len(data))
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", "/secret/anna.png")
        return real(descriptor, data[:10])

    monkeypatch.setattr(local_files.os, "write", full)
    with pytest.raises(StoreError, match="no space left") as caught:
        store.create("data/anna.png", b"x" * 100)
    assert "anna" not in str(caught.value)
    assert caught.value.__cause__ is None
    monkeypatch.setattr(local_files.os, "write", real)
    assert [p for p in (tmp_path / "zone").rglob("*") if p.is_file()] == []
    assert store.create("data/anna.png", b"x" * 100) is True


@pytest.mark.parametrize(
    ("code", "expected", "says"),
    [
        (errno.EACCES, ConfigurationError, "not writable"),
        (errno.EROFS, ConfigurationError, "not writable"),
        (errno.EIO, StoreError, "EIO"),
        (errno.ENOTSUP, ConfigurationError, "no hard links"),
        (errno.EPERM, ConfigurationError, "no hard links"),
        (errno.EDQUOT, StoreError, "no space left"),
    ],
)
def test_faults_at_the_moment_of_publishing(tmp_path, monkeypatch, code, expected, says):
    """Whatever fails at the link step, nothing becomes visible and the temporary file is gone."""
    store = Store(UPath(tmp_path / "zone"))

    def broken(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(local_files.os, "link", broken)
    with pytest.raises(expected, match=says):
        store.create("a/b", b"x")
    assert [p for p in (tmp_path / "zone").rglob("*") if p.is_file()] == []


def test_a_file_where_the_folder_should_be(tmp_path):
    """A root that is a file is a mistake a person must correct, not a fault to retry."""
    (tmp_path / "zone").write_bytes(b"")
    store = Store(UPath(tmp_path / "zone"))
    with pytest.raises(ConfigurationError, match="is a file"):
        store.create("a/b", b"x")
    assert store.list() == []


def test_files_keep_strangers_out(tmp_path):
    """Files are not readable by others; the umask may take more away."""
    store = Store(UPath(tmp_path))
    old = os.umask(0o077)
    try:
        store.create("strict", b"")
        os.umask(0)
        store.create("open", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "strict").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o640


def test_unfinished_files_are_not_listed(tmp_path):
    """What a killed writer left behind is neither listed nor in anybody's way."""
    store = Store(UPath(tmp_path))
    store.create("d/a", b"1")
    (tmp_path / "d" / f"{local_files.TEMP_PREFIX}dead{local_files.TEMP_SUFFIX}").write_bytes(b"half")
    assert store.list() == ["d/a"]
    assert store.create("d/b", b"2")


def test_a_bucket_that_is_not_there(s3_endpoint):
    """A missing bucket is a configuration error, told without its URL."""
    store = Store(UPath("s3://nosuchbucketatall/zone", **s3_endpoint))
    with pytest.raises(ConfigurationError, match="missing"):
        store.create("a", b"x")


def test_s3_conflict_is_tried_again(s3_endpoint, monkeypatch):
    """409 (two conditional writes at once) is no verdict: the write is repeated."""
    root = UPath("s3://conflicts/zone", **s3_endpoint)
    root.fs.mkdir("conflicts")
    store = Store(root)
    assert store.exclusive
    real, calls = store._fs.pipe_file, []

    class Conflict(Exception):
        response = {"Error": {"Code": "ConditionalRequestConflict"}}  # noqa: RUF012

    def flaky(path: str, data: bytes, **kwargs: object) -> None:
        calls.append(kwargs)
        if len(calls) < 3:
            raise Conflict
        real(path, data, **kwargs)

    monkeypatch.setattr(store._fs, "pipe_file", flaky)
    assert store.create("k", b"x") is True
    assert calls == [{"mode": "create"}] * 3


def test_a_store_without_exclusive_create_is_found_out(s3_endpoint, monkeypatch):
    """A backend that accepts the second write is reported as not exclusive and still not overwritten knowingly."""
    root = UPath("s3://careless/zone", **s3_endpoint)
    root.fs.mkdir("careless")
    store = Store(root)
    real = store._fs.pipe_file
    monkeypatch.setattr(store._fs, "pipe_file", lambda path, data, **_: real(path, data))
    assert store.exclusive is False
    assert (store.create("k", b"1"), store.create("k", b"2"), store.read("k")) == (True, False, b"1")
    assert store.list() == ["k"]


@pytest.mark.parametrize("uri", ["simplecache::memory://x/y", "http://127.0.0.1:1/x"])
def test_leaky_places_are_refused(uri):
    """A cache would leave copies on the local disk, and http cannot be written: both are refused at once."""
    with pytest.raises((ConfigurationError, ValueError)):
        Store(UPath(uri))


def test_no_call_that_lineage_would_see(store, monkeypatch):
    """Airflow reports ``open``, ``copy`` and ``move`` of its paths as lineage, raw URIs included: the store calls none."""

    def reported(self: UPath, *_: object, **__: object) -> None:
        raise AssertionError("this call would be reported to lineage")

    for kind in type(store.root).__mro__:
        for name in ("open", "copy", "move", "rename", "copy_into", "move_into"):
            if name in vars(kind):
                monkeypatch.setattr(kind, name, reported)
    assert store.create("a/1", b"1")
    assert store.create_many([("a/2", b"2"), ("a/1", b"x")]) == [True, False]
    store.replace("a/2", b"3")
    assert (store.read("a/2"), store.list(), store.size("a/1"), store.delete("a/1")) == (b"3", ["a/1", "a/2"], 1, True)
