"""The master key of the command line: where it lies, who may read it, and that it is made once.

Order: ``FACEFOG_KEY`` (the key itself), the file that ``FACEFOG_KEY_FILE`` names, the file in the user's config folder.
Only the last is made when it is missing; Airflow never comes here, it reads a connection.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.keys import KEY_BYTES, KeyRing, parse_master
from airflow_facefog.core.raw import sealed

KEY_ENV = "FACEFOG_KEY"
FILE_ENV = "FACEFOG_KEY_FILE"


class KeyExistsError(ConfigurationError):
    """There is a key already; another one would change every id. A retry does not help."""


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A master key (32 bytes, never printed), the file it came from (None: the environment), and whether it is new."""

    master: bytes = field(repr=False)
    path: Path | None
    created: bool = False

    @property
    def ring(self) -> KeyRing:
        """Everything derived from it."""
        return KeyRing.from_master(self.master)


def key_path() -> Path:
    """``FACEFOG_KEY_FILE``, else ``facefog/master.key`` in ``XDG_CONFIG_HOME`` (``~/.config``)."""
    named = os.environ.get(FILE_ENV)
    return Path(named).expanduser() if named else config_folder() / "master.key"


def config_folder() -> Path:
    """``facefog`` in ``XDG_CONFIG_HOME`` (``~/.config``): where keys of this user lie."""
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "facefog"


@sealed
def find_key(apart_from: Iterable[str | None] = ()) -> FoundKey | None:
    """Return the key that is there, or None.

    ``apart_from``: local folders (source, destination, audit) that must not hold it; None stands for a remote one.
    Raises ConfigurationError for such a place, for a file that others may read, for an unreadable or wrong key, and
    when ``FACEFOG_KEY_FILE`` names a file that is not there (a new key would silently change every id).
    """
    text = os.environ.get(KEY_ENV)
    if text:
        return FoundKey(parse_master(text), None)
    path = key_path()
    check_apart(path, apart_from)
    if not path.exists():
        if os.environ.get(FILE_ENV):
            raise ConfigurationError(f"{FILE_ENV} names a file that is not there; make it with `facefog keys new`")
        return None
    return FoundKey(parse_master(read_private(path)), path)


def find_or_create_key(apart_from: Iterable[str | None] = ()) -> FoundKey:
    """Return the key, made on first use. ``created`` says so: tell the user. Raises as ``find_key`` does."""
    places = list(apart_from)
    found = find_key(places)
    if found is not None:
        return found
    try:
        return create_key(key_path(), places)
    except KeyExistsError:  # another process was faster
        found = find_key(places)
        assert found is not None
        return found


@sealed
def create_key(path: Path, apart_from: Iterable[str | None] = ()) -> FoundKey:
    """Write a new key to ``path``: 64 hex digits, mode 0600, its folder 0700 if new; a reader never sees half a key.

    Raises KeyExistsError when something is there already, ConfigurationError when it cannot be written.
    """
    check_apart(path, apart_from)
    master = secrets.token_bytes(KEY_BYTES)
    try:
        write_once(path, f"{master.hex()}\n".encode())
    except FileExistsError:
        raise KeyExistsError(
            f"there is a key already: {path}; published ids depend on it, so it is never replaced (move it away first)"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"the key file cannot be written ({error.strerror}); let {FILE_ENV} name a place that can"
        ) from None
    return FoundKey(master, path, created=True)


def check_apart(path: Path, places: Iterable[str | None]) -> None:
    """Raise ConfigurationError when ``path`` lies in one of the local folders ``places``, links resolved."""
    if lies_in(path, places):
        raise ConfigurationError(
            "the master key lies inside source, destination or audit: whoever reads those could link every id; "
            f"move it, or let {FILE_ENV} name another place"
        )


def lies_in(path: Path, places: Iterable[str | None]) -> bool:
    """Whether ``path`` is below one of these local folders, links resolved; None stands for a remote one."""
    real = Path(os.path.realpath(path))
    return any(place is not None and real.is_relative_to(os.path.realpath(place)) for place in places)


def write_once(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a new file whole, its folder 0700 if new. Raises FileExistsError when there is one, OSError otherwise."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(descriptor)
        os.link(temporary, path)
    finally:
        temporary.unlink()


def read_private(path: Path) -> str:
    """The text of a key file. Raises ConfigurationError when it cannot be read or others may read it."""
    try:
        with path.open("rb") as handle:
            mode = os.fstat(handle.fileno()).st_mode
            text = handle.read(1024).decode("ascii", "replace")
    except OSError as error:
        raise ConfigurationError(f"the key file cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise ConfigurationError(f"the key file is open to others (mode {mode & 0o777:04o}); run: chmod 600 {path}")
    return text
