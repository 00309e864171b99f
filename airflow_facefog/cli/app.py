"""The command tree, and the border where an exception becomes one line and an exit code."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Sequence
from pathlib import Path

import click
import typer

from airflow_facefog import __version__
from airflow_facefog.cli import (
    audit_app,
    certificate_command,
    dataset_commands,
    detect_command,
    keys_command,
    life_commands,
    policy_commands,
    prove_command,
    run_command,
)
from airflow_facefog.core.errors import ConfigurationError, FogError, PlanMismatchError, PolicyError

DONE, FAILED, WRONG_USE = 0, 1, 2
"""Exit codes; 3 is what ``run --strict`` returns when an image was quarantined or failed."""

STOPPED = 130
"""What shells expect after Ctrl-C."""

USAGE = (PolicyError, ConfigurationError, PlanMismatchError)

app = typer.Typer(
    name="facefog",
    help="Detect and fog faces, licence plates and other regions in images, with an audit of every prediction.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks print local variables: raw pixels and keys
    rich_markup_mode=None,
)
app.command("run")(run_command.run)
app.command("detect")(detect_command.detect)
app.command("whois")(life_commands.whois)
app.command("erase")(life_commands.erase)
app.command("ls")(dataset_commands.list_images)
app.command("export")(dataset_commands.export)
app.command("certificate")(certificate_command.certificate)
app.command("prove")(prove_command.prove)
app.add_typer(policy_commands.app, name="policy")
app.add_typer(keys_command.app, name="keys")
app.add_typer(audit_app.app, name="audit")


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code. Nothing escapes: no traceback is ever printed."""
    _say_warnings()
    try:
        code = typer.main.get_command(app).main(args=list(argv), prog_name="facefog", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        typer.echo(error.format_message(), err=True)
        return WRONG_USE
    except click.ClickException as error:
        hint = f"; see `{error.ctx.command_path} --help`" if isinstance(error, click.UsageError) and error.ctx else ""
        return _fail("UsageError", error.format_message().rstrip(".") + hint, WRONG_USE, argv)
    except (KeyboardInterrupt, click.Abort):
        code = STOPPED
    except FogError as error:
        return _fail(type(error).__name__, str(error), WRONG_USE if isinstance(error, USAGE) else FAILED, argv)
    except Exception as error:  # a bug: name it and its place, never what it quotes
        frame = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}; its message is withheld"
        return _fail("InternalError", text, FAILED, argv)
    if code == STOPPED:
        return _fail("Stopped", "stopped; nothing was published that is not in the audit", STOPPED, argv)
    return code if isinstance(code, int) else DONE


def _fail(kind: str, message: str, code: int, argv: Sequence[str]) -> int:
    line = " ".join(message.split())
    typer.echo(f"facefog: {line}", err=True)
    if "--json" in argv:
        typer.echo(json.dumps({"error_class": kind, "error": line}))
    return code


class _Stderr(logging.Handler):
    """Writes to what stderr is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        typer.echo(self.format(record), err=True)


def _say_warnings() -> None:
    """Send this package's warnings to stderr, each as one line."""
    logger = logging.getLogger("airflow_facefog")
    if not logger.handlers:
        handler = _Stderr()
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter("facefog: %(message)s"))
        logger.addHandler(handler)
