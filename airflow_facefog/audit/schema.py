"""The one column list: Parquet parts, SQL tables, docs and the UI are made from it. Light: safe at Dag-parse time.

Types: ``text``; ``json`` and ``timestamp`` (UTC, ISO-8601) are text too; ``integer`` 64 bit; ``flag`` 0 or 1 (every SQL
dialect can sum it); ``float`` 64 bit. Boxes are xyxy pixels of the upright image, origin top-left, half-open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from airflow_facefog.audit import columns

Type = Literal["text", "json", "timestamp", "integer", "flag", "float"]

SCHEMA_VERSION = 2
"""Rises with any change that an older reader would misread; recorded in every Parquet part and in SQL."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``nullable`` False: a row without it is refused before anything is written."""

    name: str
    type: Type
    nullable: bool
    doc: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table; ``primary_key`` names columns."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(column.name for column in self.columns)

    @property
    def part(self) -> str:
        """File name of this table's compacted part of a run."""
        return f"{self.name.removeprefix('facefog_')}.parquet"


_TYPES: Mapping[str, Type] = {
    "text": "text", "json": "json", "timestamp": "timestamp", "integer": "integer", "flag": "flag", "float": "float",
}  # fmt: skip


def _table(name: str, doc: str, lines: str, *primary_key: str) -> Table:
    """Read ``name type[?] doc`` lines; ``?`` means nullable."""
    found = []
    for line in lines.strip().splitlines():
        column, kind, text = line.split(maxsplit=2)
        found.append(Column(column, _TYPES[kind.rstrip("?")], kind.endswith("?"), text))
    return Table(name, doc, tuple(found), primary_key)


RUN = _table("facefog_run", "One generation of a run.", columns.RUN, "run_key", "generation")
INTENT = _table(
    "facefog_intent", "What an attempt was about to publish: durable before the object exists, append-only.",
    columns.INTENT, "run_key", "generation", "source_ref", "attempt_id", "output_key",
)  # fmt: skip
IMAGE = _table("facefog_image", "One row per listed item.", columns.IMAGE, "run_key", "generation", "source_ref")
DETECTION = _table(
    "facefog_detection", "One row per cluster of detections above the record floor, fogged or not.",
    columns.DETECTION, "run_key", "generation", "source_ref", "det_idx",
)  # fmt: skip
SOURCE = _table(
    "facefog_source", "Which URI a source_ref stands for: restricted, short retention.", columns.SOURCE, "source_ref"
)
EGRESS = _table(
    "facefog_egress", "One row per image that left this process for a named host.",
    columns.EGRESS, "run_key", "generation", "source_ref", "attempt_id", "egress_idx",
)  # fmt: skip
ERASURE = _table(
    "facefog_erasure", "One row per part that an erasure or expiry changed; no trace of whose rows they were.",
    columns.ERASURE, "request_id", "run_key", "generation", "part", "seq",
)  # fmt: skip

TABLES: Mapping[str, Table] = {t.name: t for t in (RUN, INTENT, IMAGE, DETECTION, SOURCE, EGRESS, ERASURE)}


def table(name: str) -> Table:
    """The table of this name. Raises KeyError that lists the names."""
    if name not in TABLES:
        raise KeyError(f"no audit table {name!r}; there are: {', '.join(TABLES)}")
    return TABLES[name]


def markdown() -> str:
    """The tables as Markdown, as shown in ``docs/audit.md``."""
    blocks = []
    for item in TABLES.values():
        rows = [f"### {item.name}", "", f"{item.doc} Primary key: {', '.join(f'`{c}`' for c in item.primary_key)}.", ""]
        rows += ["| column | type | null | meaning |", "|---|---|---|---|"]
        rows += [f"| `{c.name}` | {c.type} | {'yes' if c.nullable else 'no'} | {c.doc} |" for c in item.columns]
        blocks.append("\n".join(rows))
    return "\n\n".join(blocks) + "\n"
