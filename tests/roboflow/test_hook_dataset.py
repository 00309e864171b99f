"""Downloads: whole or not at all, never out of the folder, never a bomb, never a broken first try taken for a dataset."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hookkit import api_to, told
from hypothesis import given, settings
from hypothesis import strategies as st
from standin import GOOD_KEY, StandIn

from airflow_facefog.core.errors import ConfigurationError, PermanentError, TransientError
from airflow_facefog.hooks import roboflow_dataset
from airflow_facefog.hooks.roboflow_api import ProjectRef
from airflow_facefog.hooks.roboflow_dataset import MARKER, DatasetRequest, download_dataset
from airflow_facefog.hooks.roboflow_zip import ArchiveLimits, unpack

OPEN_FACES = ProjectRef("universe-people", "open-faces")


def _request(tmp_path: Path, **options: Any) -> DatasetRequest:
    return DatasetRequest(OPEN_FACES, 1, "yolov8", tmp_path / "data" / "set", **{"poll_s": 0.01, **options})


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_dataset_arrives_whole(standin: StandIn, tmp_path: Path) -> None:
    """Pictures, labels and a marker that says which version and hash this is; nothing else is left in the parent."""
    standin.world.export_polls = 2
    request = _request(tmp_path)
    told_back = download_dataset(api_to(standin), request)
    assert (told_back["images"], told_back["folder"]) == (6, str(request.folder))
    marker = json.loads((request.folder / MARKER).read_text())
    assert marker["sha256"] == told_back["sha256"]
    assert len(_files(request.folder)) == told_back["files"] + 1
    assert os.listdir(request.folder.parent) == ["set"]


def test_a_retry_downloads_nothing(standin: StandIn, tmp_path: Path) -> None:
    """A folder with the right marker is the answer."""
    first = download_dataset(api_to(standin), _request(tmp_path))
    standin.reset()
    assert download_dataset(api_to(standin), _request(tmp_path)) == first
    assert standin.requests() == []


@pytest.mark.parametrize("content", [{}, {"readme.txt": "mine"}, {MARKER: "{}"}, {MARKER: "not json"}])
def test_a_foreign_folder_is_never_taken_nor_touched(standin: StandIn, tmp_path: Path, content: dict[str, str]) -> None:
    """Also an empty one: that is what a broken client leaves behind."""
    request = _request(tmp_path)
    request.folder.mkdir(parents=True)
    for name, text in content.items():
        (request.folder / name).write_text(text)
    with pytest.raises(ConfigurationError, match="holds something else"):
        download_dataset(api_to(standin), request)
    assert {path.name: path.read_text() for path in request.folder.iterdir()} == content


def test_another_version_in_the_folder_is_refused(standin: StandIn, tmp_path: Path) -> None:
    """The marker names version and format."""
    request = _request(tmp_path)
    download_dataset(api_to(standin), request)
    other = DatasetRequest(OPEN_FACES, 1, "coco", request.folder)
    with pytest.raises(ConfigurationError):
        download_dataset(api_to(standin), other)


FAULTS: list[tuple[str, dict[str, Any], type[Exception]]] = [
    ("status", {"status": 404}, TransientError),
    ("status", {"status": 403}, TransientError),
    ("html", {"status": 502}, TransientError),
    ("html", {"status": 200}, TransientError),
    ("truncate", {}, TransientError),
    ("truncate", {"lie": True}, TransientError),
    ("reset", {"when": "middle"}, TransientError),
    ("redirect", {"location": "http://example.com/x"}, TransientError),
    ("wrong_hash", {}, TransientError),
    ("zip_bad_crc", {}, TransientError),
    ("zip_slip", {}, PermanentError),
    ("zip_symlink", {}, PermanentError),
    ("zip_bomb", {}, PermanentError),
    ("body", {"body": {"no": "zip"}}, TransientError),
]


@pytest.mark.parametrize(("fault", "params", "error"), FAULTS)
def test_a_failed_first_try_leaves_nothing(
    standin: StandIn, tmp_path: Path, fault: str, params: dict[str, Any], error: type[Exception]
) -> None:
    """No folder, no rest; the second try gets a whole dataset. Link and key are quoted nowhere."""
    standin.script("/ds/*", fault, **params)
    request = _request(tmp_path, limits=ArchiveLimits(max_unpacked=50_000_000))
    with pytest.raises(error) as caught:
        download_dataset(api_to(standin), request)
    shown = told(caught.value)
    assert GOOD_KEY not in shown
    assert "key=" not in str(caught.value)
    assert "/ds/" not in str(caught.value)
    assert _files(tmp_path) == []
    assert not request.folder.exists()
    assert download_dataset(api_to(standin), request)["images"] == 6


def test_the_link_gets_no_key(standin: StandIn, tmp_path: Path) -> None:
    """It is signed for itself, and may lead to anybody's bucket."""
    download_dataset(api_to(standin), _request(tmp_path))
    (request,) = standin.requests("/ds/*")
    assert "authorization" not in request.headers
    assert GOOD_KEY not in request.raw_query


