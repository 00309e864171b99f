"""Depth, colour model, alpha, limits: what decoding may change is listed, what encoding keeps is exact."""

from __future__ import annotations

import importlib

import corpus
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from airflow_facefog.core import codec
from airflow_facefog.core.codec import Header, Picture, ijg
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.policy import Limits, OutputFormat
from airflow_facefog.core.raw import RawImage
from airflow_facefog.core.records import Reason

BY_NAME = {case.name: case for case in corpus.cases()}


def decoded(data: bytes) -> Picture:
    """Decode under default limits."""
    return codec.decode(RawImage(data, "0" * 64), Limits())


def shapes() -> st.SearchStrategy[tuple[int, ...]]:
    """(h, w), (h, w, 3) and (h, w, 4), 1 to 20 px a side."""
    side = st.integers(1, 20)
    return st.one_of(st.tuples(side, side), st.tuples(side, side, st.sampled_from([3, 4])))


@settings(max_examples=40, deadline=None)
@given(
    pixels=shapes().flatmap(lambda shape: arrays(np.uint8, shape)), kind=st.sampled_from(["png", "bmp", "tiff", "webp"])
)
def test_lossless_formats_keep_every_bit(pixels: np.ndarray, kind: str) -> None:
    """PNG, BMP, TIFF and lossless WebP give back exactly what they got, hidden colour under alpha 0 included."""
    picture = Picture(pixels, Header(kind, pixels.shape[1], pixels.shape[0]), (), "0" * 64)
    encoded = codec.encode(picture, picture.pixels, OutputFormat())
    assert encoded.lossless
    codec.check_container(encoded.data, encoded.format)
    assert np.array_equal(codec.decode_output(encoded.data, encoded.format, encoded.channels), pixels)
    source = decoded(encoded.data).pixels
    if source.shape == pixels.shape:
        assert np.array_equal(source, pixels)
    else:  # WebP has no gray
        assert kind == "webp"
        assert pixels.ndim == 2


@pytest.mark.parametrize(
    ("name", "shape", "changes"),
    [
        ("jpeg_gray", 2, ()),
        ("jpeg_cmyk", 3, ("cmyk_to_rgb",)),
        ("png_gray_trns", 4, ()),
        ("png_la", 4, ("gray_alpha_to_bgra",)),
        ("png_palette", 3, ("palette_to_rgb",)),
        ("png_palette_trns", 4, ("palette_to_rgb",)),
        ("png_rgb_trns", 4, ()),
        ("png_1bit", 2, ()),
        ("png_gray16", 2, ("depth_16_to_8",)),
        ("png_rgb16", 3, ("depth_16_to_8",)),
        ("tiff_gray16", 2, ("depth_16_to_8",)),
        ("tiff_rgb16", 3, ("depth_16_to_8",)),
        ("tiff_cmyk", 3, ("cmyk_to_rgb",)),
        ("tiff_g4_1bit", 2, ()),
        ("heic_10bit", 3, ("depth_10_to_8",)),
        ("jpeg_display_p3", 3, ("icc_to_srgb",)),
        ("png_display_p3", 3, ("icc_to_srgb",)),
        ("jpeg_icc_private_tag", 3, ()),
        ("jpeg_bad_icc", 3, ("icc_ignored",)),
        ("png_damaged_iccp", 3, ("icc_ignored",)),
    ],
)
def test_layout_and_listed_changes(name: str, shape: int, changes: tuple[str, ...]) -> None:
    """Each mode ends in its layout, and each alteration is listed."""
    picture = decoded(BY_NAME[name].data)
    assert (2 if picture.pixels.ndim == 2 else picture.pixels.shape[2]) == shape
    assert picture.changes == changes
    assert picture.bgr().shape == (picture.height, picture.width, 3)


@pytest.mark.parametrize("name", ["png_gray16", "png_rgb16", "tiff_gray16", "tiff_rgb16"])
def test_sixteen_bits_keep_the_high_byte(name: str) -> None:
    """16-bit samples become their high byte exactly."""
    picture = decoded(BY_NAME[name].data)
    expected = corpus.textured()[:, :, 0] if picture.pixels.ndim == 2 else corpus.textured()
    assert np.array_equal(picture.pixels, expected)


