"""Where the command line keeps its signing key. It signs what finalise, erasure and expiry seal, and nothing else.

Order: the file that an option names, the one that ``FACEFOG_SIGNING_KEY_FILE`` names, ``signing.key`` in the user's config
folder. None is ever made by itself: without one the audit is sealed unsigned, and a warning says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.raw import sealed
from airflow_facefog.keyfile import KeyExistsError, config_folder, lies_in, read_private, write_once

if TYPE_CHECKING:
    from airflow_facefog.audit.sealed import SigningKey

FILE_ENV = "FACEFOG_SIGNING_KEY_FILE"


@dataclass(frozen=True, slots=True)
class NewSigningKey:
    """A key that was just made: the private file (0600) and the public one, for whoever verifies."""

    key: SigningKey = field(repr=False)
    path: Path
    public_path: Path


def signing_key_path() -> Path:
    """``FACEFOG_SIGNING_KEY_FILE``, else ``facefog/signing.key`` in ``XDG_CONFIG_HOME`` (``~/.config``)."""
    named = os.environ.get(FILE_ENV)
    return Path(named).expanduser() if named else config_folder() / "signing.key"


@sealed
def find_signing_key(named: Path | None = None, apart_from: Iterable[str | None] = ()) -> SigningKey | None:
    """The signing key, or None when none is named and none lies at the default path: signing is off.

    ``named``: what an option says. ``apart_from``: local folders (source, destination, audit) that must not hold it.
    Raises ConfigurationError for such a place, a file that others may read, one that is no key, and a named one that is
    not there: a run that should be signed is never sealed unsigned.
    """
    from airflow_facefog.audit.sealed import SigningKey

    path = named or signing_key_path()
    if not path.exists():
        if named or os.environ.get(FILE_ENV):
            raise ConfigurationError(
                "the signing key is not there; make it with `facefog keys new --signing`, or name another file"
            )
        return None
    check_apart(path, apart_from)
    return SigningKey.from_pem(read_private(path).encode())


@sealed
def create_signing_key(path: Path, apart_from: Iterable[str | None] = ()) -> NewSigningKey:
    """Write a new private key to ``path`` (PEM, 0600) and its public key to ``<path>.pub``.

    Raises KeyExistsError when one of the two is there already, ConfigurationError when they cannot be written.
    """
    from airflow_facefog.audit.sealed import SigningKey

    check_apart(path, apart_from)
    key, public_path = SigningKey.generate(), path.with_name(f"{path.name}.pub")
    try:
        if public_path.exists():
            raise FileExistsError
        write_once(path, key.pem)
        write_once(public_path, key.public.pem, 0o644)
    except FileExistsError:
        raise KeyExistsError(
            f"there is a signing key already: {path} or its .pub file; what it signed could not be checked any more, so "
            "it is never replaced (move both away first)"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"the signing key cannot be written ({error.strerror}); let --file or {FILE_ENV} name a place that can"
        ) from None
    return NewSigningKey(key, path, public_path)


def check_apart(path: Path, places: Iterable[str | None]) -> None:
    """Raise ConfigurationError when ``path`` lies in one of the local folders ``places``, links resolved."""
    if lies_in(path, places):
        raise ConfigurationError(
            "the signing key lies inside source, destination or audit: whoever writes those could sign a changed audit; "
            f"move it, and let --signing-key or {FILE_ENV} name the new place"
        )
