"""What tools that capture tracebacks would store, and what must not be found in it."""

from __future__ import annotations

import io
import re
import sys
import traceback
from pathlib import Path
from types import FrameType, TracebackType

from jobkit import World

sys.path.append(str(Path(__file__).parents[1] / "core"))
import corpus

NAMES = ("anna_muster", "familie_muster")
"""Parts of every file and folder name of a leak test."""

PIXELS = re.compile(r"array\(|\[\[\s*\[?\s*\d+[ ,]+\d+|dtype=uint8|\\xff\\xd8\\xff|\\x89PNG")
"""How arrays, nested lists of pixels and the first bytes of pictures print."""


def captured(error: BaseException) -> str:
    """Everything that Sentry-style capture (repr of all locals of all frames) and rich would store of an error."""
    parts: list[str] = []
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        item = pending.pop()
        if item is None or id(item) in seen:
            continue
        seen.add(id(item))
        parts += [str(item), repr(item), repr(item.args), repr(vars(item))]
        parts += [f"{name}={value!r}" for frame in frames(item) for name, value in frame.f_locals.items()]
        pending += [item.__cause__, item.__context__, *getattr(item, "exceptions", ())]
    return "\n".join([*parts, with_rich(error), "".join(traceback.format_exception(error))])


def frames(error: BaseException) -> list[FrameType]:
    """Frames of an error but for those of the tests, which hold what they please."""
    return [frame for frame, _ in traceback.walk_tb(beyond_tests(error))]


def beyond_tests(error: BaseException) -> TracebackType | None:
    """The traceback below the last frame of a test file."""
    start = trace = error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).parent == Path(__file__).parent:
            start = trace.tb_next
        trace = trace.tb_next
    return start


def with_rich(error: BaseException) -> str:
    """The error as ``rich.traceback.install(show_locals=True)`` prints it, nothing cut."""
    from rich.console import Console
    from rich.traceback import Traceback

    stream = io.StringIO()
    shown = Traceback.from_exception(
        type(error), error, beyond_tests(error), show_locals=True, locals_max_length=None, locals_max_string=None
    )
    Console(file=stream, width=200, soft_wrap=True).print(shown)
    return stream.getvalue()


def find_leaks(text: str, world: World, secrets: dict[str, bytes]) -> list[str]:
    """What of names, pixels, raw bytes and keys (``secrets``: name → bytes) is in a text."""
    found = [name for name in NAMES if name in text]
    if match := PIXELS.search(text):
        found.append(f"pixels: {text[max(0, match.start() - 200) : match.end() + 40]}")
    for name, key in secrets.items():
        found += [name for form in (repr(key)[2:-1], key.hex(), repr(key[:12])[2:-1]) if form in text]
    for path in world.raw.rglob("*.jpg"):
        data = path.read_bytes()
        scan = data[data.index(b"\xff\xda") + 14 :] if b"\xff\xda" in data else data
        found += ["raw bytes" for i in range(0, len(scan) - 10, 60) if repr(scan[i : i + 10])[2:-1] in text]
    return found


def corpus_file(folder: Path, name: str) -> None:
    """Write one file of the codec's corpus."""
    case = next(case for case in corpus.cases() if case.name == name)
    (folder / case.filename).write_bytes(case.data)
