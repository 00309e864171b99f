"""The master key and what is derived from it. One 32-byte key; HKDF-SHA256 (RFC 5869) gives one key per use.

Keyless mode is explicit: ``KeyRing.from_master(None)`` has ``key_id == "none"``, plain sha256 ids and a public noise
field. Plain ids are a membership oracle (whoever holds a photo can ask whether it was processed); set a key to close it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field

from airflow_facefog.core.errors import ConfigurationError

KEY_BYTES = 32
NO_KEY = "none"


def hkdf(master: bytes, info: str, length: int = KEY_BYTES) -> bytes:
    """Derive ``length`` bytes (at most 32) for one use from ``master``: HKDF-SHA256, no salt, RFC 5869."""
    pseudo_random_key = hmac.digest(b"\0" * KEY_BYTES, master, "sha256")
    return hmac.digest(pseudo_random_key, info.encode() + b"\x01", "sha256")[:length]


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Derived keys of one master key. Prints its ``key_id`` only."""

    key_id: str
    fog: bytes = field(repr=False)
    pred: bytes = field(repr=False)
    ids: bytes | None = field(repr=False, default=None)
    src: bytes | None = field(repr=False, default=None)

    @classmethod
    def from_master(cls, master: bytes | None) -> KeyRing:
        """Derive all keys from 32 bytes, or build the keyless ring from None.

        Raises ConfigurationError for any other length.
        """
        if master is None:
            zero = b"\0" * KEY_BYTES
            return cls(NO_KEY, hkdf(zero, "facefog/fog/1"), hkdf(zero, "facefog/pred/1"))
        if len(master) != KEY_BYTES:
            raise ConfigurationError(
                f"the master key has {len(master)} bytes, not 32; make one with `facefog keys new`"
            )
        return cls(
            hmac.digest(master, b"facefog/key-id/1", "sha256").hex()[:8],
            hkdf(master, "facefog/fog/1"),
            hkdf(master, "facefog/pred/1"),
            hkdf(master, "facefog/id/1"),
            hkdf(master, "facefog/src/1"),
        )

    @property
    def keyed(self) -> bool:
        """Whether a real master key is behind this ring."""
        return self.ids is not None

    @property
    def id_scheme(self) -> str:
        """``hmac-sha256`` or ``sha256``, as recorded in the run row."""
        return "hmac-sha256" if self.keyed else "sha256"

    def image_id(self, data: bytes) -> str:
        """64 hex digits that name these raw bytes."""
        return self.image_id_of(hashlib.sha256(data).digest())

    def image_id_of(self, sha256: bytes) -> str:
        """The same from the bytes' sha256: itself, or its HMAC, so that large files are read once."""
        return sha256.hex() if self.ids is None else _digest(self.ids, b"facefog/image/1\0" + sha256)

    def pixel_id_of(self, width: int, height: int, sha256: bytes) -> str:
        """64 hex digits that name the pixels of a picture, whatever file holds them: an HMAC, so never keyless.

        ``width``, ``height``: upright px; ``sha256``: of its BGR bytes, row by row. The same key as ``image_id_of`` under
        a label of its own. Raises ConfigurationError without a master key: a plain hash of pixels would be an oracle.
        """
        if self.ids is None:
            raise ConfigurationError("a pixel id needs a master key; make one with `facefog keys new`")
        size = width.to_bytes(8, "big") + height.to_bytes(8, "big")
        return _digest(self.ids, b"facefog/pixels/1\0" + size + sha256)

    def source_ref(self, canonical_uri: str) -> str:
        """64 hex digits that name a listed item; ``canonical_uri`` has no userinfo and no query."""
        return _digest(self.src, b"facefog/source/1\0" + canonical_uri.encode("utf-8", "surrogateescape"))

    def item_id(self, source_ref: str) -> str:
        """64 hex digits for consumers: stable per source, no id of raw bytes."""
        return _digest(self.src, b"facefog/item/1\0" + source_ref.encode())

    def content_id(self, sha256: bytes) -> bytes:
        """What names the noise field: the source's sha256 when keyed, empty when not (then it is no oracle on the file)."""
        return sha256 if self.keyed else b""

    def mac(self, payload: bytes) -> str:
        """Authenticate stored predictions. Keyless: a checksum only, anyone can make one."""
        return hmac.digest(self.pred, payload, "sha256").hex()


def parse_master(text: str) -> bytes:
    """Read a master key from 64 hex digits or base64. Raises ConfigurationError without quoting the text."""
    text = text.strip()
    try:
        raw = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    if len(raw) != KEY_BYTES:
        raise ConfigurationError(
            "the master key is not 32 bytes as 64 hex digits or base64; make one with `facefog keys new`"
        )
    return raw


def _digest(key: bytes | None, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if key is None else hmac.digest(key, data, "sha256").hex()
