"""Detectors that break in a chosen way, for tests of what a run does then."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jobkit
from jobkit import picture

from airflow_facefog.core.detector import DetectorInfo
from airflow_facefog.core.errors import DetectorError, ImageError, TransientError
from airflow_facefog.core.records import Detection, Reason
from airflow_facefog.detectors.canary import Canary

TRIGGER_BGR = (255, 255, 0)
"""Cyan: a picture that holds it makes a ``FaultyDetector`` break."""


class FaultyDetector(jobkit.MarkerDetector):
    """A marker detector with a fault, shown when the picture holds cyan.

    Always shown: ``blind`` (after ``after`` pictures), ``drift`` (other boxes in every process), ``nonsense`` (says
    ``answer``), ``core`` (tells RLIMIT_CORE as a class name).
    """

    def __init__(self, fault: str, after: int = 0, answer: Any = None) -> None:
        self._fault = fault
        self._answer = answer
        self._after = after
        self._seen = itertools.count(1)
        self._blind = False

    @property
    def info(self) -> DetectorInfo:
        """Identity: the fault is not part of it."""
        return DetectorInfo("faulty", "faulty", "1", "1" * 64, "faulty-1", None)

    def canary(self) -> Canary | None:
        """A picture with one marker."""
        return Canary(picture(999, markers=[(40, 30, 72, 70)]), "face", 0.5, (40, 30, 72, 70))

    def detect(self, pixels: Any, floor: float) -> Sequence[Detection]:
        """Break on cyan; otherwise find markers."""
        canary = pixels.shape == (120, 160, 3) and bool((pixels == picture(999, markers=[(40, 30, 72, 70)])).all())
        if self._fault == "blind":
            if not canary and next(self._seen) > self._after:
                self._blind = True
            return [] if self._blind else super().detect(pixels, floor)
        if self._fault == "core":
            import resource

            limit = resource.getrlimit(resource.RLIMIT_CORE)[0]
            return [Detection(d.xyxy, d.confidence, "face" if canary else f"core_{limit}_{in_child()}")
                    for d in super().detect(pixels, floor)]  # fmt: skip
        if not canary and self._fault == "drift":
            return [replace(d, xyxy=(d.xyxy[0] - os.getpid() % 7, *d.xyxy[1:])) for d in super().detect(pixels, floor)]
        if not canary and self._fault == "nonsense":
            return self._answer  # type: ignore[no-any-return]
        if not canary and _cyan(pixels):
            FAULTS[self._fault](pixels)
        return super().detect(pixels, floor)


def _cyan(pixels: Any) -> bool:
    blue, green, red = (pixels[:, :, i].astype(int) for i in range(3))
    return bool(((blue > 200) & (green > 200) & (red < 90)).sum() > 16)


def in_child() -> bool:
    """Whether this process is the spawned child of an isolated attempt."""
    import sys

    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name == "airflow_facefog.job.child"


def _kill_attempt(_pixels: Any) -> None:
    os.kill(os.getppid() if in_child() else os.getpid(), signal.SIGKILL)


def _segfault(_pixels: Any) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _quote(pixels: Any) -> None:
    raise ValueError(f"cannot broadcast {pixels.tolist()} {pixels.tobytes()!r}")


def _no_memory(pixels: Any) -> None:
    raise MemoryError(pixels)


def _interrupt(pixels: Any) -> None:
    raise KeyboardInterrupt(pixels)


def _distrust(pixels: Any) -> None:
    error = DetectorError("the model file changed while it was in use")
    error.add_note(repr(pixels))
    raise error


class Busy(TransientError):
    """A user's own kind of transient error."""


class Unfit(ImageError):
    """A user's own kind of refusal."""


def _wait(_pixels: Any) -> None:
    raise Busy("too many requests", retry_after_s=7.0)


def _refuse(_pixels: Any) -> None:
    raise Unfit(Reason.DETECTOR_REFUSED, "not this one")


FAULTS: dict[str, Callable[[Any], None]] = {
    "exit": lambda _: os._exit(7), "segfault": _segfault, "attempt": _kill_attempt, "hang": lambda _: time.sleep(600),
    "value": _quote, "memory": _no_memory, "interrupt": _interrupt, "distrust": _distrust,
    "wait": _wait, "refuse": _refuse,
}  # fmt: skip


class Counting:
    """Counts as sent what it looks at; a picture 64 px high ends the process."""

    info = DetectorInfo("counting", "counting", "1", "0" * 64, "counting-1", ("face",))

    def __init__(self) -> None:
        self._calls = 0

    def detect(self, pixels: Any, _floor: float) -> list[Detection]:
        """Nothing, or death."""
        self._calls += 1
        if pixels.shape[0] == 64:
            os._exit(7)
        return []

    def egress(self) -> dict[str, dict[str, float]]:
        """One host."""
        return {"far": {"calls": self._calls, "bytes": 10 * self._calls, "credits": 0.5 * self._calls}}


def hanging() -> None:
    """A factory that never returns."""
    time.sleep(600)


def busy() -> None:
    """A factory whose server is down."""
    raise Busy("too many requests", retry_after_s=7.0)


def faulty(fault: str, **options: Any) -> dict[str, Any]:
    """The spec of a ``FaultyDetector``."""
    return {"kind": "python", "factory": "faultydetectors:FaultyDetector", "options": {"fault": fault, **options}}
