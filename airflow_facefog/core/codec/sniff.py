"""What a file is, from its first bytes. The extension and any declared type are ignored: both lie."""

from __future__ import annotations

from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.records import Reason

_DECODABLE: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"BM", "bmp"),
)
_KNOWN_BUT_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"II+\0", "BigTIFF"),
    (b"MM\0+", "BigTIFF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"\0\0\x01\0", "ICO"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"qoif", "QOI"),
    (b"\x1aE\xdf\xa3", "Matroska"),
)
AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})


def sniff(data: bytes) -> str:
    """Name the format of ``data``: jpeg, png, webp, tiff, bmp, avif or heic.

    Raises ImageError: EMPTY_FILE, MULTI_FRAME (GIF, always), UNSUPPORTED_FORMAT (known, not read here), UNKNOWN_FORMAT.
    """
    if not data:
        raise ImageError(Reason.EMPTY_FILE, "the file has no bytes; check the source")
    for magic, name in _DECODABLE:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        raise ImageError(Reason.MULTI_FRAME, "GIF is a frame format and is never read; convert it to PNG first")
    for magic, name in _KNOWN_BUT_REFUSED:
        if data.startswith(magic):
            raise ImageError(Reason.UNSUPPORTED_FORMAT, f"{name} is not read; convert it to JPEG, PNG or TIFF first")
    if data[4:8] == b"ftyp":
        return _brand(data)
    raise ImageError(Reason.UNKNOWN_FORMAT, f"the first bytes of {len(data)} name no known image format")


def _brand(data: bytes) -> str:
    """ISO base media: the major brand decides; ``mif1`` (any still image) is settled by the compatible brands."""
    size = min(int.from_bytes(data[:4], "big"), len(data), 256)
    brands = [data[8:12], *(data[i : i + 4] for i in range(16, size - 3, 4))]
    if brands[0] in AVIF_BRANDS:
        return "avif"
    if brands[0] in HEIC_BRANDS:
        return "avif" if AVIF_BRANDS & set(brands) and not (HEIC_BRANDS - {b"mif1", b"msf1"}) & set(brands) else "heic"
    raise ImageError(Reason.UNSUPPORTED_FORMAT, "this ISO media file is no AVIF or HEIC still image; it is not read")
