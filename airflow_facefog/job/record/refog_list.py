"""A list of source URIs as a file: what ``diff-policy --refog`` writes and ``facefog run --sources`` reads.

UTF-8, one URI a line, sorted. A URI that a line cannot hold as it is (line ends, quotes at its start, bytes that are no
UTF-8) is written as a JSON string. Empty lines and lines that start with ``#`` are left out. The file holds raw names:
keep it where the photos are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from airflow_facefog.core.errors import ConfigurationError


def write_list(path: Path, uris: Iterable[str]) -> None:
    """Write ``uris``, each once, readable by its owner alone. A file that is there is replaced, whole or not at all.

    Raises ConfigurationError when it cannot be written.
    """
    text = "".join(f"{_line(uri)}\n" for uri in sorted(set(uris)))
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ConfigurationError(
            f"the list of sources cannot be written ({error.strerror}); give another file"
        ) from None


def read_list(path: Path) -> tuple[str, ...]:
    """The URIs of a list. Raises ConfigurationError when it cannot be read or holds none."""
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError("the list of sources cannot be read; give a UTF-8 text file, one URI a line") from None
    uris = tuple(_uri(line) for line in lines if line.strip() and not line.startswith("#"))
    if not uris:
        raise ConfigurationError("the list of sources is empty: there is nothing to run")
    return uris


def _line(uri: str) -> str:
    plain = uri.isprintable() and uri == uri.strip() and not uri.startswith(('"', "#"))
    return uri if plain else json.dumps(uri)


def _uri(line: str) -> str:
    if not line.startswith('"'):
        return line.removesuffix("\r")
    try:
        return str(json.loads(line))
    except ValueError:
        raise ConfigurationError(
            "a line of the list of sources starts with a quote and is no JSON string; write it anew"
        ) from None
