"""Which runs there are: by the files of ``runs/`` and by the chain."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from airflow_facefog.audit import chain
from airflow_facefog.audit.chain import Entry, entry_key
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.verifying.findings import Code, Findings

Name = tuple[str, int]
"""(run_key, generation)."""

_FILE = re.compile(r"runs/([^/]+)/(0|[1-9][0-9]*)/(.+)")


@dataclass(frozen=True, slots=True)
class Home:
    """One run generation: its files in ``runs/``, its chain entry and its amendments."""

    run: Name
    files: frozenset[str] = field(default=frozenset(), repr=False)
    entry: Entry | None = None
    amendments: tuple[Entry, ...] = ()

    @property
    def folder(self) -> str:
        """Key prefix of its files, without a slash at the end."""
        return f"runs/{self.run[0]}/{self.run[1]}"

    @property
    def manifest_key(self) -> str:
        """Key of its manifest."""
        return f"{self.folder}/manifest.json"


def survey(audit: Objects, entries: Iterable[Entry], findings: Findings) -> list[Home]:
    """Every run generation that files or chain name, sorted. Names files of ``runs/`` outside of any run."""
    files: dict[Name, set[str]] = defaultdict(set)
    for key in audit.list("runs"):
        match = _FILE.fullmatch(key)
        if match is None:
            findings.add(Code.FOREIGN_FILE, key, "it lies in no run's folder; nothing of facefog writes here")
        else:
            files[match[1], int(match[2])].add(key)
    seals: dict[Name, Entry] = {}
    amendments: dict[Name, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.kind == chain.RUN:
            seals.setdefault(entry.run, entry)
        else:
            amendments[entry.run].append(entry)
    _name_unfounded(amendments, set(files) | set(seals), findings)
    return [
        Home(name, frozenset(files[name]), seals.get(name), tuple(amendments[name]))
        for name in sorted({*files, *seals})
    ]


def _name_unfounded(amendments: dict[Name, list[Entry]], known: set[Name], findings: Findings) -> None:
    for name, entries in amendments.items():
        for entry in entries if name not in known else ():
            findings.add(Code.AMENDMENT_WRONG, entry_key(entry.seq), "it amends a run that is not there")
