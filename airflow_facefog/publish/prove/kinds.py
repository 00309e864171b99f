"""What bytes are, from their first ones: a word for the report, never a reason to let an object pass. Light."""

from __future__ import annotations

from airflow_facefog.core.codec.sniff import sniff
from airflow_facefog.core.errors import ImageError

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "GIF"), (b"PK\x03\x04", "ZIP archive"), (b"PK\x05\x06", "ZIP archive"), (b"\x1f\x8b", "gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip archive"), (b"Rar!", "RAR archive"), (b"\xfd7zXZ\0", "xz archive"),
    (b"BZh", "bzip2 archive"), (b"\x28\xb5\x2f\xfd", "Zstandard archive"), (b"%PDF", "PDF"), (b"PAR1", "Parquet"),
    (b"\x1aE\xdf\xa3", "Matroska or WebM video"), (b"SQLite format 3\0", "SQLite database"), (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "Photoshop picture"), (b"\x89HDF", "HDF5 file"), (b"\x93NUMPY", "NumPy array"),
    (b"-----BEGIN", "PEM key or certificate"),
)  # fmt: skip

TEXT_BYTES = 512
"""How much is looked at to call something text."""


def kind_of(data: bytes) -> str:
    """One or a few words, such as ``jpeg``, ``ZIP archive``, ``JSON text`` or ``unknown``."""
    if not data:
        return "empty"
    try:
        return sniff(data)
    except ImageError:
        pass
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[4:8] == b"ftyp" or data[4:8] == b"moov":
        return "MP4 or QuickTime video"
    if data[:4] == b"RIFF":
        return "AVI video" if data[8:12] == b"AVI " else "RIFF file"
    if data[257:262] == b"ustar":
        return "tar archive"
    return _text_kind(data[:TEXT_BYTES])


def _text_kind(start: bytes) -> str:
    text = start.decode("utf-8", "ignore")
    if b"\0" in start or len(text.encode()) < len(start) - 3 or any(c < " " and c not in "\t\r\n\f" for c in text):
        return "unknown"
    stripped = text.lstrip("\ufeff \t\r\n")
    if stripped.startswith(("{", "[")):
        return "JSON text"
    return "XML or HTML text" if stripped.startswith("<") else "text"
