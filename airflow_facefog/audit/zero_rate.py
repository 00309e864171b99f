"""Is the newest run's share of images without a detection usual? A model or camera that goes blind shows here first.

For each stream (dag_id, destination, dataset): the newest run with k of n published images empty is compared with up to
``history`` runs before it. Their centre is the median of their shares p_i. The band is centre ± sigmas · s, where
s² = c(1 − c)/n + (1.4826 · MAD)²: the binomial spread of n images at the centre, and how much runs differ anyway (median
absolute deviation, scaled to a normal's sigma; Rousseeuw and Croux 1993). c is the pooled share with one added to both
sides, (Σk_i + 1)/(Σn_i + 2), so that a stream without any empty image has a band too. Runs that published nothing are
left out. Two-sided: also a detector that suddenly sees faces everywhere is worth a look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from statistics import median
from typing import Any

MAD_TO_SIGMA = 1.4826

Row = Mapping[str, Any]


def outside_band(rows: Iterable[Row], *, history: int, least: int, sigmas: float) -> tuple[list[dict[str, Any]], int]:
    """Streams whose newest run lies outside of its band, and how many streams have fewer than ``least`` earlier runs.

    ``rows``: one per run with dag_id, destination, dataset, run_key, generation, listed_at, published, zero_detections.
    """
    found, short = [], 0
    for runs in _streams(rows):
        *earlier, newest = runs
        earlier = earlier[-history:]
        if len(earlier) < least:
            short += 1
            continue
        low, high = band([(r["zero_detections"], r["published"]) for r in earlier], newest["published"], sigmas)
        rate = newest["zero_detections"] / newest["published"]
        if not low <= rate <= high:
            found.append({**newest, "rate": rate, "low": low, "high": high, "earlier_runs": len(earlier)})
    return found, short


def band(earlier: Sequence[tuple[int, int]], published: int, sigmas: float) -> tuple[float, float]:
    """Lowest and highest usual share for a run of ``published`` images; ``earlier``: (empty, published) of each run."""
    shares = [empty / total for empty, total in earlier]
    centre = median(shares)
    pooled = (sum(empty for empty, _ in earlier) + 1) / (sum(total for _, total in earlier) + 2)
    spread = MAD_TO_SIGMA * median(abs(share - centre) for share in shares)
    sigma = sqrt(pooled * (1 - pooled) / published + spread**2)
    return centre - sigmas * sigma, centre + sigmas * sigma


def _streams(rows: Iterable[Row]) -> Iterable[list[dict[str, Any]]]:
    streams: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (row["listed_at"], row["generation"])):
        if row["published"]:
            streams.setdefault((row["dag_id"], row["destination"], row["dataset"]), []).append(dict(row))
    return streams.values()
