"""How fast one host is asked by this whole process: a token bucket, one pause for all threads, and a circuit breaker."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from airflow_facefog.core.errors import TransientError

BREAK_AFTER = 16
"""Transient failures in a row, of any thread, after which nobody asks for ``COOL_S`` seconds."""
COOL_S = 30.0


class Pace:
    """The shared pace of one host. Times in seconds on ``clock``.

    The bucket is a virtual schedule (GCRA): ``_due`` is when the next request would be due at the even rate, and a
    request may run ahead of it by the burst.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._due = 0.0
        self._paused_until = 0.0
        self._failures = 0
        self._open_until = 0.0

    def wait_turn(self, rate_per_s: float, burst: int, patience_s: float) -> None:
        """Sleep until this thread may send.

        Raises TransientError, at once, when the breaker is open or the turn is further away than ``patience_s``.
        """
        ends = self._clock() + patience_s
        self._check_breaker()
        while True:
            with self._lock:
                now = self._clock()
                start = self._reserve(now, rate_per_s, burst, ends)
            if start > now:
                self._sleep(start - now)
            with self._lock:
                if self._clock() >= self._paused_until:
                    return

    def pause(self, seconds: float) -> None:
        """Let all threads wait, because the host said that it is asked too often."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)

    def succeeded(self) -> None:
        """The host answered: the breaker counts from zero."""
        with self._lock:
            self._failures, self._open_until = 0, 0.0

    def failed(self) -> None:
        """One more transient failure in a row; the last one allowed opens the breaker."""
        with self._lock:
            self._failures += 1
            if self._failures >= BREAK_AFTER:
                self._open_until = self._clock() + COOL_S

    def _reserve(self, now: float, rate_per_s: float, burst: int, ends: float) -> float:
        """Take the next place in the schedule and return when it is; after a pause there is no burst."""
        slack = (burst - 1) / rate_per_s
        if self._paused_until > now:
            self._due = max(self._due, self._paused_until + slack)
        start = max(now, self._due - slack)
        if start > ends:
            raise TransientError(
                f"the Roboflow server is asked too often: the next turn would come in {start - now:.0f} s; try again then",
                retry_after_s=start - now,
            )
        self._due = max(self._due, now) + 1 / rate_per_s
        return start

    def _check_breaker(self) -> None:
        """While open: fail fast. After ``COOL_S`` one thread may try, and the others go on failing until it succeeded."""
        with self._lock:
            now = self._clock()
            left = self._open_until - now
            if self._failures < BREAK_AFTER or left <= 0:
                self._open_until = now + COOL_S if self._failures >= BREAK_AFTER else 0.0
                return
            failures = self._failures
        raise TransientError(
            f"the Roboflow server failed {failures} times in a row and is left alone for {left:.0f} s; check that it runs",
            retry_after_s=left,
        )


_paces: dict[str, Pace] = {}
_lock = threading.Lock()


def pace_of(netloc: str) -> Pace:
    """The one pace of ``host:port`` in this process."""
    with _lock:
        return _paces.setdefault(netloc, Pace())


def forget_paces() -> None:
    """Start anew for all hosts: in a forked child (another thread may have held a lock at the fork), and between tests."""
    global _lock
    _lock = threading.Lock()
    _paces.clear()


os.register_at_fork(after_in_child=forget_paces)
