"""``facefog policy …``, ``keys …`` and the help."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path

import click
import pytest
import typer
from cli_world import Terminal

from airflow_facefog import __version__
from airflow_facefog.cli import screen
from airflow_facefog.cli.app import app
from airflow_facefog.core.policy import FogPolicy, load_policy


def commands() -> dict[str, click.Command]:
    """Every command by its words."""
    found: dict[str, click.Command] = {}

    def walk(command: click.Command, words: tuple[str, ...]) -> None:
        if isinstance(command, click.Group):
            for name, child in command.commands.items():
                walk(child, (*words, name))
        else:
            found[" ".join(words)] = command

    walk(typer.main.get_command(app), ())
    return found


def test_commands() -> None:
    """The commands of every user exist, and none that nobody promised."""
    expected = {"run", "detect", "ls", "export", "policy show", "policy check", "policy schema", "keys new"}
    expected |= {"audit seal", "audit head"}
    names = "verify query shell report show diff-policy expire load check migrate role"
    auditing = {"prove", "certificate", "whois", "erase", *(f"audit {name}" for name in names.split())}
    assert expected <= set(commands()) <= expected | auditing


@pytest.mark.parametrize("words", sorted(commands()))
def test_every_word_has_help(terminal: Terminal, words: str) -> None:
    """Each command explains itself and each of its options; each but the conversation offers --json."""
    command = commands()[words]
    assert command.help
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert all(option.help for option in options if "--help" not in option.opts)
    assert words == "audit shell" or "--json" in {opt for option in options for opt in option.opts}
    assert terminal.facefog(*words.split(), "--help").code == 0


def test_version(terminal: Terminal) -> None:
    """--version prints the package's version."""
    assert terminal.facefog("--version").out.strip() == __version__


def test_nothing_said(terminal: Terminal) -> None:
    """Without a command the help is shown, and the exit code says that nothing was done."""
    done = terminal.facefog()
    assert done.code == 2
    assert "run" in done.err


def test_shown_policy_is_the_policy(terminal: Terminal) -> None:
    """What ``policy show`` prints is a valid file of the very same policy."""
    path = terminal.root / "p.yaml"
    path.write_text(terminal.facefog("policy", "show").out)
    assert load_policy(path) == FogPolicy()
    assert FogPolicy(**terminal.facefog("policy", "show", "--json").json) == FogPolicy()


def test_policy_show_fills_in(terminal: Terminal) -> None:
    """A short file is shown with every default."""
    path = terminal.root / "p.yaml"
    path.write_text("name: mine\nrules: {face: {method: fill}}")
    shown = terminal.facefog("policy", "show", path, "--json").json
    assert (shown["name"], shown["rules"]["face"]["method"], shown["record_floor"]) == ("mine", "fill", 0.1)


def test_policy_check(terminal: Terminal) -> None:
    """A good file exits 0 with its hash; a bad one exits 2 and names the valid settings."""
    path = terminal.root / "p.yaml"
    path.write_text("other_classes: ignore")
    good = terminal.facefog("policy", "check", path, "--json")
    assert (good.code, good.json["policy_hash"]) == (0, load_policy(path).policy_hash())
    path.write_text("other_class: ignore")
    bad = terminal.facefog("policy", "check", path)
    assert bad.code == 2
    assert "other_classes" in bad.err


def test_policy_schema(terminal: Terminal) -> None:
    """The JSON schema has every field of the policy and refuses unknown ones."""
    schema = json.loads(terminal.facefog("policy", "schema").out)
    assert set(schema["properties"]) == set(FogPolicy.model_fields)
    assert schema["additionalProperties"] is False
    assert terminal.facefog("policy", "schema", "--json").json == schema


def test_keys_new(terminal: Terminal, config: Path) -> None:
    """The key's place and id are printed, the key itself is not."""
    made = terminal.facefog("keys", "new", "--json")
    path = config / "facefog" / "master.key"
    key = path.read_text().strip()
    assert made.json["path"] == str(path)
    assert len(made.json["key_id"]) == 8
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key not in made.out + made.err


def test_keys_new_print(terminal: Terminal) -> None:
    """--print shows the key, for an Airflow connection; --file puts it elsewhere."""
    path = terminal.root / "k"
    made = terminal.facefog("keys", "new", "--file", path, "--print", "--json")
    assert made.json["key"] == path.read_text().strip()


def test_keys_new_twice(terminal: Terminal, config: Path) -> None:
    """A key that is there is never replaced, and never quoted."""
    terminal.facefog("keys", "new")
    key = (config / "facefog" / "master.key").read_text()
    again = terminal.facefog("keys", "new")
    assert again.code == 2
    assert (config / "facefog" / "master.key").read_text() == key
    assert key.strip() not in again.out + again.err


class Screen(io.StringIO):
    """A stderr that is a terminal or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "quiet", "drawn"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_progress_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, terminal: bool, quiet: bool, drawn: bool) -> None:
    """A bar is drawn on a terminal and not with --json; in a pipe there is not a byte of it."""
    monkeypatch.setenv("TERM", "xterm")
    stderr = Screen(terminal)
    monkeypatch.setattr(sys, "stderr", stderr)
    with screen.progress("fogging", quiet=quiet) as start:
        advance = start(3)
        advance(3)
    assert ("3/3" in stderr.getvalue()) == drawn
    assert bool(stderr.getvalue()) == drawn
