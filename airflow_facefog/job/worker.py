"""What happens to one item: read, skip or process. Safe to call from several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from airflow_facefog.core.errors import ImageError, PermanentError, SourceError
from airflow_facefog.core.predictions import open_prediction
from airflow_facefog.core.raw import RawImage, sealed
from airflow_facefog.core.records import Reason, Status
from airflow_facefog.job.erased import Erasures
from airflow_facefog.job.reported import Reported
from airflow_facefog.job.rows import Result, Rows

if TYPE_CHECKING:
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.core.records import Detection
    from airflow_facefog.job.cache import PredictionCache
    from airflow_facefog.job.engine import Engine
    from airflow_facefog.job.model import Plan
    from airflow_facefog.job.source import Item, Source
    from airflow_facefog.publish.done import DoneIndex

T = TypeVar("T")
U = TypeVar("U")


class Worker:
    """Takes items to results under one plan. Prints nothing of what it holds."""

    def __init__(
        self, plan: Plan, keys: KeyRing, source: Source, engine: Engine, rows: Rows, done: DoneIndex,
        cache: PredictionCache, erasures: Erasures, reported: Reported, *, killers: frozenset[str] = frozenset(),
        before: Callable[[str], None] | None = None,
        predictions: Mapping[str, bytes] | None = None,
    ) -> None:  # fmt: skip
        self._plan = plan
        self._keys = keys
        self._source = source
        self._engine = engine
        self._rows = rows
        self._done = done
        self._cache = cache
        self._erasures = erasures
        self._reported = reported
        self._killers = killers
        self._before = before
        self._predictions = predictions or {}

    def __repr__(self) -> str:
        return "Worker(…)"

    @sealed
    def run(self, item: Item) -> Result:
        """Return how the item ended. Any exception but ImageError fails the attempt."""
        started = perf_counter()
        image_id: str | None = None
        read_ms = 0.0
        try:
            raw = self._source.read(item, self._keys)
            image_id = raw.image_id
            read_ms = (perf_counter() - started) * 1e3
            known = self._known(item, raw.image_id, read_ms)
            return known or self._process(item, raw, read_ms)
        except SourceError as error:
            return self._rows.refused(item, Status.FAILED, error, image_id, read_ms)
        except ImageError as error:
            return self._quarantine(item, error, image_id, read_ms)

    def _process(self, item: Item, raw: RawImage, read_ms: float) -> Result:
        if item.source_ref in self._killers:
            raise ImageError(Reason.CRASHED, "an earlier attempt died on this image")
        if self._before is not None:
            self._before(item.source_ref)
        processed = self._engine.process(raw, self._stored(item, raw), self._reported.find(raw.image_id))
        if processed.seen is not None:
            self._cache.keep(raw.image_id, processed.width, processed.height, processed.seen)
        return self._rows.processed(item, raw.image_id, read_ms, processed)

    def _known(self, item: Item, image_id: str, read_ms: float) -> Result | None:
        """Skipped, refused before, or None. Only the item itself counts as done, also in the content layout: what another
        item with equal bytes once published is not this item's row, and leaves the table with that other item. A picture
        with reported regions is never done: whether an output covers them all is not looked up but made so again."""
        plan = self._plan
        if image_id in self._erasures:
            return self._rows.erased(item, read_ms)
        hit = self._done.find(plan.recipe_hash, image_id, item.source_ref)
        if hit is not None and image_id not in self._reported:
            return self._rows.known(item, image_id, read_ms, {"done_run_key": hit.run_key})
        if not plan.retry_quarantined and self._done.quarantined(plan.recipe_hash, image_id):
            if plan.policy.on_bad_image == "fail":  # decided anew: it is no part of the recipe
                raise ImageError(Reason.ALREADY_QUARANTINED, "this recipe refused these bytes before")
            return self._rows.known(item, image_id, read_ms, None)
        return None

    def _stored(self, item: Item, raw: RawImage) -> Sequence[Detection] | None:
        line = self._predictions.get(item.source_ref)
        if line is None:
            return self._cache.find(raw.image_id)
        return open_prediction(
            line, self._keys, source_ref=item.source_ref, image_id=raw.image_id, recipe_hash=self._plan.recipe_hash
        )

    def _quarantine(self, item: Item, error: ImageError, image_id: str | None, read_ms: float) -> Result:
        if self._plan.policy.on_bad_image == "fail":
            raise PermanentError(
                f"image {item.source_ref[:12]} is refused ({error.reason}: {error}) and the policy says on_bad_image: fail"
            )
        return self._rows.refused(item, Status.QUARANTINED, error, image_id, read_ms)


def run_in_order(function: Callable[[T], U], items: Sequence[T], workers: int) -> Iterator[U]:
    """Yield ``function(item)`` in the order of items, from ``workers`` threads, at most 2 x workers ahead.

    The window bounds memory. On an exception nothing new is started and running calls are waited for.
    """
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    if workers <= 1:
        yield from map(function, items)
        return
    window: deque[Future[U]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="facefog") as pool:
        try:
            for item in items:
                window.append(pool.submit(function, item))
                if len(window) >= 2 * workers:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()
        finally:
            for future in window:
                future.cancel()
