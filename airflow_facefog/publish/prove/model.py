"""The words of a proof: classes, states, findings. Light."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Class(StrEnum):
    """Where an object ends: exactly one of these. Only the first three are fine."""

    PROVEN = "proven"
    RECORD = "record"
    IGNORED = "ignored"
    RAW_MATCH = "raw-match"
    RAW_DERIVED = "raw-derived"
    TAMPERED = "tampered"
    ORPHAN = "orphan"
    MISSING = "missing"


FINE = frozenset({Class.PROVEN, Class.RECORD, Class.IGNORED})

WORST_FIRST = (Class.RAW_MATCH, Class.RAW_DERIVED, Class.TAMPERED, Class.ORPHAN, Class.MISSING)


class State(StrEnum):
    """What a proven object is to its dataset. ``PUBLISHED``: current or superseded, no snapshot at hand to tell."""

    CURRENT = "current"
    SUPERSEDED = "superseded"
    PUBLISHED = "published"
    UNCOMMITTED = "uncommitted"


class Found(NamedTuple):
    """One object of a walk. ``size`` in bytes, -1 when only opening it tells; ``special``: why it cannot be opened."""

    key: str
    size: int = -1
    special: str = ""


class Hashed(NamedTuple):
    """An object with its sha256 (32 bytes), or with the reason why it has none."""

    key: str
    size: int
    digest: bytes
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One object that is not simply proven. Keys may hold names, so it prints its class only.

    ``kind``: what the bytes are, from their first ones; ``raw``: whether raw pixels of a recorded image are in it;
    ``matched_*``: the recorded object or image that it was recognised by.
    """

    key: str = field(repr=False)
    cls: Class
    detail: str = field(repr=False)
    size: int = 0
    digest: bytes = field(repr=False, default=b"")
    kind: str = ""
    raw: bool = False
    run_key: str | None = None
    generation: int | None = None
    matched_sha256: str | None = field(repr=False, default=None)
    matched_key: str | None = field(repr=False, default=None)
    matched_source_ref: str | None = field(repr=False, default=None)
