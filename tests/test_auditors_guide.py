"""The auditor's guide: every block of it is run by a shell, in order, on an audit as the demo makes it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs" / "auditors-guide.md").read_text(), re.DOTALL | re.MULTILINE)
FACEFOG = Path(sys.executable).with_name("facefog")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each block printed, by its text."""
    home = tmp_path_factory.mktemp("guide")
    env = {**os.environ, "XDG_CONFIG_HOME": str(home / "config"), "COLUMNS": "110", "HOME": str(home)}
    (home / ".venv").mkdir()
    (home / ".venv" / "bin").symlink_to(FACEFOG.parent)
    _make_demo(home, env)
    marker = "=== end of block"
    script = "set -euo pipefail\n" + "".join(f"{block}echo '{marker}'\n" for block in BLOCKS)
    done = subprocess.run(["bash", "-c", script], cwd=home, env=env, capture_output=True, text=True, check=False)
    printed = done.stdout.split(f"{marker}\n")
    assert done.returncode == 0, f"block {len(printed)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return dict(zip(BLOCKS, printed, strict=False))


def _make_demo(home: Path, env: dict[str, str]) -> None:
    """The demo's lake, without Airflow: the same photos, signed with a key of its own."""
    make = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from samples import write_samples; "
        "write_samples(Path('build/demo/lake/raw'))"
    )
    lake, key = "build/demo/lake", "build/demo/signing.key"
    (home / lake).mkdir(parents=True)
    for command in (
        [sys.executable, "-c", make, str(ROOT / "demo")],
        [str(FACEFOG), "keys", "new"],
        [str(FACEFOG), "keys", "new", "--signing", "--file", key],
        [str(FACEFOG), "run", f"{lake}/raw", f"{lake}/clean", "--audit", f"{lake}/audit", "--signing-key", key],
    ):
        subprocess.run(command, cwd=home, env=env, check=True, capture_output=True)


def block(said: dict[str, str], command: str) -> str:
    """What the first block with this command printed."""
    return next(text for shell, text in said.items() if command in shell)


def test_every_block_runs(said: dict[str, str]) -> None:
    """No command of the guide fails; there is one output for each block."""
    assert set(said) == set(BLOCKS)
    assert len(BLOCKS) > 10


def test_the_record_verifies_and_the_store_is_proven(said: dict[str, str]) -> None:
    """The guide's first answers are what it says they are: all signed, pinned, seven objects proven."""
    text = block(said, "audit verify $AUDIT\n")
    assert re.search(r"verified +True", text)
    assert re.search(r"trust +pinned", text)
    assert re.search(r"proven +7", block(said, "--html build/demo/proof.html"))


def test_the_planted_photo_is_found(said: dict[str, str]) -> None:
    """A raw photo in the store is named, and the command exits with 1."""
    text = block(said, "holiday.jpg")
    assert re.search(r"raw-match +data/holiday.jpg", text)
    assert "exit code 1" in text


def test_a_reported_face_is_fogged_again(said: dict[str, str]) -> None:
    """The old output is taken away, and the new record says that a person saw it."""
    text = block(said, "--refog --box")
    assert re.search(r"objects removed +1", text)
    assert re.search(r"fogged +fog", text)


def test_after_the_erasure_everything_still_holds(said: dict[str, str]) -> None:
    """The last block erases an image: the erasure is reported, the chain verifies from the old head on, the store is clean."""
    text = block(said, '--reason "request 4711"')
    assert "erasure" in text
    assert re.search(r"verified +True", text)
    assert re.search(r"proven +6", text)


def test_the_stricter_policy_changes_something(said: dict[str, str]) -> None:
    """The replay of the guide lists images that a lower threshold would change."""
    assert "newly" in block(said, "stricter.yaml")
