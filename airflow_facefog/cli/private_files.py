"""Files of results that are as restricted as the audit: readable by their owner alone, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from airflow_facefog.core.errors import ConfigurationError


def write_private(path: Path, data: bytes, what: str) -> None:
    """Write or replace a file with mode 0600. Raises ConfigurationError, which names ``what`` it was to be."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigurationError(f"{what} cannot be written ({error.strerror}); name a file in another place") from None