def test_transparent_gray_level() -> None:
    """The one transparent level of a gray PNG gets alpha 0, all others 255, at every depth."""
    for depth in (1, 2, 4, 8):
        levels = np.arange(1 << depth, dtype=np.uint8)[None, :].repeat(2, 0)
        packed = np.packbits(np.unpackbits(levels[:, :, None], axis=2)[:, :, 8 - depth :].reshape(2, -1), axis=1)
        rows = b"".join(b"\0" + row.tobytes() for row in packed)
        body = corpus._png_header(1 << depth, 2, depth=depth, idat=corpus.zlib.compress(rows))
        data = corpus.insert_chunks(body, corpus.chunk(b"tRNS", b"\0\x01"))
        alpha = decoded(data).pixels[0, :, 3]
        assert alpha[1] == 0
        assert (np.delete(alpha, 1) == 255).all()


def test_hidden_colour_is_looked_at() -> None:
    """Colour under alpha 0 reaches the detector: alpha is dropped, never blended."""
    picture = decoded(BY_NAME["png_rgba_hidden_colour"].data)
    assert (picture.pixels[:, :, 3] == 0).any()
    assert np.array_equal(picture.bgr(), corpus.textured()[:, :, ::-1])


def test_pixels_are_read_only_and_never_pickled() -> None:
    """Nobody can fog in place or ship a picture out of the process by accident."""
    picture = decoded(BY_NAME["jpeg_444"].data)
    assert not picture.pixels.flags.writeable
    assert picture.pixels.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        picture.pixels[0, 0] = 0
    with pytest.raises(TypeError, match="never serialised"):
        picture.__reduce__()


def test_display_p3_is_converted() -> None:
    """Saturated P3 colours land where lcms puts them, not where raw numbers would."""
    plain, wide = decoded(BY_NAME["png_rgb"].data).pixels, decoded(BY_NAME["png_display_p3"].data).pixels
    difference = np.abs(plain.astype(int) - wide)
    assert difference.max() > 10
    gray = np.full((8, 8, 3), 120, np.uint8)
    same = decoded(corpus.save(gray, "PNG", icc_profile=corpus.icc_with_private_tag(wide=True))).pixels
    assert np.abs(same.astype(int) - 120).max() <= 2


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 60, 75, 85, 90, 95, 98, 100])
def test_ijg_quality_is_matched(quality: int) -> None:
    """Tables of an IJG encoder are recognised exactly and used again, from 50 up; below, the output takes 75."""
    data = corpus.save(corpus.textured(), "JPEG", quality=quality)
    picture = decoded(data)
    assert picture.header.jpeg_quality == quality
    encoded = codec.encode(picture, picture.pixels, OutputFormat())
    expected = quality if quality >= 50 else 75
    assert encoded.mode == f"jpeg_q{expected}_420"
    assert codec.probe(RawImage(encoded.data, "0" * 64), Limits()).jpeg_quality == expected


def test_camera_tables_give_the_nearest_not_lower_quality() -> None:
    """A table between two IJG qualities takes the finer one, and is itself never copied."""
    tables = [[max(1, v - 1) for v in ijg.table(80, chroma)] for chroma in (False, True)]
    data = corpus.save(corpus.textured(), "JPEG", qtables=tables)
    quality = decoded(data).header.jpeg_quality
    assert quality is not None
    assert 80 < quality < 90
    for chroma, own in zip((False, True), tables, strict=True):
        assert sum(ijg.table(quality, chroma)) <= sum(own)


@pytest.mark.parametrize(
    ("width", "height", "turn", "same"),
    [
        (128, 96, 1, True), (125, 90, 1, True), (125, 90, 5, True), (128, 96, 6, True), (128, 96, 3, True),
        (128, 90, 8, True), (125, 96, 8, False), (128, 90, 6, False), (125, 96, 6, True), (125, 96, 2, False),
        (128, 90, 4, False), (120, 96, 2, False), (125, 90, 3, False),
    ],
)  # fmt: skip
def test_moved_block_grid_raises_the_quality(width: int, height: int, turn: int, same: bool) -> None:
    """Where a turn moves the block grid, the source's own quality would round a second time: 90 keeps every tile close."""
    stored = np.ascontiguousarray(corpus.textured()[:height, :width])
    picture = decoded(
        corpus.save(stored, "JPEG", quality=60, subsampling="4:4:4", exif=b"Exif\0\0" + corpus.exif(turn))
    )
    encoded = codec.encode(picture, picture.pixels, OutputFormat())
    assert encoded.mode == ("jpeg_q60_444" if same else "jpeg_q90_444")
    error = codec.decode_output(encoded.data, "jpeg").astype(np.float64) - picture.pixels
    tiles = [error[y : y + 16, x : x + 16] for y in range(0, picture.height, 16) for x in range(0, picture.width, 16)]
    assert max(np.sqrt((tile**2).mean()) for tile in tiles) < 8


