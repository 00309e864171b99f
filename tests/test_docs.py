"""The documentation says what the code does: options, settings, tables, snippets and links are compared with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
import yaml

from airflow_facefog import __version__
from airflow_facefog.cli import policy_doc
from airflow_facefog.cli.app import app
from airflow_facefog.cli.local_run import COUNTS
from airflow_facefog.core.policy import DEFAULT_MARGINS, FogPolicy, Method, load_policy

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
CLI = (ROOT / "docs" / "cli.md").read_text()
POLICY = (ROOT / "docs" / "policy.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def blocks(text: str, language: str) -> list[str]:
    """Fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands() -> dict[str, click.Command]:
    """Every command by its words."""
    root = typer.main.get_command(app)
    assert isinstance(root, click.Group)
    found: dict[str, click.Command] = {}
    for name, command in root.commands.items():
        if isinstance(command, click.Group):
            found |= {f"{name} {child}": inner for child, inner in command.commands.items()}
        else:
            found[name] = command
    return found


def test_policy_table() -> None:
    """The README's table of settings is the one that the policy itself gives."""
    table = re.search(r"<!-- policy table:.*?-->\n\n(.*?)\n<!-- end of policy table -->", README, re.DOTALL)
    assert table is not None
    assert table[1] == policy_doc.markdown()


def test_policy_table_is_whole() -> None:
    """Every setting of every level has a meaning in the table, and no meaning is left over."""
    named = set(re.findall(r"^\| `([^`]+)` \|", policy_doc.markdown(), re.MULTILINE))
    assert named == set(policy_doc.MEANINGS)
    assert {name.split(".")[0] for name in named} == set(FogPolicy.model_fields)


@pytest.mark.parametrize("method", [method.value for method in Method])
def test_methods(method: str) -> None:
    """Every method is explained in the README."""
    assert re.search(rf"^\| `{method}` \|", README, re.MULTILINE)


def test_margins() -> None:
    """The margins in docs/policy.md are the code's."""
    rows = re.findall(r"^\| (face|plate|text|other) \|.*\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", POLICY, re.MULTILINE)
    written = {kind: tuple(map(float, values)) for kind, *values in rows}
    assert written == {kind.value: (m.sides, m.top, m.bottom) for kind, m in DEFAULT_MARGINS.items()}


@pytest.mark.parametrize("text", blocks(POLICY, "yaml"))
def test_example_policies(text: str) -> None:
    """Policies shown as examples are valid."""
    assert load_policy(yaml.safe_load(text)).name == "street"


@pytest.mark.parametrize("words", sorted(commands()))
def test_commands(words: str) -> None:
    """Each command has its section in docs/cli.md with all of its options and arguments, and is named in the README."""
    heading, body = re.findall(rf"^## facefog ({words}\b[^\n]*)\n(.*?)(?=^## |\Z)", CLI, re.MULTILINE | re.DOTALL)[0]
    for parameter in commands()[words].params:
        if isinstance(parameter, click.Argument):
            assert (parameter.name or "").upper() in heading
        else:
            assert set(parameter.opts) & set(re.findall(r"--[a-z-]+", body)) or parameter.opts == ["--help"]
    assert f"facefog {words.split()[0]}" in README


def test_no_option_is_invented() -> None:
    """docs/cli.md and README name no option that no command has."""
    known = {opt for command in commands().values() for parameter in command.params for opt in parameter.opts}
    known |= {"--help", "--version"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", CLI)) <= known


def test_result_of_run() -> None:
    """The JSON object in docs/cli.md has the keys that ``run --json`` prints."""
    shown = re.search(r"print `\{(\"run_key\".*?)\}`", CLI)
    assert shown is not None
    assert re.findall(r'"(\w+)"', shown[1]) == [
        "run_key", *COUNTS, "manifest_uri", "signed", "chain_head", "seconds",
    ]  # fmt: skip


def test_readme_dag_is_short() -> None:
    """The README's Dag fits on fifteen lines of code."""
    (snippet,) = blocks(README, "python")
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 15


def test_readme_dag_loads(tmp_path: Path) -> None:
    """The README's Dag, put into an empty Dag folder, loads in Airflow with its three tasks."""
    (snippet,) = blocks(README, "python")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "anonymise.py").write_text(snippet)
    code = (
        "from airflow.dag_processing.dagbag import DagBag\n"
        "import sys; bag = DagBag(dag_folder=sys.argv[1]); assert not bag.import_errors, bag.import_errors\n"
        "print(sorted(bag.dags['anonymise'].task_ids))"
    )
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "home"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{tmp_path}/airflow.db"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "dags")], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "['fog_images.fog', 'fog_images.list_images', 'fog_images.publish']"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    """Every relative link leads to a file of this repository."""
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_changelog_has_the_version() -> None:
    """The version of the package has an entry."""
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
