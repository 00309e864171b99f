"""The fault table: what a broken fogger does must be caught, and what a good one does must pass.

Pictures are sources of that JPEG quality (4:2:0) or PNG; faces are textured, dark, flat or of low contrast.
"""

from __future__ import annotations

import fogkit
import numpy as np
import pytest

QUALITIES = [50, 75, 90, 98, None]
METHODS = ["fog", "fill"]
NORMAL = [(20, 14), (60, 42), (200, 120)]
TINY = [(1, 2), (2, 1), (3, 2), (5, 3), (8, 5), (12, 7)]


def run(sides: tuple[int, int], quality: int | None, method: str, kind: str) -> tuple[bool, dict[str, bool]]:
    """One picture with two faces: whether the good output passed, and for each fault whether it was caught.

    A fault whose picture equals the good one (two equal fills swapped) is no fault.
    """
    size = 320 if sides[0] < 100 else 640
    faces = [(size // 8, size // 10, sides[0]), (size * 19 // 32, size // 2, sides[1])]
    rules = fogkit.policy(method)
    source = fogkit.opened(fogkit.picture(sum(sides), faces, kind, size), quality)
    good, decided = fogkit.cover(source, [fogkit.face_at(*face) for face in faces], rules)
    caught = {}
    for name in fogkit.FAULTS:
        bad = fogkit.faulty(name, source, good, decided, rules)
        if not np.array_equal(bad, good):
            caught[name] = not fogkit.judge(source, bad, decided, rules).ok
    return fogkit.judge(source, good, decided, rules).ok, caught


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sides", NORMAL)
def test_every_fault_on_a_normal_face_is_caught(sides: tuple[int, int], method: str, quality: int | None) -> None:
    """Faces from 14 to 200 px: ten kinds of fault, all caught; the correct output passes."""
    passed, caught = run(sides, quality, method, fogkit.TEXTURED)
    assert passed
    assert [name for name, found in caught.items() if not found] == []
    assert len(caught) >= 9


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [fogkit.DARK, fogkit.FLAT, fogkit.LOW])
def test_every_fault_on_a_dull_face_is_caught(kind: str, method: str, quality: int | None) -> None:
    """Dark, flat and low-contrast faces of 60 px: the same."""
    passed, caught = run((60, 42), quality, method, kind)
    assert passed
    assert [name for name, found in caught.items() if not found] == []


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("method", METHODS)
def test_faults_on_tiny_faces_are_caught(method: str, quality: int | None) -> None:
    """Faces from 1 to 12 px: at least 98 of 100 faults caught, no false alarm."""
    results = [run(sides, quality, method, fogkit.TEXTURED) for sides in TINY]
    assert all(passed for passed, _ in results)
    found = [value for _, caught in results for value in caught.values()]
    assert len(found) >= 54
    assert sum(found) >= 0.98 * len(found)


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("method", ["pixelate", "blur"])
def test_gross_faults_of_linkable_methods_are_caught(method: str, quality: int | None) -> None:
    """A mosaic or blur that is missing, misplaced or half transparent is caught as well."""
    passed, caught = run((100, 60), quality, method, fogkit.TEXTURED)
    gross = ["no-op", "coverage 75 %", "alpha 0.5", "wrong orientation", "one region missing"]
    assert passed
    assert [name for name in gross if not caught[name]] == []
