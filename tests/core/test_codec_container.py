"""The walker accepts our own clean files and refuses every carrier that can be built from them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import corpus
import numpy as np
import pytest

from airflow_facefog.core import codec
from airflow_facefog.core.codec import Header, Picture, write_bmp
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.policy import OutputFormat
from airflow_facefog.core.records import Reason

FORMATS = ("jpeg", "png", "webp", "avif", "bmp", "tiff")


def clean(kind: str, channels: int = 3) -> bytes:
    """A clean output of ``kind``; its width makes BMP rows need padding."""
    pixels = np.ascontiguousarray(corpus.textured()[:, :125])
    if channels == 4:
        pixels = np.dstack((pixels, pixels[:, :, :1]))
    header = Header(kind, pixels.shape[1], pixels.shape[0], lossless=channels == 4)
    return codec.encode(Picture(pixels, header, (), "0" * 64), pixels, OutputFormat()).data


def refused(data: bytes, kind: str) -> None:
    """Assert that the walker says no, with its own reason."""
    with pytest.raises(ImageError) as caught:
        codec.check_container(data, kind)
    assert caught.value.reason == Reason.VERIFY_FAILED


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("channels", [3, 4])
def test_clean_outputs_pass(kind: str, channels: int) -> None:
    """Our own files are accepted (JPEG has no alpha)."""
    if (kind, channels) != ("jpeg", 4):
        codec.check_container(clean(kind, channels), kind)


@pytest.mark.parametrize("name", sorted(corpus.jpeg_carriers()))
@pytest.mark.parametrize("place", ["front", "before_scan"])
def test_jpeg_segments_are_refused(name: str, place: str) -> None:
    """Each metadata segment is refused wherever it stands."""
    data, body = clean("jpeg"), corpus.jpeg_carriers()[name]
    at = 2 if place == "front" else data.index(b"\xff\xda")
    refused(data[:at] + body + data[at:], "jpeg")


def jpeg_tricks() -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    """Ways to carry bytes in segments that are themselves allowed."""
    segment = corpus.segment
    yield "second_jfif", lambda d: d[:20] + d[2:20] + d[20:]
    yield "jfif_thumbnail", lambda d: d[:2] + segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\x01\x01abc") + d[20:]
    yield "jfif_density", lambda d: d[:13] + b"\x01\0\x48\0\x48" + d[18:]
    yield "long_dqt", lambda d: d[:20] + segment(0xDB, b"\0" + bytes(64) + corpus.SECRET) + d[20:]
    yield "long_dht", lambda d: d[:20] + segment(0xC4, b"\0" + bytes(16) + corpus.SECRET) + d[20:]
    yield "empty_dht", lambda d: d[:20] + segment(0xC4, b"") + d[20:]
    yield "long_dri", lambda d: d[:20] + segment(0xDD, b"\0\0" + corpus.SECRET) + d[20:]
    yield "fill_bytes", lambda d: d[:20] + b"\xff" * 9 + d[20:]
    yield "stray_bytes", lambda d: d[:20] + corpus.SECRET + d[20:]
    yield "second_end", lambda d: d + b"\xff\xd9"
    yield "end_in_the_middle", lambda d: d[:-99] + b"\xff\xd9" + d[-99:]
    yield "comment_in_scan", lambda d: d[:-2] + segment(0xFE, corpus.SECRET) + d[-2:]
    yield "second_scan_header", lambda d: d[:-2] + segment(0xDA, b"\x01\x01\0\0\x3f\0") + d[-2:]
    yield "no_end", lambda d: d[:-2]
    yield "second_image", lambda d: d + d
    yield "cut", lambda d: d[:100]
    yield "progressive", lambda d: d.replace(b"\xff\xc0", b"\xff\xc2", 1)


@pytest.mark.parametrize(("name", "trick"), list(jpeg_tricks()), ids=lambda v: v if isinstance(v, str) else "")
def test_jpeg_tricks_are_refused(name: str, trick: Callable[[bytes], bytes]) -> None:
    """Allowed segments must have exactly the length and number that their format says."""
    refused(trick(clean("jpeg")), "jpeg")


@pytest.mark.parametrize("kind", b"tEXt iTXt zTXt eXIf iCCP tIME prVt acTL pHYs PLTE IHDR".split())
@pytest.mark.parametrize("place", ["front", "end"])
def test_png_chunks_are_refused(kind: bytes, place: str) -> None:
    """Each chunk but IHDR, IDAT and IEND is refused at either end of the picture."""
    data = clean("png")
    at = 33 if place == "front" else len(data) - 12
    refused(data[:at] + corpus.chunk(kind, corpus.SECRET) + data[at:], "png")


def test_png_checksums_and_lengths_count() -> None:
    """A wrong checksum, a filled IEND, a missing IDAT and a second signature are refused."""
    data = clean("png")
    refused(data[:40] + bytes([data[40] ^ 1]) + data[41:], "png")
    refused(data[:-12] + corpus.chunk(b"IEND", corpus.SECRET), "png")
    refused(data[:33] + data[-12:], "png")
    refused(data[:-12] + corpus.chunk(b"IDAT", data[:8]) + data[-12:], "png")
    refused(data[:-5], "png")


@pytest.mark.parametrize("kind", [b"EXIF", b"XMP ", b"ICCP", b"ANIM", b"junk", b"VP8L", b"VP8 "])
@pytest.mark.parametrize("channels", [3, 4])
def test_webp_chunks_are_refused(kind: bytes, channels: int) -> None:
    """Each further chunk is refused, a second picture included."""
    data = clean("webp", channels)
    body = kind + struct.pack("<I", len(corpus.SECRET)) + corpus.SECRET + b"\0" * (len(corpus.SECRET) & 1)
    grown = data + body
    refused(grown[:4] + struct.pack("<I", len(grown) - 8) + grown[8:], "webp")


def test_webp_flags_and_sizes_count() -> None:
    """A VP8X that announces metadata, and a RIFF size that leaves bytes over, are refused."""
    picture = clean("webp")[12:]
    for flags in (0x02, 0x04, 0x08, 0x20):
        body = b"WEBPVP8X\x0a\0\0\0" + bytes([flags]) + bytes(9) + picture
        refused(b"RIFF" + struct.pack("<I", len(body)) + body, "webp")
    refused(clean("webp") + corpus.SECRET, "webp")
    grown = clean("webp") + b"abc"
    refused(grown[:4] + struct.pack("<I", len(grown) - 8) + grown[8:], "webp")


@pytest.mark.parametrize("kind", [b"free", b"uuid", b"mdat", b"moov", b"meta", b"ftyp"])
@pytest.mark.parametrize("place", ["front", "middle", "end"])
def test_avif_boxes_are_refused(kind: bytes, place: str) -> None:
    """Each further top-level box is refused wherever it stands."""
    data = clean("avif")
    box = struct.pack(">I4s", 8 + len(corpus.SECRET), kind) + corpus.SECRET
    at = {"front": 0, "middle": data.index(b"mdat") - 4, "end": len(data)}[place]
    refused(data[:at] + box + data[at:], "avif")


@pytest.mark.parametrize("name", ["avif_everything", "avif_animated", "heic_everything", "orientation_6_avif"])
def test_foreign_avif_is_refused(name: str) -> None:
    """Files with EXIF, XMP, ICC items, turns or frames are not on the list."""
    case = next(case for case in corpus.cases() if case.name == name)
    refused(case.data, "avif")


def test_avif_payload_belongs_to_items() -> None:
    """Bytes of mdat that no item covers, and changed item names, are refused."""
    data = clean("avif")
    at = data.index(b"mdat") - 4
    (size,) = struct.unpack_from(">I", data, at)
    refused(data[:at] + struct.pack(">I", size + len(corpus.SECRET)) + data[at + 4 :] + corpus.SECRET, "avif")
    refused(data.replace(b"Color", b"SECRT"), "avif")
    refused(data.replace(b"miaf", b"SECR"), "avif")


@pytest.mark.parametrize("kind", ["bmp", "tiff"])
@pytest.mark.parametrize("at", range(0, 120, 3))
def test_row_formats_are_compared_whole(kind: str, at: int) -> None:
    """Any change to the header of a BMP or the directory of a TIFF is refused."""
    data = clean(kind, 4)
    refused(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :], kind)


def test_bmp_padding_carries_nothing() -> None:
    """Row padding must be zero."""
    data = bytearray(clean("bmp"))
    row = write_bmp.stride(125, 3)
    data[54 + row - 1] = 7
    refused(bytes(data), "bmp")


@pytest.mark.parametrize("name", ["tiff_everything", "tiff_rgb", "tiff_lzw_rgba", "tiff_trailing"])
def test_foreign_tiff_is_refused(name: str) -> None:
    """Other writers' TIFFs hold tags that we do not write."""
    refused(next(case for case in corpus.cases() if case.name == name).data, "tiff")


@pytest.mark.parametrize("kind", [*FORMATS, "heic", "gif", ""])
@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", bytes(300), b"BM" + bytes(60)])
def test_rubbish_is_refused(kind: str, data: bytes) -> None:
    """Empty, tiny and zero files, and formats without a walker, are refused and crash nothing."""
    refused(data, kind)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_cut_is_refused(kind: str) -> None:
    """No proper prefix of a clean file passes."""
    data = clean(kind)
    for size in [*range(0, min(len(data), 400), 7), *range(400, len(data), max(1, len(data) // 40))]:
        refused(data[:size], kind)
