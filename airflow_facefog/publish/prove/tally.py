"""Counts, the Parquet report (one row per object, written as it goes) and the findings for JSON and page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_facefog.publish.prove.model import FINE, WORST_FIRST, Class, Finding, Hashed, State

LISTED = 10_000
"""Findings that JSON and page can show; the Parquet report has every object."""

ROWS = 20_000
"""Rows held before they are written."""

SCHEMA = pa.schema([
    ("key", pa.string()), ("class", pa.string()), ("state", pa.string()), ("detail", pa.string()), ("kind", pa.string()),
    ("raw", pa.bool_()), ("size", pa.int64()), ("sha256", pa.string()), ("run_key", pa.string()), ("generation", pa.int64()),
    ("matched_sha256", pa.string()), ("matched_key", pa.string()), ("matched_source_ref", pa.string()),
])  # fmt: skip
"""Columns of the Parquet report. ``key`` may hold a name: the report is as restricted as the audit."""

Run = tuple[str | None, int | None]


class Tally:
    """Counts every object once and keeps what a report needs."""

    def __init__(self) -> None:
        self.objects: Counter[Class] = Counter()
        self.bytes: Counter[Class] = Counter()
        self.states: Counter[State] = Counter()
        self.raw = 0
        self.renamed = 0
        self.left_off = 0
        self._findings: dict[Class, list[Finding]] = {}
        self._rows: list[tuple[Any, ...]] = []
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, SCHEMA, compression="zstd")

    def proven(
        self, items: Sequence[Hashed], states: Sequence[State], runs: Sequence[Run], details: Sequence[str]
    ) -> None:
        """Objects whose bytes were recorded."""
        self.objects[Class.PROVEN] += len(items)
        self.bytes[Class.PROVEN] += sum(item.size for item in items)
        self.states.update(states)
        self.renamed += sum(map(bool, details))
        name = Class.PROVEN.value
        self._rows += [
            (
                item.key,
                name,
                state.value,
                detail or None,
                None,
                False,
                item.size,
                item.digest.hex(),
                *run,
                None,
                None,
                None,
            )
            for item, state, run, detail in zip(items, states, runs, details, strict=True)
        ]
        self._flush(ROWS)

    def add(self, finding: Finding) -> None:
        """One object of any other class."""
        self.objects[finding.cls] += 1
        self.bytes[finding.cls] += finding.size
        self.raw += finding.raw
        self._rows.append((
            finding.key, finding.cls.value, None, finding.detail, finding.kind or None, finding.raw, finding.size,
            finding.digest.hex() or None, finding.run_key, finding.generation, finding.matched_sha256,
            finding.matched_key, finding.matched_source_ref,
        ))  # fmt: skip
        self._flush(ROWS)
        if finding.cls not in FINE:
            kept = self._findings.setdefault(finding.cls, [])
            if len(kept) < LISTED:
                kept.append(finding)
            else:
                self.left_off += 1

    @property
    def findings(self) -> list[Finding]:
        """What is not fine, worst class first, by key; at most ``LISTED`` of each class."""
        return [item for cls in WORST_FIRST for item in sorted(self._findings.get(cls, ()), key=lambda f: f.key)]

    def parquet(self) -> bytes:
        """The report file. Ends the tally."""
        self._flush(1)
        self._writer.close()
        return bytes(self._sink.getvalue())

    def _flush(self, least: int) -> None:
        if len(self._rows) < least:
            return
        columns = zip(*self._rows, strict=True)
        arrays = [pa.array(map(printable, column) if field.name.endswith("key") else column, field.type)
                  for column, field in zip(columns, SCHEMA, strict=True)]  # fmt: skip
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
        self._rows = []


def printable(key: str | None) -> str | None:
    """A key as UTF-8 text: bytes of a file name that are none become ``\\xff``."""
    if key is None or key.isascii():
        return key
    return key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
