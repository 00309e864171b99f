"""Wrappers that keep raw pixels out of reprs, and the seal that keeps them out of tracebacks (promise P5).

Tools that capture locals (rich, Sentry, debuggers, Airflow's own log formatters) print ``repr`` of whatever a frame
holds. So raw bytes and arrays travel in a wrapper between functions, and any exception that crosses a ``sealed``
function loses the inner frames, its cause and, unless it is one of ours, its message.
"""

from __future__ import annotations

import functools
import hashlib
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from airflow_facefog.core.errors import FogError, InternalError

P = ParamSpec("P")
R = TypeVar("R")


class RawImage:
    """The bytes of one source image. ``image_id`` names it; ``repr`` shows size and id only; never pickled."""

    __slots__ = ("_sha256", "data", "image_id")

    def __init__(self, data: bytes, image_id: str, sha256: bytes | None = None) -> None:
        self.data = data
        self.image_id = image_id
        self._sha256 = sha256

    @property
    def sha256(self) -> bytes:
        """Digest of the bytes, taken once."""
        if self._sha256 is None:
            self._sha256 = hashlib.sha256(self.data).digest()
        return self._sha256

    def __repr__(self) -> str:
        return f"RawImage({len(self.data)} bytes, id {self.image_id[:12]})"

    def __len__(self) -> int:
        return len(self.data)

    def __reduce__(self) -> str:
        raise TypeError("RawImage is never serialised: raw pixels stay inside the process that read them")


def sealed(function: Callable[P, R]) -> Callable[P, R]:
    """Let no inner frame, cause or foreign message escape from ``function``.

    Our own errors pass with their message and class, without their frames; anything else becomes
    ``InternalError`` naming the exception's class and the place in the code. Arguments must print safely.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        error: BaseException
        try:
            return function(*args, **kwargs)
        except MemoryError:
            error = InternalError(
                "MemoryError: out of memory; use fewer workers or lower the policy's limits.max_pixels"
            )
        except FogError as caught:
            error = _bare(caught)
        except Exception as caught:
            error = InternalError(
                f"{type(caught).__name__} at {_place(caught)}; its message is withheld, it may quote data"
            )
        except BaseException as caught:  # a time-out or an interrupt keeps its class, not what it quotes
            caught.args = tuple(item for item in caught.args if isinstance(item, int))
            error = _bare(caught)
        raise error

    return wrapper


E = TypeVar("E", bound=BaseException)


def _bare(error: E) -> E:
    error.__traceback__ = None
    error.__cause__ = None
    error.__context__ = None
    error.__dict__.pop("__notes__", None)
    return error


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "airflow_facefog" in f.filename] or list(frames)
    if not ours:
        return "an unknown place"
    tail = ours[-1].filename.replace("\\", "/").split("airflow_facefog/")[-1]
    return f"{tail}:{ours[-1].lineno}"
