"""A corpus of image files made by code: every mode, every orientation, hostile, cut, broken and leaking files.

``cases()`` is the table. ``expect`` is ``"published"`` or the Reason of the quarantine. ``markers`` are byte strings that
must not survive into any output. ``upright`` says that the picture shown must be ``picture()``.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import cv2
import numpy as np
import pillow_heif
from PIL import Image, ImageCms, PngImagePlugin

from airflow_facefog.core.records import Reason

PUBLISHED = "published"
SECRET = b"SECRET-51.0504N-13.7373E-CAMERA-SERIAL-0815"
"""A metadata string that no output may hold."""


@dataclass(frozen=True)
class Case:
    """One file. ``filename`` carries an extension that may lie."""

    name: str
    data: bytes = field(repr=False)
    expect: str
    filename: str = ""
    markers: tuple[bytes, ...] = ()
    upright: bool = False


# ------------------------------------------------------------------ pictures


@cache
def picture() -> np.ndarray:
    """(48, 64, 3) RGB: four different quarters and a corner mark, so that each orientation looks different."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32], image[:24, 32:] = (200, 60, 60), (60, 180, 60)
    image[24:, :32], image[24:, 32:] = (60, 60, 200), (190, 190, 70)
    image[:8, :8] = 250
    return image


@cache
def textured() -> np.ndarray:
    """(96, 128, 3) RGB with detail everywhere, so that damage to any byte of a scan is felt."""
    rng = np.random.default_rng(7)
    return cv2.resize(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), (128, 96), interpolation=cv2.INTER_CUBIC)


STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
    8: lambda a: np.rot90(a, -1),
}
"""How an upright frame is stored so that EXIF orientation n turns it upright again. numpy only: independent of cv2."""


def save(array: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    """Encode with Pillow."""
    image = array if isinstance(array, Image.Image) else Image.fromarray(np.ascontiguousarray(array))
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def heic(array: np.ndarray, mode: str = "RGB", **options: Any) -> bytes:
    """Encode HEIC with libheif; an EXIF orientation in ``exif`` becomes irot/imir."""
    stream = io.BytesIO()
    size = (array.shape[1], array.shape[0])
    pillow_heif.encode(mode, size, np.ascontiguousarray(array).tobytes(), stream, quality=90, **options)
    return stream.getvalue()


# ------------------------------------------------------------------ carriers


@cache
def thumbnail() -> bytes:
    """A small JPEG of noise: what an embedded preview of the unfogged photo would be."""
    return save(np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8), "JPEG", quality=60)


@cache
def thumbnail_scan() -> bytes:
    """Its entropy-coded part alone: tables are the same in every JPEG, this is not."""
    data = thumbnail()
    return data[data.index(b"\xff\xda") + 14 : -2]


def exif(orientation: int = 1, *, thumb: bool = False) -> bytes:
    """TIFF-structured EXIF: orientation, a maker string with SECRET, and optionally a thumbnail in IFD1."""
    entries, preview = 2, thumbnail() if thumb else b""
    make_at = 8 + 2 + 12 * entries + 4
    ifd1_at = make_at + len(SECRET) + 1
    ifd0 = struct.pack("<H", entries)
    ifd0 += struct.pack("<HHII", 271, 2, len(SECRET) + 1, make_at) + struct.pack("<HHIHH", 274, 3, 1, orientation, 0)
    ifd0 += struct.pack("<I", ifd1_at if thumb else 0) + SECRET + b"\0"
    data_at = ifd1_at + 2 + 24 + 4
    ifd1 = struct.pack("<HHHIIHHIII", 2, 513, 4, 1, data_at, 514, 4, 1, len(preview), 0) if thumb else b""
    return b"II*\0\x08\0\0\0" + ifd0 + ifd1 + preview


