"""Reading a detector's own files (models, class lists, scripts) from a local path or any fsspec URL."""

from __future__ import annotations

from airflow_facefog.core.errors import ConfigurationError


def read_file(path: str, what: str) -> bytes:
    """Return the whole file. Raises ConfigurationError that names ``what``, not the path, when it cannot be read."""
    data = read_if_there(path, what)
    if data is None:
        raise ConfigurationError(f"the {what} does not exist on this worker; check its path, or deploy it everywhere")
    return data


def read_if_there(path: str, what: str) -> bytes | None:
    """Return the whole file, or None if there is none. Raises ConfigurationError when it cannot be read."""
    from upath import UPath

    try:
        data: bytes = UPath(path).read_bytes()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ImportError) as error:
        raise ConfigurationError(
            f"the {what} cannot be read ({type(error).__name__}); check its path and permissions"
        ) from None
    return data