def test_an_archive_above_the_limit_is_not_stored(standin: StandIn, tmp_path: Path) -> None:
    """The promise in Content-Length is enough to refuse it."""
    with pytest.raises(PermanentError, match="max_bytes 1000"):
        download_dataset(api_to(standin), _request(tmp_path, max_bytes=1000))
    standin.script("/ds/*", "flood", n_bytes=200_000)
    with pytest.raises(PermanentError, match="max_bytes 100000"):
        download_dataset(api_to(standin), _request(tmp_path, max_bytes=100_000))
    assert _files(tmp_path) == []


def test_an_export_that_is_never_made_ends(standin: StandIn, tmp_path: Path) -> None:
    """The client waits for ever."""
    standin.world.export_polls = 1000
    with pytest.raises(TransientError, match="still makes"):
        download_dataset(api_to(standin), _request(tmp_path, export_timeout_s=0.05))


@pytest.mark.parametrize("answer", [{}, {"export": None}, {"export": {"format": "yolov8"}}, {"error": "no"}, []])
def test_an_answer_that_is_no_export_is_not_waited_for(standin: StandIn, tmp_path: Path, answer: Any) -> None:
    """Only ``progress`` means: come back later."""
    standin.script("/universe-people/open-faces/1/yolov8", "body", body=answer, times=None)
    with pytest.raises(ConfigurationError, match="API URL"):
        download_dataset(api_to(standin), _request(tmp_path))


def test_two_tasks_at_once_end_with_one_dataset(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower one finds the folder when it wants to move its own, and returns that."""
    request = _request(tmp_path)
    real = roboflow_dataset.unpack

    def overtaken(archive: Path, folder: Path, limits: ArchiveLimits) -> dict[str, int]:
        monkeypatch.setattr(roboflow_dataset, "unpack", real)
        download_dataset(api_to(standin), request)
        return real(archive, folder, limits)

    monkeypatch.setattr(roboflow_dataset, "unpack", overtaken)
    assert download_dataset(api_to(standin), request)["images"] == 6
    assert os.listdir(request.folder.parent) == ["set"]


def test_old_rests_of_killed_tasks_are_removed(standin: StandIn, tmp_path: Path) -> None:
    """A partial folder of yesterday goes, one of now may belong to a task that runs."""
    request = _request(tmp_path)
    request.folder.parent.mkdir(parents=True)
    old, young = (request.folder.parent / f".set.partial-{name}" for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (0, 0))
    download_dataset(api_to(standin), request)
    assert (old.exists(), young.exists()) == (False, True)


def _zip(path: Path, names: list[str], **info: Any) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            member = zipfile.ZipInfo(name)
            for key, value in info.items():
                setattr(member, key, value)
            archive.writestr(member, b"x")
    return path


@pytest.mark.parametrize(
    "name", ["../a", "a/../../b", "/etc/x", "C:/x", "a\\b", "..", "a/..", "./../x", "a\nb", "//host/x"]
)
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    """Before anything is unpacked."""
    with pytest.raises(PermanentError, match="outside"):
        unpack(_zip(tmp_path / "a.zip", ["good.jpg", name]), tmp_path / "out", ArchiveLimits())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("info", "says"),
    [
        ({"external_attr": 0o120777 << 16}, "link"),
        ({"external_attr": 0o010644 << 16}, "link"),
        ({"compress_type": zipfile.ZIP_BZIP2}, "unusual"),
    ],
)
def test_members_that_are_no_plain_files_are_refused(tmp_path: Path, info: dict[str, int], says: str) -> None:
    """Links, pipes and decompressors that nobody checked."""
    with pytest.raises(PermanentError, match=says):
        unpack(_zip(tmp_path / "a.zip", ["x"], **info), tmp_path / "out", ArchiveLimits())


def test_one_name_twice_is_refused(tmp_path: Path) -> None:
    """Also when only the case differs: some file systems would let the second replace the first."""
    with pytest.raises(PermanentError, match="two files"):
        unpack(_zip(tmp_path / "a.zip", ["a.jpg", "A.JPG"]), tmp_path / "out", ArchiveLimits())


def test_an_empty_archive_is_no_dataset(tmp_path: Path) -> None:
    """Nor one with too many files."""
    with pytest.raises(PermanentError, match="0 files"):
        unpack(_zip(tmp_path / "a.zip", []), tmp_path / "out", ArchiveLimits())
    with pytest.raises(PermanentError, match="3 files"):
        unpack(_zip(tmp_path / "b.zip", ["a", "b", "c"]), tmp_path / "out", ArchiveLimits(max_files=2))


@settings(max_examples=40, deadline=None)
@given(names=st.lists(st.text("ab./\\:é ", min_size=1, max_size=12), min_size=1, max_size=4, unique=True))
def test_nothing_ever_lands_outside(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the names, either the archive is refused or every file is below the folder."""
    root = tmp_path_factory.mktemp("zip")
    archive = _zip(root / "a.zip", names)
    (root / "in").mkdir()
    with contextlib.suppress(PermanentError, TransientError):
        counts = unpack(archive, root / "in" / "out", ArchiveLimits())
        assert counts["files"] == len([name for name in names if not name.endswith("/")])
    assert [name for name in _files(root) if not name.startswith("in/out/")] == ["a.zip"]
