"""The master key of the command line: made once, private, never beside what it protects."""

from __future__ import annotations

import os
import stat
import traceback
from pathlib import Path

import pytest

from airflow_facefog import keyfile
from airflow_facefog.core.errors import ConfigurationError

HEX = "ab" * 32


def test_made_once_and_private(config: Path) -> None:
    """The first call makes a 0600 file in a 0700 folder and says so; the next one reads the same key."""
    first = keyfile.find_or_create_key()
    second = keyfile.find_or_create_key()
    path = config / "facefog" / "master.key"
    assert (first.created, second.created) == (True, False)
    assert first.master == second.master
    assert first.path == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["master.key"]


def test_two_makers_agree(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another process makes the key between look and make, its key is taken, not replaced."""
    other = keyfile.create_key(keyfile.key_path())
    real = keyfile.find_key
    answers = iter([None])
    monkeypatch.setattr(keyfile, "find_key", lambda places: next(answers, False) or real(places))
    assert keyfile.find_or_create_key().master == other.master


def test_looking_makes_nothing(config: Path) -> None:
    """``find_key`` (dry runs) leaves the disk alone."""
    assert keyfile.find_key() is None
    assert not config.exists()


def test_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment is used before any file."""
    keyfile.find_or_create_key()
    monkeypatch.setenv(keyfile.KEY_ENV, HEX)
    found = keyfile.find_or_create_key()
    assert found.master.hex() == HEX
    assert found.path is None


def test_named_file_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key file that was named and is gone is an error: a new key would change every id."""
    monkeypatch.setenv(keyfile.FILE_ENV, str(tmp_path / "gone.key"))
    with pytest.raises(ConfigurationError, match="not there"):
        keyfile.find_or_create_key()
    assert not (tmp_path / "gone.key").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_open_file_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    """A key that others may read or write is refused with the line that mends it."""
    path = tmp_path / "k"
    path.write_text(HEX)
    path.chmod(mode)
    monkeypatch.setenv(keyfile.FILE_ENV, str(path))
    with pytest.raises(ConfigurationError, match="chmod 600"):
        keyfile.find_key()


@pytest.mark.parametrize("place", ["source", "destination", "audit"])
@pytest.mark.parametrize("linked", [False, True])
def test_never_beside_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, linked: bool) -> None:
    """A key inside source, destination or audit is refused, also through a link, whether there or to be made."""
    (tmp_path / place).mkdir()
    folder = tmp_path / place
    if linked:
        folder = tmp_path / "elsewhere"
        folder.symlink_to(tmp_path / place)
    monkeypatch.setenv(keyfile.FILE_ENV, str(folder / "deep" / "k"))
    with pytest.raises(ConfigurationError, match="inside source, destination or audit"):
        keyfile.find_or_create_key([None, str(tmp_path / place)])
    with pytest.raises(ConfigurationError, match="inside source, destination or audit"):
        keyfile.create_key(folder / "k", [str(tmp_path / place)])


def test_never_replaced(config: Path) -> None:
    """Making a key where one lies is refused and leaves it as it was."""
    path = keyfile.key_path()
    first = keyfile.create_key(path)
    with pytest.raises(keyfile.KeyExistsError):
        keyfile.create_key(path)
    assert path.read_text().strip() == first.master.hex()


def test_wrong_key_is_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken key is refused, and no frame of the traceback holds its text."""
    path = tmp_path / "k"
    path.write_text("5ecret" * 5)
    path.chmod(0o600)
    monkeypatch.setenv(keyfile.FILE_ENV, str(path))
    with pytest.raises(ConfigurationError) as caught:
        keyfile.find_key()
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "5ecret" not in "".join(shown.format())


def test_prints_no_key() -> None:
    """The found key prints neither its bytes nor its derived keys."""
    found = keyfile.find_or_create_key()
    assert found.master.hex() not in repr(found)
    assert repr(found.master) not in repr(found)


def test_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config folder that cannot be made is a clear error."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", os.fspath(tmp_path / "file"))
    with pytest.raises(ConfigurationError, match="cannot be written"):
        keyfile.find_or_create_key()
