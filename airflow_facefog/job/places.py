"""Refuse places that overlap: raw images must never lie where outputs or the audit are written, nor the other way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.job.model import Place, RootOpener

if TYPE_CHECKING:
    from airflow_facefog.publish.store import Store


def check_apart(source: Place, destination: Place, audit: Place) -> None:
    """Raise ConfigurationError when source overlaps destination or audit (either way), or the audit lies in destination.

    Links are resolved first. Remote places are compared by bucket and path, whatever their connection.
    """
    resolved = {"source": _resolve(source), "destination": _resolve(destination), "audit": _resolve(audit)}
    for one, other in (("source", "destination"), ("source", "audit")):
        if _inside(resolved[one], resolved[other]) or _inside(resolved[other], resolved[one]):
            raise ConfigurationError(
                f"{one} and {other} overlap (one contains the other, links resolved); keep them in separate folders"
            )
    if _inside(resolved["audit"], resolved["destination"]) or resolved["audit"] == resolved["destination"]:
        raise ConfigurationError(
            "the audit lies inside the destination, where consumers read; keep it in a separate folder"
        )


def open_existing(audit: Place, open_root: RootOpener) -> Store:
    """Open an audit that must be there. Raises ConfigurationError when it is not: a wrong place must not look fine.

    A prefix without any object is not there; an empty folder or bucket is.
    """
    from airflow_facefog.publish.store import Store

    store = Store(open_root(audit.uri, audit.conn_id))
    if not store.is_there():
        raise ConfigurationError(
            "there is no audit at that place; give the folder or URI that a run was given as --audit "
            "(a wrong one must not look verified)"
        )
    return store


def is_inside(inner: Place, outer: Place) -> bool:
    """Whether one place is or lies below another; links are resolved, connections do not matter."""
    return _inside(_resolve(inner), _resolve(outer))


def _resolve(place: Place) -> tuple[str, ...]:
    if place.is_local:
        return ("file", *(part for part in os.path.realpath(place.local_path).split("/") if part))
    scheme, _, rest = place.uri.partition("://")
    scheme = {"s3a": "s3", "gcs": "gs", "az": "abfs", "adl": "abfs"}.get(scheme, scheme)
    return (scheme, *(part for part in rest.split("/") if part and part != "."))


def _inside(inner: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    return inner[: len(outer)] == outer