@pytest.mark.parametrize("name", ["jpeg_display_p3", "jpeg_cmyk", "jpeg_rgb_coded"])
def test_changed_colour_raises_the_quality(name: str) -> None:
    """Converted pixels lie on no quantisation step of the source any more."""
    picture = decoded(BY_NAME[name].data)
    assert not picture.header.same_steps
    assert int(codec.encode(picture, picture.pixels, OutputFormat()).mode[6:8]) >= 90


def test_scan_chunk_and_box_floods_are_refused() -> None:
    """Small files with endless structure cost no time: they are refused by count."""
    progressive = corpus.save(corpus.textured(), "JPEG", progressive=True)
    at = progressive.rindex(b"\xff\xda")
    jpeg = progressive[:at] + progressive[at:-2] * 120 + b"\xff\xd9"
    comments = corpus.insert(progressive, b"\xff\xfe\0\x02" * 20_000)
    png = corpus.insert_chunks(corpus.save(corpus.textured(), "PNG"), corpus.chunk(b"prVt", b"") * 140_000)
    webp = corpus.save(corpus.textured(), "WEBP") + b"junk\0\0\0\0" * 2000
    webp = webp[:4] + (len(webp) - 8).to_bytes(4, "little") + webp[8:]
    avif = corpus.save(corpus.textured(), "AVIF", speed=9) + b"\0\0\0\x08free" * 120_000
    for data in (jpeg, comments, png, webp, avif):
        with pytest.raises(ImageError) as caught:
            codec.probe(RawImage(data, "0" * 64), Limits())
        assert caught.value.reason == Reason.CORRUPT


def test_libpng_never_sees_metadata(capfd: pytest.CaptureFixture[str]) -> None:
    """A profile's name in a broken chunk does not reach stderr, from where it would reach a log."""
    chunk = corpus.chunk(
        b"iCCP", corpus.SECRET[:30] + b"\0\0" + corpus.zlib.compress(corpus.icc_with_private_tag()[:200])
    )
    picture = decoded(corpus.insert_chunks(corpus.save(corpus.textured(), "PNG"), chunk))
    assert np.array_equal(picture.pixels, corpus.textured()[:, :, ::-1])
    assert capfd.readouterr() == ("", "")


def test_pillow_logs_no_tag_values(caplog: pytest.LogCaptureFixture) -> None:
    """Even with everything at DEBUG, no metadata of a file reaches a log."""
    caplog.set_level("DEBUG")
    decoded(BY_NAME["tiff_everything"].data)
    assert corpus.SECRET.decode() not in caplog.text


@pytest.mark.parametrize(("sampling", "word"), [("4:4:4", "444"), ("4:2:2", "422"), ("4:2:0", "420")])
def test_sampling_is_kept(sampling: str, word: str) -> None:
    """The chroma sampling of the source is the output's."""
    picture = decoded(corpus.save(corpus.textured(), "JPEG", subsampling=sampling))
    encoded = codec.encode(picture, picture.pixels, OutputFormat())
    assert codec.probe(RawImage(encoded.data, "0" * 64), Limits()).jpeg_sampling == word


@pytest.mark.parametrize("factor", ["411", "440"])
def test_rare_samplings_are_kept(factor: str) -> None:
    """4:1:1 and 4:4:0 sources stay what they are."""
    option = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{factor}")
    data = cv2.imencode(".jpg", corpus.textured(), [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, option])[1].tobytes()
    picture = decoded(data)
    assert picture.header.jpeg_sampling == factor
    assert codec.encode(picture, picture.pixels, OutputFormat()).mode.endswith(factor)


