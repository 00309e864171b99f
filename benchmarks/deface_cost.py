"""CPU per image over deface 1.5.0 with its defaults, whole processes, start-up included. Target: at most 1/8."""

from __future__ import annotations

import itertools
import shutil
import sys
from pathlib import Path

from benchmarks.deface_venv import deface_python
from benchmarks.measure import Row, at_most, child_cpu, interleaved, ratio, show
from benchmarks.photos import write_photos
from benchmarks.whole import scratch

LIMIT = 1 / 8


def measure(*, full: bool) -> list[Row]:
    """One row."""
    count, rounds = (200, 3) if full else (64, 2)
    python = deface_python()
    with scratch() as room:
        paths = write_photos(room / "raw", count, 2.0)
        turns = itertools.count()
        seconds = interleaved(
            {
                "ours": lambda: _ours(room / "raw", room / str(next(turns))),
                "deface": lambda: _deface(python, paths, room / str(next(turns))),
            },
            rounds,
            clock=lambda run: run(),
        )
    each = {name: 1e3 * sorted(values)[rounds // 2] / count for name, values in seconds.items()}
    note = f"{each['ours']:.0f} ms an image, deface {each['deface']:.0f} ms; {count} photos of 2 MP, start-up included"
    return [at_most("CPU over deface 1.5.0, 2 MP", ratio(seconds["ours"], seconds["deface"]), LIMIT, "{:.3f}", note)]


def _ours(source: Path, room: Path) -> float:
    (room / "home").mkdir(parents=True)
    facefog = Path(sys.executable).with_name("facefog")
    command = [facefog, "run", source, room / "clean", "--audit", room / "audit", "--json"]
    return child_cpu(command, {"XDG_CONFIG_HOME": str(room / "home")})


def _deface(python: Path, paths: list[Path], room: Path) -> float:
    """deface writes beside its input, so it gets its own copies."""
    room.mkdir()
    copies = [Path(shutil.copy(path, room)) for path in paths]
    return child_cpu([python.with_name("deface"), *copies])


if __name__ == "__main__":
    show(measure(full="--full" in sys.argv), __doc__ or "")
