"""The sums behind the verdicts are exact."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_facefog.core.fog import layers_of
from airflow_facefog.core.fog.masks import covered_grid
from airflow_facefog.core.policy import FogPolicy
from airflow_facefog.core.records import Detection
from airflow_facefog.core.regions import decide
from airflow_facefog.core.verify.outside import judge_outside
from airflow_facefog.core.verify.tiles import channel_sums, pixel_counts, regroup, square_sums


def brute(values: np.ndarray, tile: int) -> np.ndarray:
    """Sum over tiles, the slow way."""
    height, width = values.shape[:2]
    return np.array(
        [
            [values[y : y + tile, x : x + tile].sum(axis=(0, 1)) for x in range(0, width, tile)]
            for y in range(0, height, tile)
        ]
    )


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3, 4]),
    st.sampled_from([8, 16]), st.booleans(),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_tile_sums_equal_the_slow_way(
    chance: int, height: int, width: int, channels: int, tile: int, cut: bool
) -> None:
    """Squares, channel sums and counts agree with plain loops, for any size and for slices of larger pictures."""
    rng = np.random.default_rng(chance)
    shape = (height, width) if channels == 1 else (height, width, channels)
    a, b = (rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    if cut:
        a, b = (np.pad(p, [(2, 3), (1, 4), (0, 0)][: p.ndim])[2:-3, 1:-4] for p in (a, b))
    squares = (a.astype(np.int64) - b) ** 2
    assert np.array_equal(square_sums(a, b, tile), brute(squares.reshape(height, width, -1).sum(axis=2), tile))
    assert np.array_equal(channel_sums(a, tile), brute(a.reshape(height, width, -1).astype(np.int64), tile))
    assert np.array_equal(pixel_counts(height, width, tile), brute(np.ones((height, width), np.int64), tile))


def test_tall_pictures_are_folded_in_strips() -> None:
    """More rows than one strip holds, the last strip and tile cut off."""
    rng = np.random.default_rng(1)
    a, b = (rng.integers(0, 256, (403, 20, 3), dtype=np.uint8) for _ in range(2))
    assert np.array_equal(square_sums(a, b, 8), brute(((a.astype(np.int64) - b) ** 2).sum(axis=2), 8))


def test_regroup_joins_neighbours() -> None:
    """Groups of tiles add up, the last ones being smaller."""
    sums = np.arange(15, dtype=np.float64).reshape(3, 5)
    assert regroup(sums, 2, 3).tolist() == [[0 + 1 + 2 + 5 + 6 + 7, 3 + 4 + 8 + 9], [10 + 11 + 12, 13 + 14]]


@pytest.mark.parametrize(("level", "fine"), [(8, True), (9, False)])
@pytest.mark.parametrize("place", [(0, 0), (16, 16), (48, 32), (48, 48)])
def test_a_tile_at_the_limit_passes_and_above_it_fails(level: int, fine: bool, place: tuple[int, int]) -> None:
    """RMS 8 over one whole tile is the limit, wherever the tile lies, cut tiles at the edge included."""
    source = np.full((59, 53, 3), 100, np.uint8)
    decoded = source.copy()
    decoded[place[0] : place[0] + 16, place[1] : place[1] + 16] += level
    assert judge_outside(source, decoded, [])[0] is fine


def slow_outside(difference: np.ndarray, covered: np.ndarray) -> bool:
    """V5 on equal differences in all channels, pixel by pixel: 8 beyond the band, 12 (luma) in it."""
    blocks = covered[::8, ::8]
    near = cv2.dilate(blocks, np.ones((7, 7), np.uint8)).repeat(8, axis=0).repeat(8, axis=1)
    near = near[: covered.shape[0], : covered.shape[1]] > 0
    for y in range(0, covered.shape[0], 16):
        for x in range(0, covered.shape[1], 16):
            tile = np.s_[y : y + 16, x : x + 16]
            for where, limit in ((~near[tile], 8.0), (near[tile] & (covered[tile] == 0), 12.0)):
                values = difference[tile][where].astype(float)
                if values.size and (values**2).mean() > limit**2:
                    return False
    return True


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3]), st.integers(20, 110), st.integers(20, 110))
@settings(max_examples=50, deadline=None)
def test_outside_near_masks_equals_the_slow_way(chance: int, channels: int, height: int, width: int) -> None:
    """Random masks and damage of any place: the verdict is that of plain loops over all pixels."""
    rng = np.random.default_rng(chance)
    found = [
        Detection((x, y, x + s, y + s), 0.9, "face")
        for x, y, s in zip(rng.uniform(0, width, 2), rng.uniform(0, height, 2), rng.uniform(1, 30, 2), strict=True)
    ]
    layers = layers_of(decide(found, FogPolicy(), width, height, keyed=False))
    grid = covered_grid((layer.mask for layer in layers), height, width)
    covered = grid.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    difference = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(1, 4)):
        y, x, side = rng.integers(0, height), rng.integers(0, width), rng.integers(1, 20)
        difference[y : y + side, x : x + side] = rng.integers(5, 30)
    shape = (height, width) if channels == 1 else (height, width, channels)
    source = np.full(shape, 100, np.uint8)
    decoded = source + (difference if channels == 1 else difference[:, :, None])
    assert judge_outside(source, decoded, layers)[0] is slow_outside(difference, covered)


def test_psnr_of_a_known_difference() -> None:
    """One level everywhere is 48.13 dB; no difference is capped at 99."""
    source = np.full((40, 40, 3), 100, np.uint8)
    assert judge_outside(source, source + np.uint8(1), [])[1] == pytest.approx(48.1308, abs=1e-3)
    assert judge_outside(source, source.copy(), [])[1] == 99.0
