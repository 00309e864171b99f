"""Keyed value noise at absolute coordinates: the look of the fog and a watermark, never its protection.

The conceptual field covers the whole plane; only the asked box is computed and equals the slice of the whole. Integers
and ``INTER_LINEAR_EXACT`` only, so every machine gives the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import math

import cv2
import numpy as np
import numpy.typing as npt

from airflow_facefog.core.records import IntXYXY

Field = npt.NDArray[np.uint8]

LATTICE_RUN = 64
"""Lattice values from one BLAKE2b-512 digest: one byte each."""

COARSE, FINE = 24, 12
"""Amplitudes of the two octaves of the fog, grey levels; their sum has a standard deviation of about 10."""


def seed(key: bytes, method: str, cid: bytes) -> bytes:
    """32 bytes for one method and image: no run, attempt, region or policy in it, so a retry repeats the noise."""
    return hashlib.blake2b(b"facefog.noise.1\0" + method.encode() + b"\0" + cid, key=key, digest_size=32).digest()


def lattice(seed: bytes, octave: int, amplitude: int, cells: IntXYXY) -> Field:
    """Lattice values in 0..2*amplitude (uint8: value + amplitude) of lattice columns x1..x2, rows y1..y2."""
    x1, y1, x2, y2 = cells
    first, last = x1 // LATTICE_RUN, (x2 - 1) // LATTICE_RUN
    digests = [_run(seed, octave, row, run) for row in range(y1, y2) for run in range(first, last + 1)]
    raw = np.frombuffer(b"".join(digests), np.uint8).reshape(y2 - y1, -1)
    start = x1 - first * LATTICE_RUN
    part = raw[:, start : start + x2 - x1].astype(np.uint16)
    return (part * np.uint16(2 * amplitude + 1) >> 8).astype(np.uint8)


@functools.lru_cache(maxsize=4096)
def _run(seed: bytes, octave: int, row: int, run: int) -> bytes:
    """64 lattice bytes. Regions side by side share them, and verify needs those of fog again."""
    return hashlib.blake2b(f"{octave},{row},{run}".encode(), key=seed).digest()


def field(seed: bytes, octave: int, amplitude: int, box: IntXYXY) -> Field:
    """(h, w) uint8 in 0..2*amplitude: the lattice of spacing 2^octave px, interpolated, over the px of ``box``."""
    step = 1 << octave
    x1, y1, x2, y2 = box
    cells = (x1 // step - 1, y1 // step - 1, (x2 - 1) // step + 2, (y2 - 1) // step + 2)
    coarse = lattice(seed, octave, amplitude, cells)
    size = (coarse.shape[1] * step, coarse.shape[0] * step)
    smooth = cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR_EXACT)
    x, y = x1 - cells[0] * step, y1 - cells[1] * step
    return np.asarray(smooth[y : y + y2 - y1, x : x + x2 - x1], np.uint8)


def fog_field(seed: bytes, short: int, box: IntXYXY) -> Field:
    """Two octaves for a region whose shorter side is ``short`` px: (h, w) uint8, 36 = no change, 0..72."""
    octave = min(max(math.floor(math.log2(max(short, 1) / 6.0)), 2), 8)
    return np.asarray(cv2.add(field(seed, octave, COARSE, box), field(seed, max(1, octave - 1), FINE, box)), np.uint8)


def cell_noise(seed: bytes, cell: int, column: int, row: int) -> int:
    """Noise of one mosaic cell by its absolute place: about normal, standard deviation 25 grey levels."""
    digest = hashlib.blake2b(f"{cell},{column},{row}".encode(), key=seed, digest_size=4).digest()
    return ((sum(digest) - 510) * 173 + 512) >> 10  # the sum of 4 bytes has a standard deviation of 147.8


def soft_noise(seed: bytes, box: IntXYXY) -> npt.NDArray[np.uint8]:
    """(8, 8) uint8 in 0..52, 26 = no change, for one region by its absolute place: standard deviation 15."""
    raw = hashlib.blake2b(",".join(str(v) for v in box).encode(), key=seed).digest()
    return (np.frombuffer(raw, np.uint8).astype(np.uint16) * 53 >> 8).astype(np.uint8).reshape(8, 8)
