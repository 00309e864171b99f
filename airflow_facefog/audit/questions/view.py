"""What a view is: a question with a name, and a SELECT that means the same in SQLite, PostgreSQL and DuckDB.

Rules that keep it so: no FILTER, QUALIFY or percentile functions; flags are summed as 0 and 1; a ratio is cast to double
precision before it is divided; times are UTC ISO-8601 text, compared and cut as text; no cast to int (it rounds here and
truncates there); no ORDER BY; nothing that depends on the order of text under a collation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

PREFIX = "facefog_v_"


@dataclass(frozen=True, slots=True)
class View:
    """One question. ``name`` starts with ``facefog_v_``; ``sql`` is a SELECT over audit tables and earlier views."""

    name: str
    question: str
    sql: str = field(repr=False)
    columns: tuple[str, ...] = ()

    @property
    def create_sql(self) -> str:
        """The statement that creates it; SQLite knows no CREATE OR REPLACE VIEW, so drop it first."""
        return f"create view {self.name} as {self.sql}"

    @property
    def drop_sql(self) -> str:
        """The statement that drops it when it is there. Drop views in the reverse of their order."""
        return f"drop view if exists {self.name}"


def view(name: str, question: str, columns: str, sql: str) -> View:
    """A view from its short name; ``columns`` are words."""
    return View(
        PREFIX + name, question, "\n".join(line.rstrip() for line in sql.strip().splitlines()), tuple(columns.split())
    )
