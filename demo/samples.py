"""Compose the demo's photos from pictures that scikit-image ships: the astronaut (NASA, public domain) and the rocket
(SpaceX, public domain). Nothing is downloaded, no photo is kept in this repository.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from skimage import data

FACE = (170, 60, 282, 200)
"""Head of the astronaut in her 512x512 portrait, xyxy px."""


@dataclass(frozen=True)
class Sample:
    """One photo: file name, what it shows, and the function that makes its bytes."""

    name: str
    about: str
    make: Callable[[], bytes]


def portrait() -> Image.Image:
    return Image.fromarray(data.astronaut())


def landscape(width: int, height: int) -> Image.Image:
    return Image.fromarray(data.rocket()).resize((width, height), Image.Resampling.LANCZOS)


def head(width: int) -> Image.Image:
    left, top, right, bottom = FACE
    crop = portrait().crop((left - 20, top - 30, right + 20, bottom + 20))
    return crop.resize((width, round(width * crop.height / crop.width)), Image.Resampling.LANCZOS)


def jpeg(image: Image.Image, quality: int = 92, exif: bytes = b"") -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, exif=exif)
    return out.getvalue()


def plain() -> bytes:
    return jpeg(portrait().resize((1024, 1024), Image.Resampling.LANCZOS))


def rotated() -> bytes:
    """Stored lying on its side, with an EXIF note that turns it upright, and a thumbnail of the bare face inside."""
    upright = portrait().resize((900, 900), Image.Resampling.LANCZOS)
    thumbnail = jpeg(portrait().resize((160, 160), Image.Resampling.LANCZOS), quality=80)
    return jpeg(upright.transpose(Image.Transpose.ROTATE_90), exif=exif_block(orientation=6, thumbnail=thumbnail))


def crowd() -> bytes:
    """Forty heads, some turned, some mirrored."""
    picture = landscape(1600, 1000)
    for row in range(5):
        for column in range(8):
            face = head(48 + 18 * row)
            if column % 2:
                face = face.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            if column % 3 == 2:
                face = face.rotate(12, expand=False)
            picture.paste(face, (40 + 195 * column, 20 + 190 * row))
    return jpeg(picture)


def from_afar() -> bytes:
    """One small person in a large picture."""
    picture = landscape(2400, 1600)
    person = portrait().crop((60, 0, 420, 512)).resize((127, 180), Image.Resampling.LANCZOS)
    picture.paste(person, (1700, 1100))
    return jpeg(picture, quality=85)


def nobody() -> bytes:
    return jpeg(landscape(1200, 800))


def broken() -> bytes:
    whole = plain()
    return whole[: len(whole) // 2]


def transparent() -> bytes:
    """Half transparent, and colour that hides under alpha 0: a viewer shows nothing there, the file still holds it."""
    picture = portrait().resize((768, 768), Image.Resampling.LANCZOS)
    alpha = Image.linear_gradient("L").rotate(90).resize(picture.size)
    alpha.paste(0, (0, 0, 330, 768))
    picture.putalpha(alpha)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def gray() -> bytes:
    out = io.BytesIO()
    portrait().crop((100, 0, 400, 260)).resize((900, 780), Image.Resampling.LANCZOS).convert("L").save(
        out, "WEBP", quality=90
    )
    return out.getvalue()


SAMPLES = (
    Sample("portrait.jpg", "a plain portrait", plain),
    Sample("rotated_by_exif.jpg", "turned by EXIF, bare face in its thumbnail", rotated),
    Sample("team/crowd.jpg", "40 faces, 28 to 70 px wide", crowd),
    Sample("team/from_afar.jpg", "one small person", from_afar),
    Sample("nobody.jpg", "no face at all", nobody),
    Sample("broken.jpg", "cut off in the middle", broken),
    Sample("transparent.png", "colour hidden under alpha 0", transparent),
    Sample("gray.webp", "gray WebP", gray),
)


def write_samples(folder: Path) -> None:
    """Write all samples below ``folder``."""
    for sample in SAMPLES:
        path = folder / sample.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sample.make())


def exif_block(*, orientation: int, thumbnail: bytes) -> bytes:
    """An EXIF block as cameras write it (TIFF 6.0, EXIF 2.3): IFD0 with orientation, IFD1 with a JPEG thumbnail."""
    first = 8
    second = first + 2 + 12 + 4
    start = second + 2 + 3 * 12 + 4
    ifd0 = struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, second)
    ifd1 = struct.pack("<H", 3)
    ifd1 += struct.pack("<HHIHH", 0x0103, 3, 1, 6, 0)
    ifd1 += struct.pack("<HHII", 0x0201, 4, 1, start)
    ifd1 += struct.pack("<HHIII", 0x0202, 4, 1, len(thumbnail), 0)
    return b"Exif\0\0II*\0" + struct.pack("<I", first) + ifd0 + ifd1 + thumbnail
