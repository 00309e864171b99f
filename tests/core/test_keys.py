"""Keys: derivation against a published vector, ids, keyless mode, and silence."""

from __future__ import annotations

import base64
import pickle

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.keys import KeyRing, hkdf, parse_master
from airflow_facefog.core.raw import RawImage

MASTER = bytes(range(32))


@pytest.mark.parametrize("info", ["facefog/fog/1", "facefog/id/1", ""])
def test_hkdf_is_rfc_5869(info: str) -> None:
    """Our few lines agree with the cryptography package."""
    expected = HKDF(SHA256(), 32, salt=None, info=info.encode()).derive(MASTER)
    assert hkdf(MASTER, info) == expected


def test_every_use_has_its_own_key() -> None:
    """No two derived keys are equal, and none is the master."""
    ring = KeyRing.from_master(MASTER)
    keys = {ring.fog, ring.pred, ring.ids, ring.src, MASTER}
    assert len(keys) == 5


def test_a_ring_prints_its_id_only() -> None:
    """No derived key shows up in repr or str."""
    ring = KeyRing.from_master(MASTER)
    assert repr(ring) == f"KeyRing(key_id='{ring.key_id}')"
    assert len(ring.key_id) == 8


def test_keyless_mode_is_explicit_and_public() -> None:
    """Without a key ids are plain sha256 and the noise does not depend on the file."""
    ring = KeyRing.from_master(None)
    assert (ring.key_id, ring.id_scheme, ring.keyed) == ("none", "sha256", False)
    assert ring.content_id(b"x" * 32) == b""
    assert ring.image_id(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_keyed_ids_differ_by_key_and_use() -> None:
    """Another key gives other ids; an item id is neither its source_ref nor an image id."""
    one, two = KeyRing.from_master(MASTER), KeyRing.from_master(b"y" * 32)
    assert one.image_id(b"a") != two.image_id(b"a")
    reference = one.source_ref("file:///a")
    assert len({reference, one.item_id(reference), one.image_id(b"file:///a"), two.source_ref("file:///a")}) == 4
    assert one.mac(b"m") != two.mac(b"m")


@pytest.mark.parametrize("text", [MASTER.hex(), MASTER.hex().upper() + "\n", base64.b64encode(MASTER).decode()])
def test_a_master_key_is_read_from_hex_and_base64(text: str) -> None:
    """Both common spellings work, with white space around."""
    assert parse_master(text) == MASTER


@pytest.mark.parametrize("text", ["", "abc", "hunter2" * 9, MASTER.hex()[:-1], "zz" * 32])
def test_a_wrong_master_key_is_refused_without_being_quoted(text: str) -> None:
    """The error says what a key looks like and not what was given."""
    with pytest.raises(ConfigurationError) as caught:
        parse_master(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_another_length_is_refused(length: int) -> None:
    """Only 32 bytes are a master key."""
    with pytest.raises(ConfigurationError, match="32"):
        KeyRing.from_master(b"x" * length)


def test_raw_images_neither_print_nor_pickle() -> None:
    """Raw bytes stay inside the process that read them."""
    raw = RawImage(b"secret pixels", "f" * 64)
    assert repr(raw) == "RawImage(13 bytes, id ffffffffffff)"
    with pytest.raises(TypeError, match="never serialised"):
        pickle.dumps(raw)
