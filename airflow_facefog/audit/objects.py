"""What the audit needs of a store: the read and put-if-absent half of ``publish.store.Store``, as a protocol."""

from __future__ import annotations

from typing import Protocol


class Objects(Protocol):
    """Objects under one root, named by relative keys with ``/``. Errors as ``publish.store.Store`` raises them."""

    @property
    def local(self) -> bool:
        """Whether objects are files of this machine."""

    def get(self, key: str) -> bytes | None:
        """The whole object, or None when there is none."""

    def read(self, key: str) -> bytes:
        """The whole object. Raises FileNotFoundError when there is none."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a new object. False: the key existed and is untouched."""

    def exists(self, key: str) -> bool:
        """Whether the object is there now."""

    def size(self, key: str) -> int:
        """Bytes of the object. Raises FileNotFoundError when there is none."""

    def list(self, prefix: str = "") -> list[str]:
        """All keys in the folder ``prefix``, sorted."""

    def uri(self, key: str = "") -> str:
        """The URI of a key."""
