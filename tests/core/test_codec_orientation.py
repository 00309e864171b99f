"""Whatever the container says about orientation, pixels come out upright, and exactly once turned."""

from __future__ import annotations

import corpus
import numpy as np
import pytest

from airflow_facefog.core import codec
from airflow_facefog.core.codec import exif
from airflow_facefog.core.codec.orient import upright
from airflow_facefog.core.policy import Limits, OutputFormat
from airflow_facefog.core.raw import RawImage

ORIENTED = [case for case in corpus.cases() if case.upright]
LOSSLESS = ("png", "webp", "tif")


@pytest.mark.parametrize("case", ORIENTED, ids=lambda case: case.name)
def test_upright(case: corpus.Case) -> None:
    """All 8 orientations in JPEG, PNG, WebP, TIFF, AVIF and HEIC show the same picture; the lossless ones bit-equal."""
    picture = codec.decode(RawImage(case.data, "0" * 64), Limits())
    expected = corpus.picture()[:, :, ::-1]
    number = int(case.name.split("_")[1])
    assert picture.header.orientation == number
    assert picture.pixels.shape == expected.shape
    if case.filename.endswith(LOSSLESS):
        assert np.array_equal(picture.pixels, expected)
    # lossy codecs ring at the edges between the quarters; a wrong turn is off by > 40 on average
    assert np.abs(picture.pixels.astype(int) - expected).mean() < 4


@pytest.mark.parametrize("case", ORIENTED, ids=lambda case: case.name)
def test_output_carries_no_orientation(case: corpus.Case) -> None:
    """The output is stored upright: reading it as a source gives orientation 1 and the same picture."""
    picture = codec.decode(RawImage(case.data, "0" * 64), Limits())
    encoded = codec.encode(picture, picture.pixels, OutputFormat())
    again = codec.decode(RawImage(encoded.data, "1" * 64), Limits())
    assert again.header.orientation == 1
    assert np.abs(again.pixels.astype(int) - picture.pixels).mean() < 4


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("channels", [0, 3, 4])
def test_orient_inverts_storage(number: int, channels: int) -> None:
    """Each turn undoes how numpy stores that orientation, in each layout."""
    shape = (5, 7, channels) if channels else (5, 7)
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    stored = np.ascontiguousarray(corpus.STORED[number](array))
    assert np.array_equal(upright(stored, number), array)


@pytest.mark.parametrize("blob", [None, b"", b"II", b"Exif\0\0", b"XX*\0" + bytes(20), corpus.exif(0), corpus.exif(9),
                                  corpus.exif(6)[:12], b"II*\0\xff\xff\xff\xff"])  # fmt: skip
def test_damaged_exif_means_upright(blob: bytes | None) -> None:
    """Absent, damaged and out-of-range values read as 1 and never raise."""
    assert exif.orientation(blob) == 1


def test_exif_byte_orders() -> None:
    """Both byte orders and the Exif prefix are understood."""
    big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    assert exif.orientation(big) == 6
    assert exif.orientation(b"Exif\0\0" + corpus.exif(8)) == 8
