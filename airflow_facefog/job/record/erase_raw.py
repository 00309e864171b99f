"""The raw files of a picture: where a run listed them, and their deletion when a person asks for that too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError, StoreError
from airflow_facefog.job.model import RootOpener
from airflow_facefog.job.plan import item_uri
from airflow_facefog.publish.store import read_whole

if TYPE_CHECKING:
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.job.record.erase_case import Case
    from airflow_facefog.publish.store import Store

File = tuple[str, str | None]
"""URI and the connection that opens it."""


def find(audit: Store, case: Case, refs: frozenset[str] | None = None) -> set[File]:
    """Files that were listed under a source of the subject (or ``refs``), as far as plans and source tables still tell."""
    wanted = case.subject.seen | case.subject.sources if refs is None else refs
    found = dict(_planned(audit, case, wanted))
    return {*found.items(), *((uri, _rights(case, uri)) for uri in _tabled(audit, wanted) if uri not in found)}


def delete(case: Case, open_root: RootOpener) -> int:
    """Delete those that still hold the picture; one that holds another by now stays. Raises ConfigurationError, StoreError
    when a file cannot be deleted: then nothing claims that it was.
    """
    return sum(_delete(uri, conn_id, case, open_root) for uri, conn_id in sorted(case.journal.raw, key=str))


def image_id(file: File, keys: KeyRing, open_root: RootOpener) -> str | None:
    """The id of what a file holds now, or None: there is no such file. Raises ConfigurationError, StoreError."""
    path = _path(*file, open_root)
    try:
        return keys.image_id(read_whole(path.fs, path.path))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except PermissionError:
        raise ConfigurationError("a raw file may not be read; check the rights on its source") from None
    except Exception as error:
        raise StoreError(f"a raw file cannot be read ({type(error).__name__})") from None


def _planned(audit: Store, case: Case, wanted: frozenset[str]) -> Iterator[File]:
    for place in case.places.values():
        if place.source is None or place.key_id != case.keys.key_id:
            continue
        for key in audit.list(f"plans/{place.home}/batches"):
            for name, _, _ in json.loads(audit.read(key))["items"]:
                uri = item_uri(place.source, name)
                if case.keys.source_ref(uri) in wanted:
                    yield uri, place.source.conn_id


def _tabled(audit: Store, wanted: frozenset[str]) -> Iterator[str]:
    from airflow_facefog.audit.parquet import read_arrow
    from airflow_facefog.job.trace_rows import is_in

    for key in audit.list("sources"):
        rows = read_arrow("facefog_source", audit.read(key), ("source_ref", "source_uri"))
        yield from rows["source_uri"].filter(is_in(rows["source_ref"], wanted)).to_pylist()


def _rights(case: Case, uri: str) -> str | None:
    """The connection of a run whose source this file lies in: tables of sources name none."""
    sources = (place.source for place in case.places.values() if place.source is not None)
    return next((source.conn_id for source in sources if uri.startswith(f"{source.uri.rstrip('/')}/")), None)


def _delete(uri: str, conn_id: str | None, case: Case, open_root: RootOpener) -> int:
    path = _path(uri, conn_id, open_root)
    try:
        data = read_whole(path.fs, path.path)
        if case.keys.image_id(data) not in case.subject.image_ids:
            return 0
        path.fs.rm_file(path.path)
    except FileNotFoundError:
        return 0
    except PermissionError:
        raise ConfigurationError("a raw file may not be deleted; check the rights on its source") from None
    except Exception as error:
        raise StoreError(f"a raw file cannot be deleted ({type(error).__name__})") from None
    return 1


def _path(uri: str, conn_id: str | None, open_root: RootOpener) -> Any:
    root, _, name = uri.rpartition("/")
    return open_root(root, conn_id) / name