def icc_with_private_tag(*, wide: bool = False) -> bytes:
    """An sRGB (or Display-P3-like) profile with a private tag that holds the thumbnail and SECRET."""
    base = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", base, 128)
    table = [struct.unpack_from(">4sII", base, 132 + 12 * i) for i in range(count)]
    if wide:
        p3 = {b"rXYZ": (0.5151, 0.2412, -0.0011), b"gXYZ": (0.2920, 0.6922, 0.0419), b"bXYZ": (0.1571, 0.0666, 0.7841)}
        for tag, at, _ in table:
            if tag in p3:
                struct.pack_into(">3i", base, at + 8, *(round(v * 65536) for v in p3[tag]))
    body, extra = bytes(base[132 + 12 * count :]), b"data\0\0\0\0" + SECRET + thumbnail()
    end = 132 + 12 * (count + 1) + len(body)
    rows = b"".join(struct.pack(">4sII", tag, at + 12, size) for tag, at, size in table)
    rows += struct.pack(">4sII", b"prIv", end, len(extra))
    out = bytearray(bytes(base[:128]) + struct.pack(">I", count + 1) + rows + body + extra)
    struct.pack_into(">I", out, 0, len(out))
    return bytes(out)


def segment(marker: int, body: bytes) -> bytes:
    """A JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def insert(data: bytes, *segments: bytes) -> bytes:
    """``data`` (JPEG) with segments right behind its SOI."""
    return data[:2] + b"".join(segments) + data[2:]


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with a right checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def insert_chunks(data: bytes, *chunks: bytes) -> bytes:
    """``data`` (PNG) with chunks right behind its IHDR."""
    return data[:33] + b"".join(chunks) + data[33:]


def jpeg_carriers() -> dict[str, bytes]:
    """Name → segments, each holding the thumbnail or SECRET."""
    profile = icc_with_private_tag()
    return {
        "exif_thumb": segment(0xE1, b"Exif\0\0" + exif(thumb=True)),
        "jfxx_thumb": segment(0xE0, b"JFXX\0\x10" + thumbnail()),
        "xmp": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x>" + SECRET + b"</x>"),
        "extended_xmp": segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 40 + SECRET),
        "photoshop_irb": segment(0xED, b"Photoshop 3.0\x008BIM\x04\x0c\0\0" + thumbnail() + SECRET),
        "comment": segment(0xFE, SECRET + thumbnail()),
        "icc_private_tag": segment(0xE2, b"ICC_PROFILE\0\x01\x01" + profile),
        "mpf": segment(0xE2, b"MPF\0II*\0" + SECRET),
        "jumbf": segment(0xEB, b"JP\0\x01\0\0\0\x01" + SECRET + thumbnail()),
        "html": segment(0xFE, b"<html><script>alert('" + SECRET + b"')</script></html>"),
    }


# ------------------------------------------------------------------ the table


def _jpeg(**options: Any) -> bytes:
    return save(textured(), "JPEG", quality=90, **options)


def _published() -> Iterator[Case]:
    rgb = textured()
    gray = np.ascontiguousarray(rgb[:, :, 1])
    rgba = np.dstack((rgb, np.where(gray > 90, 255, 0).astype(np.uint8)))
    wide = rgb.astype(np.uint16) * 257
    image, palette = Image.fromarray(rgb), Image.fromarray(rgb).quantize(40)
    table: dict[str, bytes] = {
        "jpeg_444.jpg": _jpeg(subsampling="4:4:4"),
        "jpeg_422.jpg": _jpeg(subsampling="4:2:2"),
        "jpeg_420.jpg": _jpeg(subsampling="4:2:0"),
        "jpeg_progressive.jpg": _jpeg(progressive=True),
        "jpeg_optimised.jpg": _jpeg(optimize=True),
        "jpeg_restarts.jpg": _jpeg(restart_marker_blocks=2),
        "jpeg_gray.jpg": save(gray, "JPEG", quality=80),
        "jpeg_rgb_coded.jpg": _jpeg(keep_rgb=True),
        "jpeg_low_quality.jpg": save(rgb, "JPEG", quality=20),
        "jpeg_cmyk.jpg": save(image.convert("CMYK"), "JPEG", quality=90),
        "jpeg_ycck.jpg": _ycck(save(image.convert("CMYK"), "JPEG", quality=90)),
        "png_rgb.png": save(rgb, "PNG"),
        "png_gray.png": save(gray, "PNG"),
        "png_gray_trns.png": save(gray, "PNG", transparency=int(gray[0, 0])),
        "png_la.png": save(Image.fromarray(rgba).convert("LA"), "PNG"),
        "png_rgba_hidden_colour.png": save(rgba, "PNG"),
        "png_rgb_trns.png": save(rgb, "PNG", transparency=tuple(int(v) for v in rgb[0, 0])),
        "png_palette.png": save(palette, "PNG"),
        "png_palette_trns.png": save(palette, "PNG", transparency=bytes([0, 128])),
        "png_palette_2bit.png": save(image.quantize(4), "PNG", bits=2),
        "png_1bit.png": save(image.convert("1"), "PNG"),
        "png_gray16.png": cv2.imencode(".png", wide[:, :, 0])[1].tobytes(),
        "png_rgb16.png": cv2.imencode(".png", wide)[1].tobytes(),
        "png_interlaced_wide.png": save(np.zeros((1, 30000), np.uint8), "PNG"),
        "png_tall.png": save(np.zeros((30000, 1), np.uint8), "PNG"),
        "png_1x1.png": save(rgb[:1, :1], "PNG"),
        "jpeg_1x1.jpg": save(rgb[:1, :1], "JPEG"),
        "jpeg_wide.jpg": save(np.zeros((1, 30000, 3), np.uint8), "JPEG"),
        "jpeg_tall.jpg": save(np.zeros((30000, 1, 3), np.uint8), "JPEG"),
        "webp_lossy.webp": save(rgb, "WEBP", quality=80),
        "webp_lossless.webp": save(rgb, "WEBP", lossless=True),
        "webp_lossless_hidden_colour.webp": save(rgba, "WEBP", lossless=True, exact=True),
        "webp_lossy_alpha.webp": save(rgba, "WEBP", quality=80),
        "tiff_rgb.tif": save(rgb, "TIFF"),
        "tiff_lzw_rgba.tif": save(rgba, "TIFF", compression="tiff_lzw"),
        "tiff_gray.tif": save(gray, "TIFF"),
        "tiff_g4_1bit.tif": save(image.convert("1"), "TIFF", compression="group4"),
        "tiff_cmyk.tif": save(image.convert("CMYK"), "TIFF"),
        "tiff_palette.tif": save(palette, "TIFF"),
        "tiff_jpeg.tif": save(rgb, "TIFF", compression="jpeg"),
        "tiff_gray16.tif": cv2.imencode(".tiff", wide[:, :, 0])[1].tobytes(),
        "tiff_rgb16.tif": cv2.imencode(".tiff", wide)[1].tobytes(),
        "bmp_rgb.bmp": save(rgb, "BMP"),
        "bmp_gray.bmp": save(gray, "BMP"),
        "bmp_palette.bmp": save(palette, "BMP"),
        "bmp_1bit.bmp": save(image.convert("1"), "BMP"),
        "avif_rgb.avif": save(rgb, "AVIF", speed=9),
        "avif_rgba.avif": save(rgba, "AVIF", speed=9),
        "avif_gray.avif": save(gray, "AVIF", speed=9),
        "heic_rgb.heic": heic(rgb),
        "heic_rgba.heic": heic(rgba, "RGBA"),
        "heic_10bit.heic": heic(wide, "RGB;16"),
        "heic_odd_size.heic": heic(rgb[:61, :43]),
        "png_named_as_jpeg.jpg": save(rgb, "PNG"),
        "jpeg_named_as_png.png": _jpeg(),
        "jpeg_without_extension": _jpeg(),
        "webp_named_as_text.txt": save(rgb, "WEBP", lossless=True),
    }
    for filename, data in table.items():
        yield Case(filename.partition(".")[0], data, PUBLISHED, filename)


def _ycck(cmyk: bytes) -> bytes:
    """The same scan declared as YCCK: Adobe transform 2."""
    at = cmyk.index(b"Adobe") + 11
    return cmyk[:at] + b"\x02" + cmyk[at + 1 :]


def _oriented() -> Iterator[Case]:
    for n, store in STORED.items():
        stored, tiff = store(picture()), exif(n)
        app1 = b"Exif\0\0" + tiff
        table = {
            "jpg": save(stored, "JPEG", quality=95, subsampling="4:4:4", exif=app1),
            "png": save(stored, "PNG", exif=app1),
            "webp": save(stored, "WEBP", lossless=True, exif=app1),
            "tif": save(stored, "TIFF", tiffinfo={274: n}),
            "avif": save(stored, "AVIF", quality=95, speed=9, subsampling="4:4:4", exif=app1),
            "heic": heic(stored, exif=app1, chroma=444),
        }
        for extension, data in table.items():
            name = f"orientation_{n}_{extension}"
            yield Case(name, data, PUBLISHED, f"{name}.{extension}", (SECRET,) if extension != "tif" else (), True)


def _leaking() -> Iterator[Case]:
    base, secrets = _jpeg(), (SECRET, thumbnail_scan())
    for name, body in jpeg_carriers().items():
        yield Case(f"jpeg_{name}", insert(base, body), PUBLISHED, f"{name}.jpg", secrets)
    everything = insert(base, *jpeg_carriers().values()) + thumbnail() + SECRET
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", SECRET.decode())
    info.add_itxt("XML:com.adobe.xmp", SECRET.decode())
    rgb, app1, icc = textured(), b"Exif\0\0" + exif(thumb=True), icc_with_private_tag()
    wide = icc_with_private_tag(wide=True)
    xmp = b"<x>" + SECRET + b"</x>"
    png = save(rgb, "PNG", pnginfo=info, exif=app1, icc_profile=icc)
    table = {
        "jpeg_everything.jpg": everything,
        "jpeg_second_image.jpg": base + thumbnail(),
        "jpeg_trailing_zip.jpg": base + _zip(),
        "jpeg_trailing_video.jpg": base + b"\0\0\0\x18ftypmp42" + SECRET,
        "jpeg_display_p3.jpg": save(rgb, "JPEG", quality=90, icc_profile=wide),
        "jpeg_bad_icc.jpg": save(rgb, "JPEG", quality=90, icc_profile=SECRET * 9),
        "png_everything.png": png,
        "png_unknown_chunk.png": insert_chunks(save(rgb, "PNG"), chunk(b"prVt", thumbnail() + SECRET)),
        "png_trailing_zip.png": save(rgb, "PNG") + _zip(),
        "png_display_p3.png": save(rgb, "PNG", icc_profile=wide),
        "png_damaged_iccp.png": insert_chunks(save(rgb, "PNG"), chunk(b"iCCP", b"x\0\0" + SECRET)),
        "webp_everything.webp": save(rgb, "WEBP", lossless=True, exif=app1, xmp=xmp, icc_profile=icc),
        "webp_trailing.webp": save(rgb, "WEBP", lossless=True) + SECRET + thumbnail(),
        "tiff_everything.tif": save(rgb, "TIFF", icc_profile=icc, tiffinfo={270: SECRET.decode(), 700: xmp}),
        "tiff_trailing.tif": save(rgb, "TIFF") + SECRET + thumbnail(),
        "bmp_trailing.bmp": save(rgb, "BMP") + SECRET + thumbnail(),
        "avif_everything.avif": save(rgb, "AVIF", speed=9, exif=app1, xmp=xmp, icc_profile=icc),
        "heic_everything.heic": heic(rgb, exif=app1, xmp=xmp, icc_profile=icc),
        "heic_two_images.heic": _heic_pair(),
    }
    for filename, data in table.items():
        yield Case(filename.partition(".")[0], data, PUBLISHED, filename, secrets)


def _zip() -> bytes:
    return b"PK\x03\x04" + SECRET + thumbnail() + b"PK\x05\x06" + bytes(18)


def _heic_pair() -> bytes:
    """Two top-level images and a thumbnail; only the primary (textured) may be read."""
    first = pillow_heif.from_pillow(Image.fromarray(textured()))
    first.add_frombytes("RGB", (64, 48), picture().tobytes())
    stream = io.BytesIO()
    first.save(stream, quality=90, primary_index=0)
    return stream.getvalue()


def _cut_and_broken() -> Iterator[Case]:
    rgb = textured()
    whole = {
        "jpeg": _jpeg(), "jpeg_progressive": _jpeg(progressive=True), "png": save(rgb, "PNG"),
        "webp": save(rgb, "WEBP", lossless=True), "tiff": save(rgb, "TIFF"), "bmp": save(rgb, "BMP"),
        "avif": save(rgb, "AVIF", speed=9), "heic": heic(rgb),
    }  # fmt: skip
    for name, data in whole.items():
        for percent in (10, 50, 90):
            yield Case(f"{name}_cut_{percent}", data[: len(data) * percent // 100], Reason.TRUNCATED)
    yield Case("jpeg_without_end_marker", whole["jpeg"][:-2], Reason.TRUNCATED)
    yield Case("jpeg_cut_then_end_marker", whole["jpeg"][:-200] + b"\xff\xd9", Reason.CORRUPT)
    yield Case("jpeg_end_marker_in_the_middle", _spliced(whole["jpeg"], b"\xff\xd9"), Reason.CORRUPT)
    yield Case("jpeg_second_start_in_the_middle", _spliced(whole["jpeg"], b"\xff\xd8"), Reason.CORRUPT)
    yield Case("jpeg_corrupt_scan", _noised(whole["jpeg"], seed=1), Reason.CORRUPT)
    yield Case("jpeg_without_last_scans", _coarse(whole["jpeg_progressive"]), Reason.TRUNCATED)
    yield Case("png_wrong_checksum", _noised(whole["png"], seed=2), Reason.CORRUPT)
    yield Case("png_short_picture", _short_png(), Reason.CORRUPT)
    yield Case("avif_zeroed_payload", _zeroed(whole["avif"]), Reason.CORRUPT)
    yield Case("heic_zeroed_payload", _zeroed(whole["heic"]), Reason.CORRUPT)
    yield Case("webp_zeroed_payload", _zeroed(whole["webp"]), Reason.CORRUPT)
    yield Case("png_zero_width", _png_header(0, 10), Reason.CORRUPT)
    yield Case("jpeg_zero_height", _resized(whole["jpeg"], 0, 128), Reason.CORRUPT)


def _spliced(data: bytes, marker: bytes) -> bytes:
    middle = (data.index(b"\xff\xda") + len(data)) // 2
    return data[:middle] + marker + data[middle:]


def _noised(data: bytes, *, seed: int) -> bytes:
    """64 random bytes (never FF) in the middle of the payload."""
    rng, middle = random.Random(seed), len(data) * 6 // 10
    return data[:middle] + bytes(rng.randrange(255) for _ in range(64)) + data[middle + 64 :]


def _zeroed(data: bytes) -> bytes:
    at = data.find(b"mdat") + 4 if b"mdat" in data else 40
    return data[:at] + bytes(len(data) - at)


def _coarse(progressive: bytes) -> bytes:
    scans = [i for i in range(len(progressive) - 1) if progressive[i : i + 2] == b"\xff\xda"]
    return progressive[: scans[1]] + b"\xff\xd9"


def _short_png() -> bytes:
    """Right checksums, half the rows."""
    rows = b"".join(b"\0" + textured()[y].tobytes() for y in range(48))
    return _png_header(128, 96, colour=2, idat=zlib.compress(rows))


def _png_header(
    width: int, height: int, *, depth: int = 8, colour: int = 0, idat: bytes = b"x\x9c\x03\0\0\0\0\x01"
) -> bytes:
    ihdr = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


def _resized(jpeg: bytes, height: int, width: int) -> bytes:
    """The same scan under another size."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def _bomb() -> bytes:
    """20000x20000 at 1 bit: 400 MP in some 49 kB."""
    engine, rows = zlib.compressobj(1), bytes(2501) * 100
    packed = b"".join(engine.compress(rows) for _ in range(200)) + engine.flush()
    return _png_header(20000, 20000, depth=1, idat=packed)