@pytest.mark.parametrize("target", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("name", ["jpeg_gray", "jpeg_444", "png_rgb", "webp_lossy", "heic_rgb", "tiff_gray"])
def test_asked_format_is_what_comes_out(name: str, target: str) -> None:
    """Any picture without alpha goes into any target, in its own layout."""
    picture = decoded(BY_NAME[name].data)
    encoded = codec.encode(picture, picture.pixels, OutputFormat(format=target, quality=80))
    codec.check_container(encoded.data, encoded.format)
    assert encoded.format == target
    back = codec.decode_output(encoded.data, encoded.format, encoded.channels)
    assert back.shape == picture.pixels.shape


@pytest.mark.parametrize(
    ("name", "mode"),
    [("jpeg_420", "webp_q90"), ("jpeg_444", "webp_lossless"), ("jpeg_422", "webp_lossless"), ("png_rgb", "webp_lossless"),
     ("jpeg_gray", "webp_q90"), ("webp_lossy", "webp_q90"), ("webp_lossless", "webp_lossless"), ("heic_rgb", "webp_q90")],
)  # fmt: skip
def test_webp_is_lossy_only_where_that_costs_little(name: str, mode: str) -> None:
    """Lossy WebP is 4:2:0: finer chroma and lossless sources are kept by lossless WebP."""
    picture = decoded(BY_NAME[name].data)
    assert codec.encode(picture, picture.pixels, OutputFormat(format="webp")).mode == mode


def test_jpeg_refuses_alpha() -> None:
    """Alpha is never blended away silently: who asks for JPEG gets an error that says what to set."""
    picture = decoded(BY_NAME["png_rgba_hidden_colour"].data)
    with pytest.raises(ImageError, match=r"output\.format") as caught:
        codec.encode(picture, picture.pixels, OutputFormat(format="jpeg"))
    assert caught.value.reason == Reason.ENCODE_FAILED


def test_pixels_of_another_shape_are_refused() -> None:
    """Encoding something that is not this picture is an error."""
    picture = decoded(BY_NAME["jpeg_444"].data)
    with pytest.raises(ImageError) as caught:
        codec.encode(picture, picture.pixels[1:], OutputFormat())
    assert caught.value.reason == Reason.ENCODE_FAILED


def test_webp_too_wide_is_refused() -> None:
    """A picture that the target cannot hold is quarantined, not cropped."""
    picture = decoded(BY_NAME["jpeg_wide"].data)
    with pytest.raises(ImageError) as caught:
        codec.encode(picture, picture.pixels, OutputFormat(format="webp"))
    assert caught.value.reason == Reason.ENCODE_FAILED


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(Limits(max_bytes=100), Reason.TOO_MANY_BYTES), (Limits(max_pixels=100), Reason.TOO_MANY_PIXELS)],
)
@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif", "avif", "heic"])
def test_limits_hold_before_decoding(
    extension: str, limits: Limits, reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both limits are held against the header in every format; no decoder is asked."""
    module = importlib.import_module("airflow_facefog.core.codec.decode")
    monkeypatch.setattr(module, "_frame", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError) as caught:
        codec.decode(RawImage(BY_NAME[f"orientation_1_{extension}"].data, "0" * 64), limits)
    assert caught.value.reason == reason


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=400), magic=st.sampled_from([case.data[:40] for case in corpus.cases() if case.upright]))
def test_hostile_headers_only_raise_image_errors(data: bytes, magic: bytes) -> None:
    """Random bytes behind a good magic end in an ImageError, never in another exception."""
    with pytest.raises(ImageError):
        codec.decode(RawImage(magic + data, "0" * 64), Limits())


@settings(max_examples=50, deadline=None)
@given(
    case=st.sampled_from([case for case in corpus.cases() if case.name.startswith("orientation_6")]),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_flipped_bytes_never_crash(case: corpus.Case, edits: list[tuple[float, int]]) -> None:
    """A damaged file is either refused with an ImageError or decodes to a whole picture of the header's size."""
    damaged = bytearray(case.data)
    for where, value in edits:
        damaged[int(where * len(damaged))] = value
    raw = RawImage(bytes(damaged), "0" * 64)
    try:
        picture = codec.decode(raw, Limits())
    except ImageError:
        return
    assert codec.probe(raw, Limits()).upright_size == (picture.width, picture.height)


def test_cmyk_matches_pillow() -> None:
    """Inverted Adobe inks are turned the right way round."""
    data = BY_NAME["jpeg_cmyk"].data
    expected = np.asarray(Image.open(corpus.io.BytesIO(data)).convert("RGB"))[:, :, ::-1]
    assert np.abs(decoded(data).pixels.astype(int) - expected).mean() < 2
