"""Every test of the command line has its own config folder and no key in the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_world import Terminal


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty config folder, and no key in the environment."""
    monkeypatch.delenv("FACEFOG_KEY", raising=False)
    monkeypatch.delenv("FACEFOG_KEY_FILE", raising=False)
    monkeypatch.delenv("FACEFOG_SIGNING_KEY_FILE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """A world with no photos yet."""
    return Terminal(tmp_path, capsys)
