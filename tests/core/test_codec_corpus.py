"""Every file of the corpus has one outcome, and whatever is published holds pixels only."""

from __future__ import annotations

import corpus
import numpy as np
import pytest

from airflow_facefog.core import codec
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.policy import Limits, OutputFormat
from airflow_facefog.core.raw import RawImage
from airflow_facefog.core.records import Reason

CASES = corpus.cases()
GOOD = [case for case in CASES if case.expect == corpus.PUBLISHED]
BAD = [case for case in CASES if case.expect != corpus.PUBLISHED]
RUN = 32


def raw(data: bytes) -> RawImage:
    """Wrap bytes under a fixed id."""
    return RawImage(data, "ab" * 32)


def published(data: bytes, output: OutputFormat | None = None) -> codec.Encoded:
    """Decode and encode again, as the pipeline does with nothing to fog."""
    picture = codec.decode(raw(data), Limits())
    return codec.encode(picture, picture.pixels, output or OutputFormat())


def holds_run(haystack: bytes, needle: bytes, length: int = RUN) -> bool:
    """Whether any ``length`` bytes in a row of ``needle`` occur in ``haystack``."""
    windows = {needle[i : i + length] for i in range(len(needle) - length + 1)}
    return any(haystack[i : i + length] in windows for i in range(len(haystack) - length + 1))


def test_corpus_is_large_and_has_each_outcome() -> None:
    """The table keeps its promise of size and variety, and is the same in each process."""
    assert len(CASES) >= 150
    assert len({case.expect for case in BAD}) >= 8
    assert all(case.data == again.data for case, again in zip(CASES, corpus.cases(), strict=True))


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_refused_with_its_reason(case: corpus.Case) -> None:
    """What cannot be read whole is refused for the stated reason, and the message quotes nothing of the file."""
    with pytest.raises(ImageError) as caught:
        codec.decode(raw(case.data), Limits())
    assert caught.value.reason == case.expect
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_published_as_pixels_only(case: corpus.Case) -> None:
    """A good file decodes, encodes to a container the walker accepts, and decodes back to the same layout."""
    picture = codec.decode(raw(case.data), Limits())
    encoded = codec.encode(picture, picture.pixels, OutputFormat())
    codec.check_container(encoded.data, encoded.format)
    back = codec.decode_output(encoded.data, encoded.format, encoded.channels)
    assert back.shape == picture.pixels.shape
    assert back.dtype == picture.pixels.dtype == np.uint8
    if encoded.lossless:
        assert np.array_equal(back, picture.pixels)
    else:
        error = back.astype(np.float64) - picture.pixels
        assert np.sqrt((error**2).mean()) < 12


@pytest.mark.parametrize("case", [case for case in GOOD if case.markers], ids=lambda case: case.name)
def test_nothing_of_the_metadata_survives(case: corpus.Case) -> None:
    """No marker string and no 32-byte run of an embedded thumbnail is in the output."""
    data = published(case.data).data
    for marker in case.markers:
        assert not holds_run(data, marker)


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
@pytest.mark.parametrize("extra", [b"\0", b"PK\x03\x04", b"\xff\xd8\xff\xe0"])
def test_appended_bytes_are_refused(case: corpus.Case, extra: bytes) -> None:
    """Nothing may stand behind the end of an output."""
    encoded = published(case.data)
    with pytest.raises(ImageError) as caught:
        codec.check_container(encoded.data + extra, encoded.format)
    assert caught.value.reason == Reason.VERIFY_FAILED


@pytest.mark.parametrize("case", [case for case in CASES if len(case.data) > 64], ids=lambda case: case.name)
def test_probe_agrees_with_decode(case: corpus.Case) -> None:
    """The header alone gives the size, alpha and format that decoding then shows."""
    try:
        picture = codec.decode(raw(case.data), Limits())
    except ImageError:
        return
    header = codec.probe(raw(case.data), Limits())
    assert header.upright_size == (picture.width, picture.height)
    assert header.format == picture.header.format
    assert not (header.alpha and picture.pixels.ndim == 2)


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_same_pixels_give_same_bytes(case: corpus.Case) -> None:
    """A retry publishes identical bytes."""
    assert published(case.data).data == published(case.data).data


def test_reprs_show_no_content() -> None:
    """Neither pixels, encoded bytes nor the profile can reach a log through repr."""
    data = corpus.insert(corpus.save(corpus.textured(), "JPEG"), *corpus.jpeg_carriers().values())
    header = codec.probe(raw(data), Limits())
    picture = codec.decode(raw(data), Limits())
    encoded = codec.encode(picture, picture.pixels, OutputFormat())
    text = repr((raw(data), header, picture, encoded))
    assert len(text) < 1500
    assert "\\x" not in text
    assert "SECRET" not in text
    assert picture.header.icc is None
