"""The pieces of a proof: look-ups, likeness, gaps, the page."""

from __future__ import annotations

import errno
import hashlib
import html.parser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from provekit import pictures
from upath import UPath

from airflow_facefog.core.codec.orient import upright
from airflow_facefog.core.errors import ConfigurationError, StoreError
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.verify.tiles import luma
from airflow_facefog.publish.prove import likeness, page, records, walk
from airflow_facefog.publish.prove.index import DigestIndex, KeyIndex, from_bytes
from airflow_facefog.publish.prove.model import Class, State
from airflow_facefog.publish.store import Store


def digest(number: int) -> bytes:
    """A hash; numbers that are equal modulo 8 share their first 8 bytes."""
    return hashlib.sha256(bytes([number % 8])).digest()[:8] + hashlib.sha256(bytes([number])).digest()[8:]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=60), st.lists(st.integers(0, 60), min_size=1, max_size=20))
def test_the_hash_index_finds_what_a_list_finds(there: list[int], wanted: list[int]) -> None:
    """Also among hashes that begin alike, and with rows of equal hashes: the first one."""
    index = DigestIndex(from_bytes(b"".join(map(digest, there))))
    rows = index.find(from_bytes(b"".join(map(digest, wanted))))
    assert rows.tolist() == [there.index(n) if n in there else -1 for n in wanted]
    assert index.find_all(from_bytes(digest(wanted[0]))[0]) == [i for i, n in enumerate(there) if n == wanted[0]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=3), max_size=30), st.text(max_size=3))
def test_the_key_index_finds_what_a_list_finds(keys: list[str], wanted: str) -> None:
    """Every row of a key, in order."""
    index = KeyIndex(pa.array(keys, pa.large_string()))
    assert index.find_all(wanted) == [i for i, key in enumerate(keys) if key == wanted]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_likeness_sees_through_every_turn(orientation: int) -> None:
    """A turned picture whose region was changed is found, with the turn; its neighbour is not."""
    found = pictures()
    published = luma(found["coffee.jpg"]).copy()
    published[96:320, 192:424] = 110
    stranger = np.ascontiguousarray(upright(luma(found["coffee.jpg"]), orientation))
    regions = [(192, 96, 424, 320)]
    free = likeness.outside_cells(regions, 600, 400)
    both = np.stack([likeness.cells(stranger), likeness.cells(luma(found["rocket.jpg"]))])
    rms, turned = likeness.coarse(both, likeness.cells(published), free)
    assert (np.isfinite(rms).tolist(), int(turned[0])) == ([True, False], orientation)
    close = likeness.fine(stranger, published, regions, orientation)
    assert close is not None
    assert (close.judged, close.different) == (1, 1)
    assert (
        likeness.fine(np.ascontiguousarray(upright(published, orientation)), published, regions, orientation).different
        == 0
    )


def test_a_picture_with_hardly_any_outside_is_not_compared() -> None:
    """A region over everything leaves nothing to recognise: no likeness rather than a guess."""
    picture = luma(pictures()["coffee.jpg"])
    free = likeness.outside_cells([(0, 0, 600, 400)], 600, 400)
    rms, _ = likeness.coarse(likeness.cells(picture)[None], likeness.cells(picture), free)
    assert np.isinf(rms).all()
    assert likeness.fine(picture, picture, [(0, 0, 600, 400)], 1) is None


@pytest.mark.parametrize(
    ("seen", "named", "gaps"),
    [
        ({1, 2, 3}, {3}, []),
        ({2, 3}, set(), [1]),
        ({1, 4}, set(), [2]),
        ({1}, {2}, [2]),
        (set(), {5}, [1]),
        ({1}, {10**9}, [2]),
    ],
)
def test_a_gap_in_the_snapshots_is_one_line(seen: set[int], named: set[int], gaps: list[int]) -> None:
    """The first missing number of each gap: a forged number costs one line, not a billion."""
    assert records._first_gaps("h/", seen, named) == [f"h/snapshots/{seq:010d}.json" for seq in gaps]


