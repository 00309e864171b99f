"""The repository as a whole: installs from pins alone, one command for everything, no trace of the machine it was made on."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SKIPPED = {
    ".git",
    ".venv",
    "build",
    "dist",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
}


def files() -> list[Path]:
    """All files of the repository, in a clone as well as in an unpacked archive."""
    found: list[Path] = []
    for folder, names, here in os.walk(ROOT):
        names[:] = [name for name in names if name not in SKIPPED]
        found += [Path(folder, name) for name in here]
    return found


def pins() -> dict[str, str]:
    """Normalised name → version of constraints.txt. Fails for any line that is not one pin."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+]+)", line)
        assert match is not None, line
        found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


def test_pins_cover_what_is_installed() -> None:
    """constraints.txt holds only name==version lines and pins every package that pyproject asks for."""
    wanted = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["dependency-groups"]["dev"]]
    names = {re.split(r"[\[<>=!~ ;]", text)[0] for text in wanted}
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in names} <= set(pins())
    assert "pip" in pins()


@pytest.mark.parametrize("name", ["constraints.txt", "Makefile", ".ci/run", "pyproject.toml"])
def test_no_package_index(name: str) -> None:
    """Where packages come from is the user's pip's business."""
    assert not re.search(r"index-url|find-links|trusted-host|simple/", (ROOT / name).read_text())


def test_no_path_of_a_machine() -> None:
    """No file names a folder of the machine on which it was written."""
    here = sorted(re.escape(folder) for folder in (f"{ROOT}/", f"{Path.home()}/."))
    pattern = re.compile("|".join(["/home/[a-z]+/", *here]).encode())
    assert [str(path.relative_to(ROOT)) for path in files() if pattern.search(path.read_bytes())] == []


@pytest.mark.parametrize("target", ["help", "demo", "test", "check", "lint", "types", "bench", "e2e", "clean"])
def test_make_targets(target: str) -> None:
    """Each promised target exists and explains itself."""
    assert re.search(rf"^{target}:.*## \w+", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_make_installs_once(tmp_path: Path) -> None:
    """With a venv that is newer than the pins, ``make test`` runs the tests and nothing else."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / ".installed").touch()
    plan = subprocess.run(
        ["make", "-n", "test", f"VENV={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "pip" not in plan
    assert "pytest" in plan


def test_ci_runs_what_people_run() -> None:
    """.ci/run is executable, stops at the first failure and calls make only."""
    script = ROOT / ".ci" / "run"
    text = script.read_text()
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in text
    assert re.findall(r"^step (make \w+)", text, re.MULTILINE) == ["make check", "make e2e", "make bench"]


@pytest.mark.parametrize(
    "target",
    [*PYPROJECT["project"]["scripts"].values(), PYPROJECT["project"]["entry-points"]["apache_airflow_provider"]["provider_info"]],
)  # fmt: skip
def test_entry_points(target: str) -> None:
    """Every entry point names a callable."""
    module, _, name = target.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_every_test_says_what_it_is_for() -> None:
    """Each test function has a docstring."""
    silent = [
        f"{path.name}:{node.name}"
        for path in files()
        if path.name.startswith("test_") and path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert silent == []
