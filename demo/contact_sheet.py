"""One picture for the eye: published images, beside their originals only where the caller says so."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

PAPER, INK, FAINT, BAD = "#f6f5f2", "#22252b", "#6d727c", "#a33a2c"
BOX = (330, 250)
PAD = 18
HEADER = 70
CAPTION = 66
MOST = 60


@dataclass(frozen=True)
class Card:
    """One image. ``before`` and ``after`` are files or None; ``refused`` says why there is no ``after``."""

    title: str
    note: str
    after: Path | None
    before: Path | None = None
    refused: str = ""


def draw_sheet(cards: Sequence[Card], path: Path, heading: str, *, raw: bool, private: bool = False) -> None:
    """Write a PNG. ``raw``: also show the originals; ``private``: only this user may read the file."""
    shown = cards[:MOST]
    columns = 2 if raw else 4
    card_width = (2 * BOX[0] + 8 if raw else BOX[0]) + PAD
    card_height = BOX[1] + CAPTION + PAD
    rows = -(-len(shown) // columns) or 1
    sheet = Image.new("RGB", (columns * card_width + PAD, HEADER + rows * card_height + PAD), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((PAD, 20), heading, INK, font=_font(24))
    for index, card in enumerate(shown):
        left = PAD + index % columns * card_width
        _draw_card(sheet, draw, card, (left, HEADER + index // columns * card_height), raw=raw)
    _save(sheet, path, private=private)


def _draw_card(sheet: Image.Image, draw: ImageDraw.ImageDraw, card: Card, at: tuple[int, int], *, raw: bool) -> None:
    x, y = at
    if raw:
        _paste(sheet, draw, card.before, (x, y), "cannot be decoded")
        x += BOX[0] + 8
    _paste(sheet, draw, card.after, (x, y), card.refused)
    below = y + BOX[1] + 8
    draw.text((at[0], below), _fit(card.title, BOX[0] if not raw else 2 * BOX[0], _font(17)), INK, font=_font(17))
    draw.text((at[0], below + 24), card.note, BAD if card.refused else FAINT, font=_font(15))


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, path: Path | None, at: tuple[int, int], instead: str) -> None:
    area = (*at, at[0] + BOX[0], at[1] + BOX[1])
    picture = _open(path)
    if picture is None:
        draw.rectangle(area, fill="#ece9e3")
        middle = ((area[0] + area[2]) // 2, (area[1] + area[3]) // 2)
        draw.text(middle, instead or "cannot be shown", BAD, font=_font(17), anchor="mm")
        return
    offset = (at[0] + (BOX[0] - picture.width) // 2, at[1] + (BOX[1] - picture.height) // 2)
    draw.rectangle(area, fill="#ece9e3")
    _checkers(draw, (*offset, offset[0] + picture.width - 1, offset[1] + picture.height - 1))
    sheet.paste(picture, offset, picture)


def _open(path: Path | None) -> Image.Image | None:
    """Upright RGBA thumbnail, or None for what Pillow cannot read either."""
    if path is None:
        return None
    try:
        with Image.open(path) as stored:
            picture = ImageOps.exif_transpose(stored).convert("RGBA")
    except OSError:
        return None
    picture.thumbnail(BOX, Image.Resampling.LANCZOS)
    return picture


def _checkers(draw: ImageDraw.ImageDraw, area: tuple[int, int, int, int]) -> None:
    """The usual ground under transparent pictures."""
    draw.rectangle(area, fill="#ffffff")
    for y in range(area[1], area[3], 12):
        for x in range(area[0] + (y - area[1]) // 12 % 2 * 12, area[2], 24):
            draw.rectangle((x, y, min(x + 11, area[2]), min(y + 11, area[3])), fill="#dddad4")


def _fit(text: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    while len(text) > 4 and font.getlength(text) > width:
        text = "…" + text[2:]
    return text


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _save(sheet: Image.Image, path: Path, *, private: bool) -> None:
    path.parent.mkdir(mode=0o700 if private else 0o777, parents=True, exist_ok=True)
    if private:
        path.parent.chmod(0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o666)
    with os.fdopen(descriptor, "wb") as handle:
        sheet.save(handle, "PNG")