@pytest.mark.parametrize("size", [0, 1, walk.WHOLE, walk.WHOLE + 1, 3 * walk.WHOLE + 7])
def test_files_of_any_size_are_hashed_whole(tmp_path: Path, size: int) -> None:
    """In one read or in pieces: the same sha256 as of the bytes."""
    data = np.random.default_rng(size).bytes(size)
    (tmp_path / "x").write_bytes(data)
    store = Store(UPath(str(tmp_path)))
    ((item,),) = walk.hash_all(store, walk.walk(store), 2)
    assert (item.key, item.size, item.digest) == ("x", size, hashlib.sha256(data).digest())


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gap must not look empty."""

    def refuse(path: str) -> Any:
        raise PermissionError(13, "no")

    monkeypatch.setattr(walk.os, "scandir", refuse)
    with pytest.raises(ConfigurationError):
        list(walk.walk(Store(UPath(str(tmp_path)))))


@pytest.mark.parametrize(
    ("code", "expected"),
    [(errno.EACCES, "cannot be read (EACCES)"), (errno.EIO, "cannot be read (EIO)"), (errno.ENOENT, "gone")],
)
def test_a_file_that_cannot_be_read_is_an_object_without_a_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: str
) -> None:
    """It is named, not skipped; one that vanished meanwhile is no object any more."""
    assert hashed_with(tmp_path, monkeypatch, code)[0].problem == expected


def test_a_machine_without_files_left_stops_the_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no fault of the object is one of the store: a retry may help, and nothing was said about it."""
    with pytest.raises(StoreError):
        hashed_with(tmp_path, monkeypatch, errno.EMFILE)


def hashed_with(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> list[walk.Hashed]:
    """One file whose opening fails so."""

    def refuse(path: str) -> int:
        raise OSError(code, "no")

    (folder / "x").write_bytes(b"x")
    monkeypatch.setattr(walk, "_open", refuse)
    store = Store(UPath(str(folder)))
    return [item for chunk in walk.hash_all(store, walk.walk(store), 1) for item in chunk]


def test_pixel_ids_name_pixels_and_size() -> None:
    """Same pixels, same id; another size, key or pixel, another id; never keyless, and never an image id."""
    ring, other = KeyRing.from_master(b"a" * 32), KeyRing.from_master(b"b" * 32)
    sha = hashlib.sha256(b"pixels").digest()
    ids = [
        ring.pixel_id_of(2, 3, sha),
        ring.pixel_id_of(3, 2, sha),
        other.pixel_id_of(2, 3, sha),
        ring.image_id_of(sha),
    ]
    assert len({*ids, ring.pixel_id_of(2, 3, hashlib.sha256(b"x").digest())}) == 5
    assert ring.pixel_id_of(2, 3, sha) == ids[0]
    with pytest.raises(ConfigurationError):
        KeyRing.from_master(None).pixel_id_of(2, 3, sha)


def report(findings: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """A report document with these findings."""
    classes = {cls.value: {"objects": 0, "bytes": 0} for cls in Class}
    for finding in findings:
        classes[finding["class"]]["objects"] += 1
    record = {"verified": True, "signed": "all", "trust": "pinned", "head": "3:ab", "entries": 3, "runs": 3, "errors": 0,
              "notices": 0, "findings": []}  # fmt: skip
    return {
        "clean": not findings, "at": "2026-01-01T00:00:00+00:00", "version": "0", "seconds": 1.0, "store": "s3://b/x",
        "audit": "s3://a/x", "record": record, "objects": 10, "bytes": 5, "classes": classes,
        "states": {state.value: 0 for state in State}, "raw": 0, "renamed": 0, "raw_check": "by HMAC", "missing_checked": True,
        "ignore": [], "datasets": [], "amendments": {}, "notes": [], "restricted": "restricted", "findings": findings,
        "findings_left_off": 0, **changes,
    }  # fmt: skip


class Tags(html.parser.HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=40))
def test_no_name_becomes_markup(name: str) -> None:
    """Whatever a key, a detail or a note says: the page has the same tags, asks for nothing and shows what prints."""
    finding = {"key": name, "class": "orphan", "detail": name, "kind": name, "size": 1, "matched_key": name}
    harmless = {**finding, **dict.fromkeys(("key", "detail", "kind", "matched_key"), "x")}
    changes = {"ignore": [name], "notes": [name], "store": name}
    shown = Tags(page.render(report([finding], **changes)))
    plain = Tags(page.render(report([harmless], ignore=["x"], notes=["x"], store="x")))
    assert shown.tags == plain.tags
    assert not [tag for tag, _ in shown.tags if tag in ("script", "img", "link", "iframe", "object")]
    assert all(attrs.get("href", "#").startswith("#") and "src" not in attrs for _, attrs in shown.tags)
    assert "".join(c for c in name if c.isprintable()).strip() in shown.text or not name.isprintable()


def test_long_lists_are_cut_and_say_so() -> None:
    """The page stays small; it points to the Parquet report."""
    findings = [{"key": f"k{n}", "class": "orphan", "detail": "d", "size": 1} for n in range(page.ROWS + 50)]
    text = page.render(report(findings))
    assert ("50 more" in text, text.count('<bdi class="key">k')) == (True, page.ROWS)
