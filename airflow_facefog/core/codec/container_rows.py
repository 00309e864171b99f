"""BMP and TIFF: we write them ourselves, so the walker rebuilds every byte before the pixels and compares."""

from __future__ import annotations

from airflow_facefog.core.codec import write_bmp, write_tiff
from airflow_facefog.core.codec.container_base import refuse


def check_bmp(data: bytes) -> None:
    """Raise ImageError VERIFY_FAILED unless ``data`` is exactly the computed header and the rows."""
    if write_bmp.write(write_bmp.read(data)).data != data:
        refuse("the BMP's row padding is not zero")


def check_tiff(data: bytes) -> None:
    """Raise ImageError VERIFY_FAILED unless ``data`` is exactly the computed directory and full strips."""
    for _ in write_tiff.strips(data, write_tiff.layout_of(data)):
        pass  # each strip inflates to exactly its rows, or raises
