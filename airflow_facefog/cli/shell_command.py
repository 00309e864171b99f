"""``facefog audit shell``: questions one after the other, typed or piped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import typer

from airflow_facefog.audit.query import TIMEOUT_S, Engine
from airflow_facefog.cli.answers import TABLE_ROWS, print_table
from airflow_facefog.cli.query_commands import AuditOption, LimitOption, SqlOption, TimeoutOption, asking
from airflow_facefog.cli.screen import say, show_rows
from airflow_facefog.core.errors import ConfigurationError, FogError

HELP = "end a question with ; · .tables .views .reports .report NAME [k=v …] .schema NAME .help .quit"
PROMPT, MORE = "facefog> ", "    ...> "


def shell(
    audit: AuditOption = None,
    sql: SqlOption = None,
    limit: LimitOption = TABLE_ROWS,
    timeout: TimeoutOption = TIMEOUT_S,
) -> int:
    """Ask questions one after the other.

    Statements end with a semicolon; .help names the commands. Input from a pipe works too, and then exits 1 when a
    question was refused.
    """
    typed = sys.stdin.isatty()
    with asking(audit, sql, timeout) as opened:
        if typed:
            _edit_lines()
            say(HELP)
        failed = sum(not _answer(opened.engine, question, limit) for question in _questions(typed))
    return 1 if failed and not typed else 0


def _questions(typed: bool) -> Iterator[str]:
    """Dot commands are one line; SQL goes on until a line ends with a semicolon, or until the input ends."""
    held: list[str] = []
    for line in _lines(typed, held):
        text = line.strip()
        if not held and (not text or text.startswith(".")):
            if text in (".quit", ".exit"):
                return
            if text:
                yield text
            continue
        held.append(line)
        if text.endswith(";"):
            question = "\n".join(held)
            held.clear()
            yield question
    if "".join(held).strip():
        yield "\n".join(held)


def _lines(typed: bool, held: list[str]) -> Iterator[str]:
    if not typed:
        yield from sys.stdin
        return
    while True:
        try:
            yield input(MORE if held else PROMPT)
        except EOFError:
            typer.echo()
            return
        except KeyboardInterrupt:  # drops what was typed so far
            held.clear()
            typer.echo()


def _edit_lines() -> None:
    """Line editing and a history of this session, where Python has readline."""
    try:
        import readline  # noqa: F401  importing it is what switches it on
    except ImportError:
        return


def _answer(engine: Engine, question: str, limit: int) -> bool:
    """Answer one question; False when it was refused."""
    try:
        if question.startswith("."):
            name, *words = question.split()
            _command(name)(engine, words, limit)
        else:
            print_table(engine.stream(question), limit)
    except FogError as error:
        say(" ".join(str(error).split()))
        return False
    return True


def _command(name: str) -> Callable[[Engine, list[str], int], None]:
    if name not in COMMANDS:
        raise ConfigurationError(f"no command {name}; {HELP}")
    return COMMANDS[name]


def _tables(engine: Engine, words: list[str], limit: int) -> None:
    from airflow_facefog.audit.schema import TABLES

    show_rows([{"table": table.name, "holds": table.doc} for table in TABLES.values()], ("table", "holds"))


def _views(engine: Engine, words: list[str], limit: int) -> None:
    from airflow_facefog.audit.views import VIEWS

    show_rows([{"view": view.name, "question": view.question} for view in VIEWS], ("view", "question"))


def _reports(engine: Engine, words: list[str], limit: int) -> None:
    from airflow_facefog.audit.reports import REPORTS

    rows = [
        {"report": r.name, "parameters": " ".join(p.name for p in r.params), "question": r.question}
        for r in REPORTS.values()
    ]
    show_rows(rows, ("report", "parameters", "question"))


def _report(engine: Engine, words: list[str], limit: int) -> None:
    from airflow_facefog.audit.reports import report_named, run_report
    from airflow_facefog.cli.answers import read_params

    if not words:
        raise ConfigurationError("which report? .reports names them")
    print_table(run_report(engine, report_named(words[0]), read_params(words[1:])), limit)


def _schema(engine: Engine, words: list[str], limit: int) -> None:
    from airflow_facefog.audit.schema import TABLES
    from airflow_facefog.audit.views import view_named

    name = words[0] if words else ""
    if name in TABLES:
        rows = [
            {"column": c.name, "type": c.type + ("" if c.nullable else " not null"), "meaning": c.doc}
            for c in TABLES[name].columns
        ]
        show_rows(rows, ("column", "type", "meaning"))
        return
    try:
        view = view_named(name)
    except KeyError:
        raise ConfigurationError("no such table or view; .tables and .views name them") from None
    say(view.question)
    show_rows([{"column": column} for column in view.columns], ("column",))


def _help(engine: Engine, words: list[str], limit: int) -> None:
    say(HELP)


COMMANDS: dict[str, Callable[[Engine, list[str], int], None]] = {
    ".tables": _tables, ".views": _views, ".reports": _reports, ".report": _report, ".schema": _schema, ".help": _help,
}  # fmt: skip
