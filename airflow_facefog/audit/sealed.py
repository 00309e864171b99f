"""Sealed documents: JSON that is hashed, signed and never changed. Manifests, chain entries and certificates are such.

Bytes are RFC 8785 canonical JSON. A signature is Ed25519 (RFC 8032) over the canonical bytes of the document without its
``signature`` field; ``format`` is part of what is signed, so that no document passes for one of another kind. Unsigned
documents say ``"signed": false``. Integers beyond 2^53 are refused by RFC 8785.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError, PermanentError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

Document = Mapping[str, Any]

ALGORITHM = "ed25519"

EXACT = 2**53 - 1
"""The largest integer that every reader of JSON holds exactly."""


class LedgerError(PermanentError):
    """The record is damaged, incomplete or not what it says. Restore it from a backup; a retry does not help."""


class Signature(StrEnum):
    """What can be said of a document's signature. Only ``VALID`` proves anything, and only for a key that is trusted."""

    VALID = "valid"
    UNSIGNED = "unsigned"
    UNKNOWN_KEY = "unknown_key"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public signing key. ``key_id``: first 16 hex digits of the sha256 of its 32 raw bytes."""

    key_id: str
    key: Ed25519PublicKey = field(repr=False)

    @classmethod
    def from_pem(cls, pem: bytes) -> PublicKey:
        """Read a public key in PEM form. Raises ConfigurationError for anything else, private keys included."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            key = load_pem_public_key(pem)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise ConfigurationError(
                "this is no Ed25519 public key in PEM form; give the `.pub` file of the signing key"
            )
        return cls(_key_id(key), key)

    @property
    def pem(self) -> bytes:
        """The key in PEM form."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private key that only finalise, erasure and expiry hold. Prints its ``key_id`` only."""

    public: PublicKey
    key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> SigningKey:
        """A new random key."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls._of(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> SigningKey:
        """Read an unencrypted PKCS#8 key in PEM form. Raises ConfigurationError without quoting it."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigurationError(
                "this is no unencrypted Ed25519 private key in PEM form; make one with `facefog keys new --signing`"
            )
        return cls._of(key)

    @property
    def key_id(self) -> str:
        """Names the key in what it signs."""
        return self.public.key_id

    @property
    def pem(self) -> bytes:
        """The private key in PEM form (PKCS#8, unencrypted): for its 0600 file or the secrets backend only."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @classmethod
    def _of(cls, key: Ed25519PrivateKey) -> SigningKey:
        public = key.public_key()
        return cls(PublicKey(_key_id(public), public), key)


def seal(document: Document, signer: SigningKey | None) -> bytes:
    """The final bytes of a document: canonical, with ``signed``, ``signer`` and ``signature`` filled in.

    Deterministic: Ed25519 signatures are. Raises LedgerError for values that RFC 8785 cannot hold.
    """
    about = None if signer is None else {"algorithm": ALGORITHM, "key_id": signer.key_id}
    body = {**document, "signed": signer is not None, "signer": about}
    body.pop("signature", None)
    sign = None if signer is None else base64.b64encode(signer.key.sign(canonical(body))).decode()
    return canonical({**body, "signature": sign})


def read_sealed(data: bytes, *formats: str) -> dict[str, Any]:
    """Parse a sealed document of one of these formats.

    Raises LedgerError when it is no JSON object, of another format, or not in canonical form (then it was edited).
    """
    try:
        document = json.loads(data)
        found = document["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise LedgerError("a sealed document is not readable; it was damaged or replaced") from None
    if found not in formats:
        raise LedgerError(f"a sealed document has format {str(found)[:40]!r}, not {' or '.join(formats)}")
    if canonical(document) != data:
        raise LedgerError(f"a document of format {found} is not in canonical form; it was edited")
    return dict(document)


def check(document: Document, trusted: Mapping[str, PublicKey]) -> Signature:
    """What the signature of a document says under these keys (key_id → key). Never raises."""
    from cryptography.exceptions import InvalidSignature

    signer: Any = document.get("signer")
    signature: Any = document.get("signature")
    if document.get("signed") is not True:
        return Signature.INVALID if signer or signature else Signature.UNSIGNED
    try:
        if signer["algorithm"] != ALGORITHM:
            return Signature.INVALID
        key = trusted.get(signer["key_id"])
        if key is None:
            return Signature.UNKNOWN_KEY
        body = {name: value for name, value in document.items() if name != "signature"}
        key.key.verify(base64.b64decode(signature, validate=True), canonical(body))
    except (InvalidSignature, KeyError, TypeError, AttributeError, binascii.Error, ValueError, LedgerError):
        return Signature.INVALID
    return Signature.VALID


def canonical(document: Any) -> bytes:
    """RFC 8785 bytes of a JSON value. Raises LedgerError for a value outside of it (NaN, integers beyond 2^53)."""
    import rfc8785

    try:
        if _is_plain(document):  # ten times as fast, and the same bytes
            return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
        return rfc8785.dumps(document)
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeEncodeError):
        raise LedgerError("a value of a sealed document has no canonical JSON form") from None


def _is_plain(value: Any) -> bool:
    """Whether ``json`` writes this value in its canonical form: names in ASCII (which sort alike), no floats, exact integers."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(-EXACT <= value <= EXACT)
    if kind is dict:
        return all(type(name) is str and name.isascii() for name in value) and all(map(_is_plain, value.values()))
    return kind is list and all(map(_is_plain, value))


def sha256(data: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def _key_id(key: Ed25519PublicKey) -> str:
    return sha256(key.public_bytes_raw())[:16]
