"""IJG quality: the quantisation tables of ITU-T T.81 Annex K, scaled as libjpeg's ``jpeg_set_quality`` does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

MIN_QUALITY = 50
"""Below it 8-px artefacts get as large as what verify must tell apart (FOG.md, ENCODE)."""

_LUMA = (
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51,
    61, 60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103, 104, 103, 62, 77,
    113, 121, 112, 100, 120, 92, 101, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 18, 24, 21, 24, 47, 26, 26, 47, 99, 66, 56, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
)  # fmt: skip
"""Both in the zigzag order of the DQT segment."""


@cache
def table(quality: int, chroma: bool) -> tuple[int, ...]:
    """The 64 quantisers (zigzag, 1..255) of an IJG ``quality`` 1..100."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(min(255, max(1, (base * scale + 50) // 100)) for base in (_CHROMA if chroma else _LUMA))


def matched_quality(tables: Sequence[Sequence[int]]) -> int | None:
    """Nearest-not-lower IJG quality 1..100 for the luma and (if given) chroma table; None without a table.

    Exact for encoders that use IJG tables. For a camera's own tables it is the lowest quality whose quantisers are not
    coarser in sum, the finer of luma and chroma.
    """
    if not tables:
        return None
    return max(_lowest_not_coarser(sum(values), chroma=i > 0) for i, values in enumerate(tables[:2]))


def _lowest_not_coarser(total: int, *, chroma: bool) -> int:
    return next((q for q in range(1, 101) if sum(table(q, chroma)) <= total), 100)
