"""How answers of the audit are printed or written: a table for people, CSV, JSON and Parquet for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from airflow_facefog.audit.answer import Stream, write_csv, write_json, write_parquet
from airflow_facefog.cli.screen import say, show_rows
from airflow_facefog.core.errors import ConfigurationError

TABLE_ROWS = 100


class Format(StrEnum):
    """How rows come out."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def give(answered: Stream, how: Format, output: Path | None, limit: int) -> None:
    """Print or write rows; ``limit`` is for tables only. Raises ConfigurationError for a file that cannot be written."""
    if how is Format.PARQUET and output is None:
        raise ConfigurationError("Parquet is no text: name a file with -o FILE.parquet")
    if how is Format.TABLE and output is None:
        return print_table(answered, limit)
    try:
        count = _write(answered, how, output)
    except OSError as error:
        raise ConfigurationError(
            f"the output cannot be written ({error.strerror}); name another file with -o"
        ) from None
    if output is not None:
        say(f"{count} rows written")
    return None


def print_table(answered: Stream, limit: int) -> None:
    """The first rows as a table, with a note when there are more."""
    found = answered.answer(limit)
    show_rows(found.dicts(), found.columns)
    if found.more:
        say(f"the first {limit} rows; more with --limit N, all of them with --format csv")
    elif not found.rows:
        say("no rows")


def _write(answered: Stream, how: Format, output: Path | None) -> int:
    if output is not None:
        os.close(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))  # as restricted as the audit
    if how is Format.PARQUET:
        return write_parquet(answered, str(output))
    write = write_json if how is Format.JSON else write_csv
    if output is None:
        return write(_printable(answered) if sys.stdout.isatty() else answered, sys.stdout)
    with output.open("w", encoding="utf-8", newline="") as file:
        return write(answered, file)


def _printable(answered: Stream) -> Stream:
    """The same rows, fit for a terminal."""
    safe = (
        [tuple(printable(v) if isinstance(v, str) else v for v in row) for row in chunk] for chunk in answered.chunks
    )
    return Stream(answered.columns, safe)


def printable(text: str) -> str:
    """Text without control characters: one in a hostile name does not reach the terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def read_params(given: Sequence[str]) -> dict[str, str]:
    """``k=v`` options. Raises ConfigurationError for anything else and for a name given twice."""
    values: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier() or name in values:
            raise ConfigurationError("--param takes NAME=VALUE, each name once")
        values[name] = value
    return values
