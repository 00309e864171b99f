"""What the commands print: results on stdout, everything else on stderr; a progress bar on a terminal only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Advance = Callable[[int], None]

PIPE_WIDTH = 10_000
"""Columns when stdout is no terminal: nothing is folded, so that grep finds whole lines."""


def say(line: str) -> None:
    """One line for people, on stderr."""
    typer.echo(f"facefog: {line}", err=True)


def show(result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one result: a JSON object on one line, or a two-column table."""
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=True))
        return
    rows = [(name.replace("_", " "), value) for name, value in result.items()]
    _print(rows, header=None)


def show_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as a table with a header."""
    _print([tuple(row[name] for name in columns) for row in rows], header=columns)


def _print(rows: Sequence[Sequence[Any]], header: Sequence[str] | None) -> None:
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    table = Table(box=box.SIMPLE_HEAD if header else None, show_header=header is not None, pad_edge=False)
    for name in header or ("", ""):
        table.add_column(_cell(name), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _cell(value: Any) -> Text:
    """Text without markup; control characters in a hostile file name do not reach the terminal."""
    text = "" if value is None else str(value)
    return Text("".join(c if c.isprintable() else "\ufffd" for c in text))


@contextmanager
def progress(label: str, *, quiet: bool) -> Iterator[Callable[[int], Advance]]:
    """Give a function that takes the total and returns what advances the bar. No bar with ``quiet`` or in a pipe."""
    if quiet or not sys.stderr.isatty():
        yield lambda total: lambda n: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:

        def start(total: int) -> Advance:
            task = bar.add_task(label, total=total)
            return lambda n: bar.advance(task, n)

        yield start
