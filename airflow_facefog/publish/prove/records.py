"""Our own bookkeeping in ``_facefog/``: is each file one that we write, and nothing more?

Parts are held against the hashes that snapshots name. Everything else must be what its name says, be no larger than that
needs, and come back to the same bytes when it is written again: a bookkeeping file is no place to hide a picture in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.publish import parts as p
from airflow_facefog.publish.dataset import FORMAT as DATASET_FORMAT
from airflow_facefog.publish.erased import FORMAT as ERASED_FORMAT
from airflow_facefog.publish.prove.model import Hashed
from airflow_facefog.publish.prove.shown import named_parts
from airflow_facefog.publish.snapshots import FORMAT as SNAPSHOT_FORMAT

LARGEST = 1_000_000_000
"""Bytes. Bookkeeping above this is not read."""

SMALL_JSON = 4_096
PART_JSON = 3_000
HASH_JSON = 70
"""Bytes that a small file, a snapshot's entry of one part, and a hash in the note of an erasure may take."""

_HOME = r"_facefog/(?:datasets/[A-Za-z0-9][A-Za-z0-9_-]{0,63}/)?"
_RUN = rf"{_HOME}runs/(?P<run>[0-9a-f]{{32}})/(?P<generation>\d+)/"
_SNAPSHOT = re.compile(rf"{_HOME}snapshots/(?P<seq>\d{{10}})\.json")
_NOTE = re.compile(rf"{_HOME}unmerged/\d+-(?P<run>[0-9a-f]{{32}})-(?P<generation>\d+)\.json")
_COMMITTED = re.compile(rf"{_RUN}committed\.json")
_ROWS = re.compile(rf"{_RUN}(?:part(?:-[0-9a-f]{{16}})?|delta-\d{{10}})\.parquet")
_WITHDRAWN = re.compile(rf"{_HOME}withdrawals/(?P<run>[0-9a-f]{{32}})/delta-\d{{10}}\.parquet")
_ERASED = re.compile(rf"{_HOME}erased/[0-9a-f]{{32}}-[0-9a-f]{{12}}\.json")
_HOME_OF = re.compile(_HOME)
_OTHER = re.compile(rf"{_HOME}(?P<name>dataset|latest)\.json")

Read = Callable[[str], bytes | None]


def is_record(key: str) -> bool:
    """Whether a key has a form that only our bookkeeping has."""
    return any(form.fullmatch(key) for form in (_SNAPSHOT, _NOTE, _COMMITTED, _ROWS, _WITHDRAWN, _ERASED, _OTHER))


class Records:
    """Judges the bookkeeping of one destination; ``runs``: every (run_key, generation) that the audit knows,
    and (request_id, 0) of every erasure."""

    def __init__(self, read: Read, runs: Iterable[tuple[str, int]]) -> None:
        self._read = read
        self._runs = set(runs)

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
        if item.key in named:
            return ""
        data = self._small(item)
        if data is None:
            return "bookkeeping: it cannot be read"
        if _ROWS.fullmatch(item.key):
            return self._foreign_run(item.key, _ROWS) or _check_rows(data)
        erasure = _WITHDRAWN.fullmatch(item.key)
        if erasure:
            known = (erasure["run"], 0) in self._runs
            return _check_rows(data) if known else "bookkeeping of an erasure that the audit does not know"
        return self._check_json(item.key, data)

    def _check_json(self, key: str, data: bytes) -> str:
        try:
            body = json.loads(data)
            room = SMALL_JSON + PART_JSON * len(body.get("parts", ()))
            room += HASH_JSON * sum(len(body.get(name, ())) for name in ("dropped", "withdrawn"))
        except (ValueError, AttributeError, TypeError):
            return "bookkeeping: it is not the JSON that its name says"
        if json.dumps(body).encode() != data and json.dumps(body, indent=1).encode() != data:
            return "bookkeeping: it was not written by a run: its JSON is formed differently"
        if len(data) > room:
            return f"bookkeeping: it has {len(data)} bytes, more than it can need"
        return self._check_body(key, body)

    def _check_body(self, key: str, body: Mapping[str, Any]) -> str:
        snapshot, other = _SNAPSHOT.fullmatch(key), _OTHER.fullmatch(key)
        if snapshot and (body.get("format") != SNAPSHOT_FORMAT or body.get("seq") != int(snapshot["seq"])):
            return "bookkeeping: it is not the snapshot that its name says"
        if other and other["name"] == "dataset" and body.get("format") != DATASET_FORMAT:
            return "bookkeeping: it is not a dataset description"
        if other and other["name"] == "latest" and set(body) != {"seq"}:
            return "bookkeeping: it is not the number of a snapshot"
        if _ERASED.fullmatch(key) and body.get("format") != ERASED_FORMAT:
            return "bookkeeping: it is not the note of an erasure"
        return self._foreign_run(key, _NOTE) or self._foreign_run(key, _COMMITTED)

    def _foreign_run(self, key: str, form: re.Pattern[str]) -> str:
        match = form.fullmatch(key)
        if match is None or (match["run"], int(match["generation"])) in self._runs:
            return ""
        return "bookkeeping of a run that the audit does not know"


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


def _check_rows(data: bytes) -> str:
    """A part or delta that no snapshot names by its hash: it must hold its rows and nothing else."""
    try:
        again = p.encode(p.decode(data))
    except ConfigurationError:
        return "bookkeeping: it is not the Parquet that its name says"
    if again == data or (_writer(again) != _writer(data) and len(data) <= 1.1 * len(again) + 4096):
        return ""
    return "bookkeeping: it holds more than its rows"


def _writer(data: bytes) -> str:
    """Which version of which library wrote it: another one may write other bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return str(pq.ParquetFile(pa.BufferReader(data)).metadata.created_by)


def _seq(data: bytes | None) -> int:
    try:
        seq = json.loads(data or b"{}")["seq"]
    except (ValueError, KeyError, TypeError):
        return 0
    return seq if isinstance(seq, int) and 0 < seq < 10**9 else 0
