"""The seal: what crosses it carries no frame, no cause and no foreign message."""

from __future__ import annotations

import traceback

import numpy as np
import pytest

from airflow_facefog.core.errors import ImageError, InternalError, StoreError
from airflow_facefog.core.raw import sealed
from airflow_facefog.core.records import Detection, Reason

SECRET = "raw-pixels-0123456789"


@sealed
def _fails(error: BaseException) -> None:
    held = SECRET
    try:
        raise KeyError(held)
    except KeyError:
        raise error  # noqa: B904 - a context that must not escape


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (ValueError(SECRET), InternalError), (MemoryError(), InternalError), (StoreError("down"), StoreError),
        (ImageError(Reason.CORRUPT, "bad"), ImageError), (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)  # fmt: skip
def test_no_local_cause_or_message_crosses(error: BaseException, seen: type[BaseException]) -> None:
    """Our errors keep class and message; others become InternalError; all lose their inner frames and context."""
    with pytest.raises(seen) as caught:
        _fails(error)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    text = "".join(shown.format())
    assert SECRET not in text.replace(repr(error), "")
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_an_internal_error_says_where() -> None:
    """Class and place help to mend; the message may quote data and is withheld."""
    with pytest.raises(InternalError, match=r"ValueError at .*:\d+") as caught:
        _fails(ValueError(SECRET))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"xyxy": (0, 0, 0, 5)}, {"xyxy": (5, 0, 1, 5)}, {"xyxy": (0, 0, float("nan"), 5)}, {"confidence": 1.5},
        {"confidence": -0.1}, {"confidence": float("nan")}, {"xyxy": (0, 0, float("inf"), 5)},
    ],
)  # fmt: skip
def test_a_broken_prediction_cannot_be_made(changes: dict[str, object]) -> None:
    """Nonsense raises; it never reads as "nothing found"."""
    with pytest.raises(ValueError, match=r"box|confidence"):
        Detection(**{"xyxy": (0, 0, 5, 5), "confidence": 0.5, "class_name": "face", **changes})  # type: ignore[arg-type]


def test_numbers_of_numpy_become_plain_ones() -> None:
    """A float32 .7 is not >= .7 once it was stored: both drivers must compare the same number."""
    seen = Detection(tuple(np.float32([0, 0, 5.3, 5])), np.float32(0.7), "face", 0, ((np.float32(0.1), 0),) * 3)  # type: ignore[arg-type]
    assert {type(v) for v in (*seen.xyxy, seen.confidence, *seen.polygon[0])} == {float}  # type: ignore[index]
    assert not seen.confidence >= 0.7


def test_the_grid_rounds_outward() -> None:
    """A box on the grid contains the box that was given."""
    box = Detection((0.001, 0.999, 10.001, 10.999), 0.5, "face").on_grid().xyxy
    assert box == (0.0, 63 / 64, 641 / 64, 11.0)
