"""Our own bookkeeping in ``_facefog/``: is each file one that we write, and nothing more?

Parts are held against the hashes that snapshots name. Whatever names it, a file must be what its name says (``shapes``,
``rows``) and come back to the same bytes when it is written again: a bookkeeping file is no place to hide a picture in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256

from airflow_facefog.audit.read_ahead import ahead
from airflow_facefog.publish.prove import shapes
from airflow_facefog.publish.prove.known import Known
from airflow_facefog.publish.prove.model import Hashed
from airflow_facefog.publish.prove.rows import rows_problem
from airflow_facefog.publish.prove.shown import named_parts
from airflow_facefog.publish.store import PROBE, PROBED

LARGEST = 1_000_000_000
"""Bytes. Bookkeeping above this is not read."""

TABLES_AT_ONCE = 2
"""Parts that are read at the same time: they may be large."""

UNREADABLE = "bookkeeping: it cannot be read"

_HOME = r"_facefog/(?:datasets/[A-Za-z0-9][A-Za-z0-9_-]{0,63}/)?"
_RUN = rf"{_HOME}runs/(?P<run>[0-9a-f]{{32}})/(?P<generation>[0-9]+)/"
_SNAPSHOT = re.compile(rf"{_HOME}snapshots/(?P<seq>[0-9]{{10}})\.json")
_NOTE = re.compile(rf"{_HOME}unmerged/[0-9]+-(?P<run>[0-9a-f]{{32}})-(?P<generation>[0-9]+)\.json")
_COMMITTED = re.compile(rf"{_RUN}committed\.json")
_ROWS = re.compile(rf"{_RUN}(?:part(?:-[0-9a-f]{{16}})?|delta-[0-9]{{10}})\.parquet")
_WITHDRAWN = re.compile(rf"{_HOME}withdrawals/(?P<run>[0-9a-f]{{32}})/delta-[0-9]{{10}}\.parquet")
_ERASED = re.compile(rf"{_HOME}erased/(?P<run>[0-9a-f]{{32}})-(?P<hash>[0-9a-f]{{12}})\.json")
_OWNED = {_ROWS: "a run", _NOTE: "a run", _COMMITTED: "a run", _WITHDRAWN: "an erasure", _ERASED: "an erasure"}
_HOME_OF = re.compile(_HOME)
_OTHER = re.compile(rf"{_HOME}(?P<name>dataset|latest)\.json")

Read = Callable[[str], bytes | None]


def is_record(key: str) -> bool:
    """Whether a key has a form that only our bookkeeping has."""
    forms = (_SNAPSHOT, _NOTE, _COMMITTED, _ROWS, _WITHDRAWN, _ERASED, _OTHER)
    return key == PROBE or any(form.fullmatch(key) for form in forms)


class Records:
    """Judges the bookkeeping of one destination. ``runs``: every (run_key, generation) that the audit knows,
    and (request_id, 0) of every erasure; ``known``: what its sealed runs published."""

    def __init__(self, read: Read, runs: Iterable[tuple[str, int]], known: Known) -> None:
        self._read = read
        self._runs = set(runs)
        self._known = known

    def judge(self, items: Sequence[Hashed]) -> tuple[dict[str, str], list[str]]:
        """(key → what is wrong with it, for those that are not as they should be; keys that must have been there).

        ``items``: keys that ``is_record``. What is missing: snapshots below or named by what is there, and parts that
        snapshots name. Each file is read once, several at a time.
        """
        named: dict[str, set[str]] = {}
        tables: list[Hashed] = []
        texts: list[Hashed] = []
        for item in items:
            (tables if item.key.endswith(".parquet") else texts).append(item)
        wrong: dict[str, str] = {}
        seqs: dict[str, tuple[set[int], set[int]]] = {}
        for item, data in zip(texts, ahead(self._small, texts), strict=True):
            wrong[item.key] = self._owner(item.key) or self._check_json(item.key, data)
            _note_seqs(seqs, item.key, data)
            if _names_parts(item.key):
                named_parts(data, named)
        for item, data in zip(tables, ahead(self._small, tables, TABLES_AT_ONCE), strict=True):
            wrong[item.key] = self._owner(item.key) or self._check_table(item, data, named)
        gaps = [key for home in sorted(seqs) for key in _first_gaps(home, *seqs[home])]
        missing = sorted(named.keys() - {item.key for item in items})
        return {key: problem for key, problem in wrong.items() if problem}, gaps + missing

    def _small(self, item: Hashed) -> bytes | None:
        return self._read(item.key) if item.size <= LARGEST else None

    def _owner(self, key: str) -> str:
        """Whether it is of a run or erasure that nobody knows."""
        for form, what in _OWNED.items():
            match = form.fullmatch(key)
            if match and (match["run"], int(match.groupdict().get("generation") or 0)) not in self._runs:
                return f"bookkeeping of {what} that the audit does not know"
        return ""

    def _check_table(self, item: Hashed, data: bytes | None, named: Mapping[str, set[str]]) -> str:
        if item.key in named and item.digest.hex() not in named[item.key]:
            return "bookkeeping: it does not hold the bytes that a snapshot names"
        return UNREADABLE if data is None else rows_problem(data, self._known, self._runs)

    def _check_json(self, key: str, data: bytes | None) -> str:
        if data is None:
            return UNREADABLE
        if key == PROBE:
            return "" if data == PROBED else "bookkeeping: it is not the probe that its name says"
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            return "bookkeeping: it is not the JSON that its name says"
        if json.dumps(body, indent=1 if data.startswith(b"{\n") else None).encode() != data:
            return "bookkeeping: it was not written by a run: its JSON is formed differently"
        snapshot, erased, other = (form.fullmatch(key) for form in (_SNAPSHOT, _ERASED, _OTHER))
        kind = "snapshot" if snapshot else "erased" if erased else other["name"] if other else ""
        kind = kind or ("note" if _NOTE.fullmatch(key) else "committed")
        if found := shapes.problem(kind, body, self._runs):
            return found
        if snapshot and body["seq"] != int(snapshot["seq"]):
            return "bookkeeping: it is not the snapshot that its name says"
        if erased and sha256(data).hexdigest()[:12] != erased["hash"]:
            return "bookkeeping: it is not the note of an erasure that its name says"
        return ""


def _note_seqs(seqs: dict[str, tuple[set[int], set[int]]], key: str, data: bytes | None) -> None:
    """Home → (numbers of snapshots that are there, numbers that something names)."""
    match, home = _SNAPSHOT.fullmatch(key), _HOME_OF.match(key)
    seen, named = seqs.setdefault(home[0] if home else "", (set(), set()))
    if match:
        seen.add(int(match["seq"]))
    elif _COMMITTED.fullmatch(key) or key.endswith("/latest.json"):
        named.add(_seq(data))


def _first_gaps(home: str, seen: set[int], named: set[int]) -> list[str]:
    """The first missing number of each gap; a forged high number makes one line, not a billion."""
    gaps, before = [], 0
    for seq in sorted({*seen, *named}):
        missing = before + 1 if seq > before + 1 else seq
        if missing not in seen and missing > 0:
            gaps.append(f"{home}snapshots/{missing:010d}.json")
        before = seq
    return gaps


def _names_parts(key: str) -> bool:
    return bool(_SNAPSHOT.fullmatch(key) or _NOTE.fullmatch(key))


def _seq(data: bytes | None) -> int:
    try:
        seq = json.loads(data or b"{}")["seq"]
    except (ValueError, KeyError, TypeError):
        return 0
    return seq if isinstance(seq, int) and 0 < seq < 10**9 else 0
