"""V6: the container walker. Our own, an allow-list per format; it knows only what our encoders write.

Everything it does not know is refused: metadata, a second picture, bytes after the end marker, private segments. No
colour profile is on any list because none is written (``colour``).
"""

from __future__ import annotations

from collections.abc import Callable

from airflow_facefog.core.codec import container_avif, container_jpeg, container_png, container_rows, container_webp
from airflow_facefog.core.codec.container_base import refuse

_WALKERS: dict[str, Callable[[bytes], None]] = {
    "jpeg": container_jpeg.check,
    "png": container_png.check,
    "webp": container_webp.check,
    "avif": container_avif.check,
    "bmp": container_rows.check_bmp,
    "tiff": container_rows.check_tiff,
}


def check_container(data: bytes, format: str) -> None:
    """Raise ImageError VERIFY_FAILED unless ``data`` is one clean picture of ``format`` and nothing more."""
    walk = _WALKERS.get(format)
    if walk is None:
        refuse(f"there is no container walker for format {format!r}")
    try:
        walk(data)
    except IndexError:
        refuse(f"the {format} ends inside its structure")
