"""Read many objects in order while their round trips overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

SMALL = 16
"""Objects of some kB that are read at the same time."""


def ahead(get: Callable[[Any], Any], wanted: Sequence[Any], most: int = SMALL) -> Iterator[Any]:
    """``get`` of each, in order; at most ``most`` results are under way or wait. Raises what ``get`` raises."""
    with ThreadPoolExecutor(most, thread_name_prefix="facefog-read") as pool:
        coming: deque[Future[Any]] = deque()
        for item in wanted:
            coming.append(pool.submit(get, item))
            if len(coming) >= most:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
