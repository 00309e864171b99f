"""Resident memory of one process over many images. Target: at most 10 % growth after the first 200.

Measured in a process of its own: a run over links to a few photos, resident set read after every image. Compared are the
medians of the 50 images after number 200 and of the last 50; the peak is printed too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.measure import ROOT, Row, at_most, show
from benchmarks.photos import write_photos
from benchmarks.whole import run_whole, scratch

LIMIT = 0.10
SETTLED, WINDOW = 200, 50


def measure(*, full: bool) -> list[Row]:
    """One row."""
    megapixels, count = (2.0, 2000) if full else (0.3, 600)
    with scratch() as room:
        photos = write_photos(room / "photos", 20, megapixels)
        (room / "raw").mkdir()
        for number in range(count):
            os.link(photos[number % len(photos)], room / "raw" / f"{number:05d}.jpg")
        output = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", room], cwd=ROOT, check=True, stdout=subprocess.PIPE
        ).stdout
    sizes = json.loads(output)
    early, late = (median(part) for part in (sizes[SETTLED : SETTLED + WINDOW], sizes[-WINDOW:]))
    note = f"{early:.0f} MB after {SETTLED} images, {late:.0f} MB at {len(sizes)}, peak {max(sizes):.0f} MB; {megapixels:g} MP"
    return [at_most("memory growth of one process", late / early - 1, LIMIT, "{:+.1%}", note)]


def _run(room: Path) -> list[float]:
    """MB resident after each image."""
    sizes: list[float] = []

    def note(_: int) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        sizes.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)

    run_whole(room / "raw", room, on_progress=note)
    return sizes


if __name__ == "__main__":
    if len(sys.argv) == 2 and Path(sys.argv[1]).is_dir():
        print(json.dumps(_run(Path(sys.argv[1]))))
    else:
        show(measure(full="--full" in sys.argv), __doc__ or "")
