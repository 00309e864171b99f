"""Keys of outputs: safe whatever the source is called, different for different sources, and readable back."""

from __future__ import annotations

import hashlib
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from upath import UPath

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.publish.faults import check_key
from airflow_facefog.publish.layout import output_format, output_key, plain_names, source_path
from airflow_facefog.publish.store import Store

SHA = hashlib.sha256(b"x").hexdigest()
SHAS = st.binary(max_size=3).map(lambda data: hashlib.sha256(data).hexdigest())
HOSTILE = ["..", "../../etc/passwd", "/etc/passwd", "a//b", "a/./b", ".", "", "/", "a\\b", "a\0b", "~", "%2E", "a%2Fb", "é" * 300,
           "x" * 300, "d" * 300 + "/y", "a\udcff", "con.jpg\n", "~deep/x", ".facefog-1.tmp", "d/" * 500 + "z.png"]  # fmt: skip
PATHS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=12),
    st.lists(st.text("ab./~%\\\udce9é", max_size=4), max_size=4).map("/".join),
    st.integers(200, 260).map(lambda n: "q" * n),
    st.integers(200, 260).map(lambda n: "q" * n + "/r"),
)


def encodable(path: str) -> bool:
    """Names of real files: lone surrogates other than escaped bytes cannot occur."""
    try:
        path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def test_the_documented_form():
    """The example of the protocol: source path, a dot, twelve hex digits, the output's extension."""
    assert output_key("named", "a/b.png", SHA, "png") == f"data/a/b.png.{SHA[:12]}.png"
    assert output_key("named", "a/b.png", SHA, "png", full=True) == f"data/a/b.png.{SHA}.png"
    assert output_key("content", "a/b.png", SHA, "png") == f"data/{SHA[:2]}/{SHA}.png"


@settings(max_examples=50, deadline=None)
@given(path=PATHS.filter(encodable), sha=SHAS, layout=st.sampled_from(["named", "content"]), full=st.booleans())
@example(path="..", sha=SHA, layout="named", full=False)
def test_keys_are_safe(path, sha, layout, full):
    """Any source name gives a key that the store accepts, below data/, in plain ASCII, short enough for S3."""
    key = output_key(layout, path, sha, "jpg", full=full)
    check_key(key)
    assert key.startswith("data/")
    assert key.isascii()
    assert len(key) <= 700 + 255 + 80
    assert not any(segment.startswith(".") for segment in key.split("/"))


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_names_can_be_written(path, tmp_path):
    """Hostile names become files inside the destination and nowhere else, and are listed again."""
    store = Store(UPath(tmp_path / "out"))
    key = output_key("named", path, SHA, "jpg")
    assert store.create(key, b"x")
    assert store.list() == [key]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(PATHS.filter(encodable), SHAS), max_size=8, unique=True))
def test_named_keys_are_injective(pairs):
    """Different (path, hash) never share a key: with full hashes always, with short ones unless twelve digits agree."""
    full = {output_key("named", path, sha, "png", full=True) for path, sha in pairs}
    short = {output_key("named", path, sha, "png") for path, sha in pairs}
    assert len(full) == len(pairs)
    assert len(short) == len({(path, sha[:12]) for path, sha in pairs})
    assert not full & short


def test_a_name_cannot_imitate_a_cut_name():
    """A source called like the cut form of another gets another key."""
    long = "n" * 400
    cut = output_key("named", long, SHA, "png").removeprefix("data/").removesuffix(f".{SHA[:12]}.png")
    assert output_key("named", cut, SHA, "png") != output_key("named", long, SHA, "png")


@settings(max_examples=50, deadline=None)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\\"), min_size=1, max_size=20).filter(
        lambda t: t.isprintable()
    )
)
def test_ordinary_names_come_back(name):
    """What people call their files is what they get back."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    path = "/".join([*parts, "photo.png"])
    assert source_path(output_key("named", path, SHA, "png")) == path


def test_accents_stay_as_they_were():
    """NFC and NFD names are different files on most systems and stay different."""
    nfc, nfd = unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.png")
    keys = [output_key("named", name, SHA, "png") for name in (nfc, nfd)]
    assert keys[0] != keys[1]
    assert [source_path(key) for key in keys] == [nfc, nfd]


def test_cuts_never_split_an_escape():
    """A cut segment is still valid percent-encoding."""
    for n in range(60, 90):
        key = output_key("named", "a" * n + "é" * 100, SHA, "png")
        head = key.removeprefix("data/").partition("~")[0]
        assert len(head.removeprefix("a" * n)) % 6 in (0, 3)


@pytest.mark.parametrize("path", HOSTILE)
def test_plain_names_are_safe_to_write(path):
    """Export writes below its folder whatever the sources were called."""
    key = output_key("named", path, SHA, "jpg")
    name = plain_names([key])[key]
    assert all(segment not in ("", ".", "..") and "\\" not in segment for segment in name.split("/"))
    assert name.isprintable() or name.isascii()
    name.encode("utf-8")
    assert all(len(segment.encode()) <= 255 for segment in name.split("/"))


@pytest.mark.parametrize(
    ("path", "ext", "expected"),
    [("b.png", "png", "b.png"), ("b.JPG", "jpg", "b.JPG"), ("b.jpeg", "jpg", "b.jpeg"), ("b.bmp", "png", "b.bmp.png"),
     ("b", "png", "b.png"), ("a.b/c d.tif", "tiff", "a.b/c d.tif")],
)  # fmt: skip
def test_plain_name_says_what_the_file_is(path, ext, expected):
    """The extension of a plain name is true: added only where the source's own would lie."""
    key = output_key("named", path, SHA, ext)
    assert plain_names([key]) == {key: expected}


def test_plain_names_never_clash():
    """Two outputs never export to one name, not even where case is ignored."""
    other = hashlib.sha256(b"y").hexdigest()
    keys = [
        output_key("named", path, sha, "png")
        for path in ("a.png", "A.PNG", "a.bmp", "a.bmp.png")
        for sha in (SHA, other)
    ]
    names = plain_names(keys)
    assert len({name.casefold() for name in names.values()}) == len(keys) == 8
    nested = [output_key("named", path, SHA, "png") for path in ("d.png", "d.png/e.png", "D.png/f.png")]
    folded = {name.casefold() for name in plain_names(nested).values()}
    assert not any(one.startswith(two + "/") for one in folded for two in folded)
    content = output_key("content", "x", SHA, "png")
    assert plain_names([content]) == {content: f"{SHA[:2]}/{SHA}.png"}


def test_content_keys_tell_no_name():
    """The content layout holds nothing of the source's name."""
    assert source_path(output_key("content", "anna/passport.png", SHA, "png")) is None
    assert "anna" not in output_key("content", "anna/passport.png", SHA, "png")


@pytest.mark.parametrize(
    ("layout", "sha", "ext"),
    [
        ("tree", SHA, "png"),
        ("named", "abc", "png"),
        ("named", SHA.upper(), "png"),
        ("named", SHA, ".png"),
        ("content", SHA, "a/b"),
    ],
)
def test_wrong_arguments_are_refused(layout, sha, ext):
    """No key is made from something that is not a hash or not an extension."""
    with pytest.raises(ConfigurationError):
        output_key(layout, "a.png", sha, ext)


def test_format_of_a_key():
    """Formats are spelled one way, whatever the extension."""
    assert [output_format(f"data/x.{ext}") for ext in ("jpg", "tif", "png")] == ["jpeg", "tiff", "png"]
