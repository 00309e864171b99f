"""One SQL statement as a person typed it: is it one, does it only read, which values does it name?

A first look, with short messages. What holds is below: DuckDB without access to files, SQLite under an authorizer, and
PostgreSQL's read-only transactions in the extended protocol, which takes one statement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_facefog.core.errors import ConfigurationError

_TOKEN = re.compile(
    r"""(?P<kept>'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|::)|:(?P<name>[A-Za-z_]\w*)|(?P<end>;)|(?P<other>.)""",
    re.DOTALL,
)
_SPACE = re.compile(r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)

READS = ("select", "with", "values", "from", "table", "describe", "show", "summarize")
"""First words of statements that only read; each engine knows some of them."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a driver writes a named value, and whether a per cent sign must be doubled beside one."""

    before: str
    after: str = ""
    doubled: bool = False


DUCKDB, SQLITE, PSYCOPG = Style("$"), Style(":"), Style("%(", ")s", doubled=True)


def one_statement(sql: str) -> str:
    """The statement without its semicolon. Raises ConfigurationError for none, several, or one that does not read."""
    text = sql.strip()
    text = text[_SPACE.match(text).end() :]  # type: ignore[union-attr]  # it matches the empty text too
    first = re.match(r"[A-Za-z]+", text.lstrip("("))
    if not text:
        raise ConfigurationError("the query is empty; give one SELECT statement")
    if first is None or first[0].lower() not in READS:
        raise ConfigurationError("only statements that read are answered: begin with SELECT, WITH or VALUES")
    end = next((match.start() for match in _TOKEN.finditer(text) if match["end"]), len(text))
    if _SPACE.fullmatch(text, end + 1) is None and end < len(text):
        raise ConfigurationError("several statements in one query are refused; ask one after the other")
    return text[:end]


def bind(sql: str, params: Mapping[str, Any], style: Style) -> tuple[str, dict[str, Any]]:
    """The statement in a driver's style, and the values that it names: ``:name`` outside of text and comments.

    Values are never part of the text. Raises ConfigurationError for a name without a value.
    """
    used: dict[str, Any] = {}
    pieces: list[str | tuple[Style, str]] = []
    for match in _TOKEN.finditer(sql):
        name = match["name"]
        if name is None:
            pieces.append(match[0])
            continue
        if name not in params:
            raise ConfigurationError(f"the query names :{name}, which has no value; give --param {name}=…")
        used[name] = params[name]
        pieces.append((style, name))
    return "".join(_written(piece, style, bool(used)) for piece in pieces), used


def _written(piece: str | tuple[Style, str], style: Style, has_values: bool) -> str:
    if isinstance(piece, tuple):
        return f"{style.before}{piece[1]}{style.after}"
    return piece.replace("%", "%%") if style.doubled and has_values else piece
