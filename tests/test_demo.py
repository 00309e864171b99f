"""The demo: what the samples are made of, what the contact sheet may show, and the whole of it in real Airflow."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "demo"))

import contact_sheet  # noqa: E402
import run_demo  # noqa: E402
import samples  # noqa: E402

from airflow_facefog.cli.published import RunImages  # noqa: E402


def test_one_sample_is_broken() -> None:
    """All samples but the broken one decode."""
    for sample in samples.SAMPLES:
        picture = Image.open(io.BytesIO(sample.make()))
        if sample.name == "broken.jpg":
            with pytest.raises(OSError, match="truncated"):
                picture.load()
        else:
            picture.load()


def test_rotated_sample_hides_a_face() -> None:
    """The rotated sample really is turned by EXIF, and holds a second JPEG: the bare thumbnail."""
    data = samples.rotated()
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6
    thumbnail = data[data.index(b"\xff\xd8\xff", 2) :]
    assert Image.open(io.BytesIO(thumbnail)).size == (160, 160)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo home with one original (red) and its published image (blue)."""
    for name, value in {"HOME": tmp_path, "LAKE": tmp_path / "lake"}.items():
        monkeypatch.setattr(run_demo, name, value)
    for folder, colour in (("raw", "red"), ("clean", "blue")):
        (tmp_path / "lake" / folder).mkdir(parents=True)
        Image.new("RGB", (300, 200), colour).save(tmp_path / "lake" / folder / "a.png")
    return tmp_path / "lake"


def the_run(lake: Path) -> RunImages:
    """A run that published this image."""
    row: dict[str, Any] = {
        "source_uri": f"file://{lake}/raw/a.png", "output_uri": f"file://{lake}/clean/a.png", "n_fogged": 1,
        "status": "published", "reason": None,
    }  # fmt: skip
    return RunImages("k", 0, "final", [row])


def colours(sheet: Path) -> set[str]:
    """Which of the two pictures are on the sheet."""
    names = {(255, 0, 0): "original", (0, 0, 255): "published"}
    found = Image.open(sheet).convert("RGB").getcolors(1 << 24) or []
    return {names[colour] for _, colour in found if colour in names}  # type: ignore[index]


@pytest.mark.parametrize(
    ("own", "show_raw", "shown"),
    [
        (False, "", {"original", "published"}),
        (True, "", {"published"}),
        (True, "0", {"published"}),
        (True, "1", {"original", "published"}),
    ],
)
def test_what_the_sheet_shows(
    lake: Path, monkeypatch: pytest.MonkeyPatch, own: bool, show_raw: str, shown: set[str]
) -> None:
    """Originals of the user's own photos are drawn only with DEMO_SHOW_RAW=1, and then for this user alone."""
    monkeypatch.setenv("DEMO_SHOW_RAW", show_raw)
    sheet = run_demo.make_sheet(the_run(lake), lake if own else None)
    assert colours(sheet) == shown
    private = own and "original" in shown
    assert (stat.S_IMODE(sheet.parent.stat().st_mode) == 0o700) == private
    assert (stat.S_IMODE(sheet.stat().st_mode) == 0o600) == private


def test_own_photos_are_not_copied(lake: Path, tmp_path: Path) -> None:
    """SOURCE=dir is linked into the lake; preparing again removes the link and nothing behind it."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "me.jpg").write_bytes(b"x")
    for _ in range(2):
        run_demo.prepare(mine)
        assert (lake / "raw").is_symlink()
    run_demo.prepare(None)
    assert (mine / "me.jpg").read_bytes() == b"x"
    assert not (lake / "raw").is_symlink()


def test_refused_card_shows_why(tmp_path: Path) -> None:
    """An image without output gets an empty frame; the sheet is drawn all the same."""
    card = contact_sheet.Card("broken.jpg", "cut off", None, None, "quarantined: truncated")
    contact_sheet.draw_sheet([card], tmp_path / "s.png", "x", raw=False)
    assert Image.open(tmp_path / "s.png").width > contact_sheet.BOX[0]


@pytest.mark.e2e
def test_make_demo(tmp_path: Path) -> None:
    """The demo runs the example Dag in Airflow, publishes all but the broken sample and leaves a contact sheet."""
    done = subprocess.run(
        [sys.executable, ROOT / "demo" / "run_demo.py"],
        env={**os.environ, "COLUMNS": "120", "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "1 quarantined, 7 published" in done.stdout or "7 published, 1 quarantined" in done.stdout
    assert (ROOT / "build" / "demo" / "sheet" / "contact_sheet.png").exists()
    assert (tmp_path / "facefog" / "master.key").stat().st_mode & 0o777 == 0o600
