"""The noise field: one field per image, sliced by every region, the same bytes everywhere."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_facefog.core.fog.masks import near
from airflow_facefog.core.fog.noise import cell_noise, field, fog_field, lattice, seed, soft_noise
from airflow_facefog.core.keys import KeyRing

SEED = seed(KeyRing.from_master(None).fog, "fog", b"")


@given(
    st.integers(1, 8), st.integers(0, 300), st.integers(0, 300), st.integers(1, 90), st.integers(1, 90),
    st.integers(0, 40), st.integers(0, 40),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_field_of_a_region_is_the_slice_of_the_whole(
    octave: int, x: int, y: int, width: int, height: int, left: int, top: int
) -> None:
    """A box inside a larger box gets exactly the larger one's values there."""
    small = field(SEED, octave, 24, (x, y, x + width, y + height))
    large = field(SEED, octave, 24, (max(0, x - left), max(0, y - top), x + width + 17, y + height + 5))
    row, column = y - max(0, y - top), x - max(0, x - left)
    assert np.array_equal(small, large[row : row + height, column : column + width])


def test_lattice_runs_join_without_a_seam() -> None:
    """Columns are counted through digests of 64 values, also left of zero."""
    wide = lattice(SEED, 3, 24, (-70, -2, 200, 3))
    assert np.array_equal(wide[:, 100:180], lattice(SEED, 3, 24, (30, -2, 110, 3)))
    assert wide.max() <= 48
    assert len(np.unique(wide)) == 49


def test_field_bytes_are_fixed() -> None:
    """The field is part of FOG_VERSION: other bytes mean another version, or a machine that is not exact."""
    value = hashlib.sha256(fog_field(SEED, 100, (37, 11, 237, 161)).tobytes()).hexdigest()
    assert value == "e425164ade619e006d6fe1cca7d232ee11eb6a69e8bbdc319179ef67f32ac36f"


@pytest.mark.parametrize("short", [8, 48, 100, 400, 3000])
def test_field_is_a_gentle_cloud(short: int) -> None:
    """Mean near zero, standard deviation about 10, never beyond the two amplitudes."""
    values = fog_field(SEED, short, (0, 0, 8 * short, 8 * short)[:2] + (min(8 * short, 2400),) * 2).astype(int) - 36
    assert abs(values.mean()) < 5
    assert 7 < values.std() < 13
    assert np.abs(values).max() <= 36


def test_seed_separates_methods_keys_and_files() -> None:
    """Method, key and file each give another seed."""
    keys = KeyRing.from_master(b"k" * 32)
    seeds = {seed(keys.fog, "fog", b""), seed(keys.fog, "blur", b""), seed(keys.fog, "fog", b"x"), SEED}
    assert len(seeds) == 4


def test_mosaic_noise_has_the_promised_strength() -> None:
    """Cell noise: mean 0, standard deviation 25, by absolute cell."""
    values = np.array([cell_noise(SEED, 16, 16 * x, 16 * y) for x in range(60) for y in range(60)])
    assert abs(values.mean()) < 2
    assert 23 < values.std() < 27


def test_blur_noise_has_the_promised_strength() -> None:
    """The 8x8 field of a blur: mean 0, standard deviation 15."""
    values = np.array([soft_noise(SEED, (x, 0, x + 8, 8)) for x in range(200)]).astype(int) - 26
    assert values.shape == (200, 8, 8)
    assert abs(values.mean()) < 1
    assert 14 < values.std() < 17


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_near_equals_dilating_the_pixels(chance: int, distance: int, rows: int, columns: int) -> None:
    """Dilating blocks, then the rest in pixels, is the same as dilating pixels."""
    rng = np.random.default_rng(chance)
    grid = (rng.random((rows, columns)) < 0.3).astype(np.uint8)
    x, y, pad = 64, 48, distance
    box = (x - pad, y - pad, x + 8 * columns + pad, y + 8 * rows + pad)
    plain = np.zeros((8 * rows + 2 * pad, 8 * columns + 2 * pad), np.uint8)
    plain[pad : pad + 8 * rows, pad : pad + 8 * columns] = grid.repeat(8, axis=0).repeat(8, axis=1) * 255
    wanted = cv2.dilate(plain, np.ones((2 * distance + 1, 2 * distance + 1), np.uint8))
    assert np.array_equal(near(grid, (x, y), distance, box), wanted)
