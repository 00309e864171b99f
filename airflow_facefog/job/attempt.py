"""What an attempt leaves behind besides its parts: whether it ended, and which image it held when it died.

An attempt that died without an exception (killed, out of memory, a decoder that crashed) has ``started`` and no ``ended``.
The next one runs its images in a spawned child; an image that kills the child, or the whole attempt twice, is quarantined.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_facefog.core.errors import FogError

if TYPE_CHECKING:
    from airflow_facefog.publish.store import Store


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier attempts of a batch tell: ``isolate`` and the ``source_ref`` of images that killed one."""

    isolate: bool
    killers: frozenset[str]


class AttemptLog:
    """Markers of one attempt below ``prefix`` (``intents/<run>/<gen>/<batch>/<attempt>/``)."""

    def __init__(self, audit: Store, prefix: str) -> None:
        self._audit = audit
        self._prefix = prefix

    def start(self) -> None:
        """Say that this attempt began."""
        self._audit.create(f"{self._prefix}started", b"")

    def end(self) -> None:
        """Say that this attempt ended by itself, well or with an exception.

        A store that fails here hides neither: without the mark the next attempt is careful for nothing.
        """
        with contextlib.suppress(FogError):
            self._audit.create(f"{self._prefix}ended", b"")

    def sent(self, egress: Mapping[str, Mapping[str, float]]) -> None:
        """Record what left this machine so far, per host; the run row sums the last word of all attempts."""
        if egress:
            self._audit.replace(f"{self._prefix}egress.json", json.dumps(egress, sort_keys=True).encode())

    def holds(self, source_ref: str) -> None:
        """Isolated only: name the image that is about to run."""
        self._audit.replace(f"{self._prefix}holds", source_ref.encode())


def read_past(audit: Store, batch_prefix: str) -> Past:
    """Look at the markers of all earlier attempts of a batch."""
    marks: dict[str, set[str]] = {}
    for key in audit.list(batch_prefix):
        attempt, _, name = key.removeprefix(batch_prefix).partition("/")
        marks.setdefault(attempt, set()).add(name)
    dead = [attempt for attempt, names in marks.items() if "started" in names and "ended" not in names]
    held = (audit.get(f"{batch_prefix}{attempt}/holds") for attempt in dead)
    return Past(bool(dead), frozenset(ref.decode() for ref in held if ref))