def _refused() -> Iterator[Case]:
    rgb, jpeg = textured(), _jpeg()
    frames = [Image.fromarray(rgb), Image.fromarray(rgb[::-1].copy())]
    sof = jpeg.index(b"\xff\xc0")
    many: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    table: dict[str, tuple[bytes, str]] = {
        "empty.jpg": (b"", Reason.EMPTY_FILE),
        "one_byte.jpg": (b"\xff", Reason.UNKNOWN_FORMAT),
        "zeros.png": (bytes(4096), Reason.UNKNOWN_FORMAT),
        "text.jpg": (b"not an image at all\n" * 9, Reason.UNKNOWN_FORMAT),
        "page.html": (b"<!doctype html><html><body>403</body></html>", Reason.UNKNOWN_FORMAT),
        "vector.svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', Reason.UNKNOWN_FORMAT),
        "error.json": (b'{"error": "AccessDenied"}', Reason.UNKNOWN_FORMAT),
        "jpeg_xl.jxl": (b"\xff\x0a" + bytes(64), Reason.UNSUPPORTED_FORMAT),
        "jpeg_xl_boxed.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(64), Reason.UNSUPPORTED_FORMAT),
        "jpeg_2000.jp2": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64), Reason.UNSUPPORTED_FORMAT),
        "video.mp4": (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(64), Reason.UNSUPPORTED_FORMAT),
        "big.tif": (b"II+\0\x08\0\0\0" + bytes(64), Reason.UNSUPPORTED_FORMAT),
        "heif_magic_only.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Reason.TRUNCATED),
        "avif_magic_only.avif": (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", Reason.TRUNCATED),
        "jpeg_magic_only.jpg": (b"\xff\xd8\xff", Reason.TRUNCATED),
        "png_magic_only.png": (b"\x89PNG\r\n\x1a\n", Reason.TRUNCATED),
        "gif_still.gif": (save(frames[0], "GIF"), Reason.MULTI_FRAME),
        "gif_animated.gif": (save(frames[0], "GIF", **many), Reason.MULTI_FRAME),
        "gif_named_as_png.png": (save(frames[0], "GIF"), Reason.MULTI_FRAME),
        "png_animated.png": (save(frames[0], "PNG", **many), Reason.MULTI_FRAME),
        "webp_animated.webp": (save(frames[0], "WEBP", **many), Reason.MULTI_FRAME),
        "avif_animated.avif": (save(frames[0], "AVIF", speed=9, **many), Reason.MULTI_FRAME),
        "heic_sequence.heic": (heic(rgb).replace(b"ftypheic", b"ftyphevc", 1), Reason.MULTI_FRAME),
        "tiff_two_pages.tif": (save(frames[0], "TIFF", **many), Reason.MULTI_FRAME),
        "tiff_float.tif": (cv2.imencode(".tiff", rgb.astype(np.float32))[1].tobytes(), Reason.UNSUPPORTED_DEPTH),
        "tiff_camera_raw.dng": (save(rgb, "TIFF", tiffinfo={50706: b"\x01\x04\0\0"}), Reason.UNSUPPORTED_FORMAT),
        "jpeg_12bit.jpg": (jpeg[: sof + 4] + b"\x0c" + jpeg[sof + 5 :], Reason.UNSUPPORTED_DEPTH),
        "jpeg_lossless.jpg": (jpeg[:sof] + b"\xff\xc3" + jpeg[sof + 2 :], Reason.UNSUPPORTED_FORMAT),
        "jpeg_odd_sampling.jpg": (jpeg[: sof + 11] + b"\x31" + jpeg[sof + 12 :], Reason.UNSUPPORTED_FORMAT),
        "jpeg_two_components.jpg": (_components(jpeg, sof, 2), Reason.UNSUPPORTED_FORMAT),
        "png_bomb_20000.png": (_bomb(), Reason.TOO_MANY_PIXELS),
        "png_bomb_65000.png": (_png_header(65000, 65000), Reason.TOO_MANY_PIXELS),
        "jpeg_bomb_65500.jpg": (_resized(jpeg, 65500, 65500), Reason.TOO_MANY_PIXELS),
        "bmp_bomb.bmp": (_bmp_resized(60000, 60000), Reason.TRUNCATED),
    }
    for filename, (data, reason) in table.items():
        yield Case(filename.partition(".")[0], data, reason, filename)


def _bmp_resized(width: int, height: int) -> bytes:
    data = save(textured(), "BMP")
    return data[:18] + struct.pack("<ii", width, height) + data[26:]


def _components(jpeg: bytes, sof: int, count: int) -> bytes:
    body = jpeg[sof + 4 : sof + 9] + bytes([count]) + jpeg[sof + 10 : sof + 10 + 3 * count]
    return jpeg[:sof] + segment(0xC0, body) + jpeg[sof + 19 :]


@cache
def _all() -> tuple[Case, ...]:
    found = [*_published(), *_oriented(), *_leaking(), *_cut_and_broken(), *_refused()]
    assert len({case.name for case in found}) == len(found)
    return tuple(
        case if case.filename else Case(case.name, case.data, case.expect, case.name + ".jpg") for case in found
    )


def cases() -> list[Case]:
    """Every case, built once per process; names are unique."""
    return list(_all())
