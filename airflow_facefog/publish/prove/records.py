"""Our own bookkeeping in ``_facefog/``: is each file one that we write, and nothing more?

Parts are held against the hashes that snapshots name. Whatever names it, a file must be what its name says (``shapes``,
``rows``) and come back to the same bytes when it is written again: a bookkeeping file is no place to hide a picture in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256

from airflow_facefog.publish.prove import shapes
from airflow_facefog.publish.prove.known import Known
from airflow_facefog.publish.prove.model import Hashed
from airflow_facefog.publish.prove.rows import rows_problem
from airflow_facefog.publish.prove.shown import named_parts

LARGEST = 1_000_000_000
"""Bytes. Bookkeeping above this is not read."""

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
    return any(form.fullmatch(key) for form in (_SNAPSHOT, _NOTE, _COMMITTED, _ROWS, _WITHDRAWN, _ERASED, _OTHER))


class Records:
    """Judges the bookkeeping of one destination. ``runs``: every (run_key, generation) that the audit knows,
    and (request_id, 0) of every erasure; ``known``: what its sealed runs published."""

    def __init__(self, read: Read, runs: Iterable[tuple[str, int]], known: Known) -> None:
        self._read = read
        self._runs = set(runs)
        self._known = known

    def judge(self, items: Sequence[Hashed]) -> dict[str, str]:
        """Key → what is wrong with it, for those that are not as they should be. ``items``: keys that ``is_record``."""
        named = self._named(items)
        wrong = {item.key: self._problem(item, named) for item in items}
        return {key: problem for key, problem in wrong.items() if problem}

    def gaps(self, items: Sequence[Hashed]) -> list[str]:
        """Keys that must have been there: snapshots below or named by what is there, and parts that snapshots name."""
        seen: dict[str, set[int]] = {}
        named: dict[str, set[int]] = {}
        for item in items:
            match, home = _SNAPSHOT.fullmatch(item.key), _HOME_OF.match(item.key)
            if match and home:
                seen.setdefault(home[0], set()).add(int(match["seq"]))
            elif home and (_COMMITTED.fullmatch(item.key) or item.key.endswith("/latest.json")):
                named.setdefault(home[0], set()).add(_seq(self._small(item)))
        homes = sorted({*seen, *named})
        gaps = [key for home in homes for key in _first_gaps(home, seen.get(home, set()), named.get(home, set()))]
        return gaps + sorted(set(self._named(items)) - {item.key for item in items})

    def _named(self, items: Sequence[Hashed]) -> dict[str, set[str]]:
        return named_parts(filter(None, (self._small(item) for item in items if _names_parts(item.key))))

    def _small(self, item: Hashed) -> bytes | None:
        return self._read(item.key) if item.size <= LARGEST else None

    def _problem(self, item: Hashed, named: Mapping[str, set[str]]) -> str:
        if item.key in named and item.digest.hex() not in named[item.key]:
            return "bookkeeping: it does not hold the bytes that a snapshot names"
        data = self._small(item)
        if data is None:
            return "bookkeeping: it cannot be read"
        for form, what in _OWNED.items():
            match = form.fullmatch(item.key)
            if match and (match["run"], int(match.groupdict().get("generation") or 0)) not in self._runs:
                return f"bookkeeping of {what} that the audit does not know"
        if item.key.endswith(".parquet"):
            return rows_problem(data, self._known, self._runs)
        return self._check_json(item.key, data)

    def _check_json(self, key: str, data: bytes) -> str:
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            return "bookkeeping: it is not the JSON that its name says"
        if data not in (json.dumps(body).encode(), json.dumps(body, indent=1).encode()):
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
