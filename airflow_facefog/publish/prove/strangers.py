"""What nobody recorded: is it a raw picture, made from one, or something else? The only part that decodes anything.

Nothing about a stranger is kept: its coarse picture lives in memory for as long as it is compared.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_facefog.core.codec import decode
from airflow_facefog.core.codec.picture import Pixels
from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.policy import Limits
from airflow_facefog.core.raw import RawImage
from airflow_facefog.core.verify.tiles import luma
from airflow_facefog.publish.prove import likeness
from airflow_facefog.publish.prove.index import Rows
from airflow_facefog.publish.prove.kinds import kind_of
from airflow_facefog.publish.prove.known import Known
from airflow_facefog.publish.prove.model import Class, Finding, Hashed
from airflow_facefog.publish.prove.raw_ids import RawIds, RawMatch
from airflow_facefog.publish.prove.regions import Boxes
from airflow_facefog.publish.prove.walk import is_unfinished

MOST_COMPARED = 5_000
"""Pictures that nobody recorded and that are compared with the published ones; all further ones are orphans, said so."""

CLOSE_LOOKS = 3
"""Published pictures that are compared closely with one stranger."""

Read = Callable[[str], bytes | None]
Regions = Callable[[Rows], Iterator[dict[int, Boxes]]]


@dataclass(frozen=True, slots=True)
class Suspect:
    """An object to look at; ``claim``: what is wrong with it if it lies under a recorded key."""

    object: Hashed = field(repr=False)
    claim: str = ""


@dataclass(slots=True)
class _Picture:
    """A decodable stranger: where it is among the suspects, its upright size and coarse picture."""

    at: int
    width: int
    height: int
    cells: npt.NDArray[np.float32] = field(repr=False)
    near: list[tuple[float, int, int, Boxes]] = field(repr=False, default_factory=list)


class Strangers:
    """Judges suspects. ``read`` gives a suspect's bytes, ``fetch`` those of a recorded row, None when it is not at hand."""

    def __init__(
        self, known: Known, ids: RawIds, read: Read, fetch: Callable[[int], bytes | None], regions: Regions,
        limits: Limits, workers: int,
    ) -> None:  # fmt: skip
        self._known = known
        self._ids = ids
        self._read = read
        self._fetch = fetch
        self._regions = regions
        self._limits = limits
        self._workers = workers
        self.not_compared = 0

    def judge(self, suspects: Sequence[Suspect], candidates: Rows) -> list[Finding]:
        """One finding each, in order. ``candidates``: rows whose objects can be fetched."""
        findings: list[Finding] = []
        pictures: list[_Picture] = []
        with ThreadPoolExecutor(self._workers, thread_name_prefix="facefog-prove") as pool:
            for start in range(0, len(suspects), 8 * self._workers):
                for finding, picture in pool.map(self._first_look, suspects[start : start + 8 * self._workers]):
                    if picture is not None and len(pictures) < MOST_COMPARED:
                        picture.at = len(findings)
                        pictures.append(picture)
                    elif picture is not None:
                        self.not_compared += 1
                        finding = replace(finding, detail=f"{finding.detail}; not compared: too many unknown pictures")
                    findings.append(finding)
            for same in (likeness.same_shape, likeness.same_aspect):
                self._compare(pool, pictures, candidates, same)
                for picture in pictures:
                    self._settle(findings, suspects, picture)
                pictures = [p for p in pictures if findings[p.at].matched_sha256 is None]
        return [_claimed(finding, suspect.claim) for finding, suspect in zip(findings, suspects, strict=True)]

    def _first_look(self, suspect: Suspect) -> tuple[Finding, _Picture | None]:
        item = suspect.object
        orphan = Finding(item.key, Class.ORPHAN, "no record knows it", item.size, item.digest)
        if is_unfinished(item.key):
            orphan = replace(orphan, detail="an unfinished temporary file of an attempt that died")
        if item.problem:
            return replace(orphan, detail=item.problem, kind="not opened"), None
        raw = self._ids.of_bytes(item.digest)
        if raw is not None:
            return self._raw_match(orphan, raw), None
        if item.size > self._limits.max_bytes:
            return replace(orphan, detail=f"too large to look into ({item.size} bytes)", kind="unknown"), None
        data = self._read(item.key)
        if data is None:
            return replace(orphan, detail="it could be hashed but not read again"), None
        orphan = replace(orphan, kind=kind_of(data))
        try:
            picture = decode(RawImage(data, "", item.digest), self._limits)
        except ImageError as error:
            return replace(orphan, detail=f"{orphan.detail}; no picture was decoded ({_words(error)})"), None
        raw = self._ids.of_pixels(picture)
        if raw is not None:
            return self._raw_match(orphan, raw), None
        return orphan, _Picture(-1, picture.width, picture.height, likeness.cells(luma(picture.pixels)))

    def _raw_match(self, orphan: Finding, raw: RawMatch) -> Finding:
        run = None if raw.run is None else self._known.runs[raw.run]
        return replace(
            orphan, cls=Class.RAW_MATCH, detail=raw.detail, raw=True, run_key=None if run is None else run.run_key,
            generation=None if run is None else run.generation, matched_source_ref=raw.source_ref,
        )  # fmt: skip

    def _compare(
        self, pool: ThreadPoolExecutor, pictures: Sequence[_Picture], candidates: Rows, same: Callable[..., Any]
    ) -> None:
        """Fill ``near``: each candidate of a fitting shape is fetched and decoded once for all strangers."""
        known, wanted = self._known, np.zeros(len(candidates), np.bool_)
        widths, heights = known.width[candidates], known.height[candidates]
        for size in {(picture.width, picture.height) for picture in pictures}:
            wanted |= same(*size, widths, heights)
        if not wanted.any():
            return
        stack = np.stack([picture.cells for picture in pictures])

        def look(entry: tuple[int, Boxes]) -> tuple[int, Boxes, Any, Any] | None:
            row, boxes = entry
            data = self._fetch(row)
            cells = None if data is None else self._published_cells(data)
            if cells is None:
                return None
            free = likeness.outside_cells(boxes, int(known.width[row]), int(known.height[row]))
            return row, boxes, *likeness.coarse(stack, cells, free)

        for slab in self._regions(candidates[wanted]):
            entries = list(slab.items())
            for start in range(0, len(entries), 64):
                for seen in pool.map(look, entries[start : start + 64]):
                    if seen is not None:
                        _note(pictures, *seen)

    def _settle(self, findings: list[Finding], suspects: Sequence[Suspect], picture: _Picture) -> None:
        """Look closely at the nearest candidates of one stranger."""
        near, picture.near = sorted(picture.near, key=lambda entry: -entry[0]), []
        stranger = self._luma(self._read(suspects[picture.at].object.key)) if near else None
        best: tuple[int, likeness.Likeness] | None = None
        for _, row, orientation, boxes in near:
            published = self._luma(self._fetch(row))
            if stranger is None or published is None:
                continue
            found = likeness.fine(stranger, published, boxes, orientation)
            if found is not None and (best is None or _rank(found) > _rank(best[1])):
                best = row, found
        if best is not None:
            findings[picture.at] = self._alike(findings[picture.at], *best)

    def _alike(self, finding: Finding, row: int, found: likeness.Likeness) -> Finding:
        run, key = self._known.run_of(row), self._known.key_of(row)
        how = f"r = {found.correlation:.3f}" + (f", at scale {found.scale:.2f}" if found.scale != 1 else "")
        how += f", turned (EXIF orientation {found.orientation})" if found.orientation != 1 else ""
        finding = replace(
            finding, run_key=run.run_key, generation=run.generation, matched_key=key,
            matched_sha256=self._known.outputs.digests[row].tobytes().hex(),
            matched_source_ref=self._known.refs[row].tobytes().hex(),
        )  # fmt: skip
        if found.different:
            detail = f"like a published picture outside of its regions ({how}), unlike it in {found.different} of them"
            return replace(finding, cls=Class.RAW_DERIVED, detail=detail, raw=True)
        if found.judged:
            return replace(finding, detail=f"equals a published picture, saved again ({how})")
        return replace(finding, detail=f"like a published picture ({how}); no region there that could be compared")

    def _published_cells(self, data: bytes) -> npt.NDArray[np.float32] | None:
        import cv2

        if data.startswith(b"\xff\xd8\xff") and len(data) > 200_000:  # the coarse picture needs no more than this
            reduced = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_4)
            if reduced is not None:
                return likeness.cells(np.asarray(reduced, np.uint8))
        found = self._luma(data)
        return None if found is None else likeness.cells(found)

    def _luma(self, data: bytes | None) -> Pixels | None:
        if data is None:
            return None
        try:
            return luma(decode(RawImage(data, ""), self._limits).pixels)
        except ImageError:
            return None


def _words(error: ImageError) -> str:
    return error.reason.value.replace("_", " ")


def _note(pictures: Sequence[_Picture], row: int, boxes: Boxes, rms: Any, orientations: Any) -> None:
    """Keep the nearest candidates of each stranger; the furthest is first in the heap."""
    for at in np.nonzero(np.isfinite(rms))[0].tolist():
        entry, near = (-float(rms[at]), row, int(orientations[at]), boxes), pictures[at].near
        if len(near) < CLOSE_LOOKS:
            heapq.heappush(near, entry)
        else:
            heapq.heappushpop(near, entry)


def _rank(found: likeness.Likeness) -> tuple[bool, float]:
    return found.different > 0, found.correlation


def _claimed(finding: Finding, claim: str) -> Finding:
    """A recorded key stays tampered, whatever lies there; what it is is said."""
    if not claim:
        return finding
    more = f"; {finding.detail}" if finding.cls is not Class.ORPHAN or finding.matched_sha256 else ""
    return replace(finding, cls=Class.TAMPERED, detail=f"{claim}{more}")
