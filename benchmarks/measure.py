"""Clocks and comparisons. CPU time is user + system; machines are shared, so wall time is used only where it is the point."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``ok`` is None for a number without a target."""

    what: str
    value: str
    target: str = ""
    ok: bool | None = None
    note: str = ""


def at_most(what: str, value: float, limit: float, shown: str, note: str = "") -> Row:
    """A row that holds when ``value`` <= ``limit``; ``shown`` formats both."""
    return Row(what, shown.format(value), f"<= {shown.format(limit)}", value <= limit, note)


def at_least(what: str, value: float, limit: float, shown: str, note: str = "") -> Row:
    """A row that holds when ``value`` >= ``limit``."""
    return Row(what, shown.format(value), f">= {shown.format(limit)}", value >= limit, note)


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of this process, all threads, during ``work``."""
    started = time.process_time()
    work()
    return time.process_time() - started


def wall(work: Callable[[], object]) -> float:
    """Seconds that ``work`` took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleaved(
    cases: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[Callable[[], object]], float] = cpu
) -> dict[str, list[float]]:
    """Run every case once a round, in an order that turns by one each round; seconds of each case by round."""
    names = list(cases)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            seconds[name].append(clock(cases[name]))
    return seconds


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median of the ratios within each round: slow drift of the machine cancels out."""
    return median(a / b for a, b in zip(above, below, strict=True))


def child_cpu(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> float:
    """CPU seconds of a whole process and its children, start-up included. Raises RuntimeError when it fails."""
    WORK.mkdir(parents=True, exist_ok=True)
    log = WORK / "child.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [str(part) for part in command], env={**os.environ, **(env or {})}, cwd=ROOT, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        tail = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{Path(command[0]).name} ended with {child.returncode}:\n{tail}")
    return usage.ru_utime + usage.ru_stime


def show(rows: Sequence[Row], title: str) -> None:
    """Print a table."""
    heads = Row("what", "measured", "target", None, "note")
    widths = [max(len(getattr(row, name)) for row in (heads, *rows)) for name in ("what", "value", "target")]
    print(f"\n{title}")
    for row in (heads, *rows):
        verdict = {None: "", True: "holds", False: "MISSED"}[row.ok]
        cells = [cell.ljust(width) for cell, width in zip((row.what, row.value, row.target), widths, strict=True)]
        print("  ".join([*cells, verdict.ljust(6), row.note]).rstrip())
    sys.stdout.flush()
