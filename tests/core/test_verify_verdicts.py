"""Verdicts: which check speaks for which damage, and no false alarm on correct output."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import fogkit
import numpy as np
import pytest

from airflow_facefog.core import codec
from airflow_facefog.core.policy import FogPolicy, Method, load_policy
from airflow_facefog.core.raw import RawImage
from airflow_facefog.core.records import Action, Detection
from airflow_facefog.core.regions import Decided, decide, with_fill
from airflow_facefog.core.verify import Verdict, verify

FACES = [(40, 30, 60), (190, 150, 40)]


def prepared(quality: int | None = 90, rules: FogPolicy | None = None) -> tuple[Any, np.ndarray, Decided, FogPolicy]:
    """Source, correct output, decisions and policy of a picture with two faces."""
    rules = rules or fogkit.policy()
    source = fogkit.opened(fogkit.picture(3, FACES), quality)
    output, decided = fogkit.cover(source, [fogkit.face_at(*face) for face in FACES], rules)
    return source, output, decided, rules


def random_faces(rng: np.random.Generator, count: int) -> list[Detection]:
    """Faces of log-uniform size 0.3 to 160 px anywhere, also across the border."""
    sides = np.exp(rng.uniform(np.log(0.3), np.log(160), count))
    names = ["face", "plate", "head"]
    return [
        fogkit.face_at(float(x), float(y), float(s), names[i % 3])
        for i, (x, y, s) in enumerate(
            zip(rng.uniform(-20, 320, count), rng.uniform(-20, 320, count), sides, strict=True)
        )
    ]


@pytest.mark.parametrize("quality", [50, 75, 90, 98, None])
@pytest.mark.parametrize(
    ("method", "shape"), [("fog", "box"), ("fog", "ellipse"), ("fill", "box"), ("pixelate", "box")]
)
def test_correct_output_raises_no_alarm(method: str, shape: str, quality: int | None) -> None:
    """Random regions, also tiny, overlapping and at the border, pass; and so does fogging the published file again."""
    rng = np.random.default_rng(quality)
    rules = fogkit.policy(method, shape)
    for seed in range(3):
        found = random_faces(rng, 7)
        source = fogkit.opened(fogkit.picture(seed, [(60, 60, 80)]), quality)
        output, decided = fogkit.cover(source, found, rules)
        encoded = codec.encode(source, output, rules.output)
        first = verify(source.pixels, encoded, decided, rules, fogkit.KEYS, fogkit.CID)
        assert first.failures == ()
        assert first.coverage == 1.0
        again = codec.decode(RawImage(encoded.data, "cd" * 32), rules.limits)
        second, decided = fogkit.cover(again, found, rules)
        assert fogkit.judge(again, second, decided, rules).failures == ()


@pytest.mark.parametrize("quality", [50, 90])
def test_fill_fallback_passes_where_fog_passed(quality: int) -> None:
    """The fallback has the same masks and its own correct rendering."""
    source, _, decided, rules = prepared(quality)
    filled = with_fill(decided)
    output = fogkit.fog_pixels(source.pixels, filled, rules, fogkit.KEYS, fogkit.CID)
    assert fogkit.judge(source, output, filled, rules).ok
    assert not fogkit.judge(source, output, decided, rules).ok


def test_verdict_numbers() -> None:
    """A lossy file has scores below 1 and a PSNR; a lossless one 0 and none; without detections there is no coverage."""
    source, output, decided, rules = prepared()
    lossy = fogkit.judge(source, output, decided, rules)
    assert lossy.ok
    assert lossy.worst_score is not None
    assert 0 < lossy.worst_score < 1
    assert lossy.outside_psnr is not None
    assert 35 < lossy.outside_psnr <= 99
    source, output, decided, rules = prepared(None)
    assert fogkit.judge(source, output, decided, rules) == Verdict(True, 1.0, 0.0, None, ())
    nothing = fogkit.judge(source, source.pixels, Decided(()), rules)
    assert nothing == Verdict(True, None, None, None, ())


@pytest.mark.parametrize("spot", [(5, 5), (60, 60)])
def test_lossless_is_bit_exact(spot: tuple[int, int]) -> None:
    """One level in one pixel, outside or inside a mask, fails V1."""
    source, output, decided, rules = prepared(None)
    output[spot] ^= 1
    assert fogkit.judge(source, output, decided, rules).failures == ("V1",)


@pytest.mark.parametrize(
    ("box", "level"), [((256, 16, 272, 32), 14), ((304, 304, 320, 320), 14), ((120, 40, 126, 100), 60)]
)
def test_damage_outside_fails_v5(box: tuple[int, int, int, int], level: int) -> None:
    """One brighter tile far away, at the corner, or in the band beside a mask."""
    source, output, decided, rules = prepared()
    x1, y1, x2, y2 = box
    assert decided.fogged[0].region is not None
    assert decided.fogged[0].region[2] <= 120
    output[y1:y2, x1:x2] = cv2.add(output[y1:y2, x1:x2], np.full((y2 - y1, x2 - x1, 3), level, np.uint8))
    assert fogkit.judge(source, output, decided, rules).failures == ("V5",)


def test_wrong_colour_beside_a_mask_fails_v5() -> None:
    """The band may lose some chroma to a shared block, but not turn red at the same luma."""
    source, output, decided, rules = prepared()
    ycc = cv2.cvtColor(output[40:100, 120:136], cv2.COLOR_BGR2YCrCb)
    ycc[:, :, 1] = np.clip(ycc[:, :, 1].astype(int) + 60, 0, 255)
    output[40:100, 120:136] = cv2.cvtColor(ycc, cv2.COLOR_YCrCb2BGR)
    assert fogkit.judge(source, output, decided, rules).failures == ("V5",)


def test_wrong_colour_inside_fails_v2() -> None:
    """Right luma, wrong hue: only the colour means can tell."""
    source, output, decided, rules = prepared()
    x1, y1, x2, y2 = decided.fogged[0].region or (0, 0, 0, 0)
    ycc = cv2.cvtColor(output, cv2.COLOR_BGR2YCrCb)
    ycc[y1:y2, x1:x2, 1] = np.clip(ycc[y1:y2, x1:x2, 1].astype(int) + 30, 0, 255)
    bad = cv2.cvtColor(ycc, cv2.COLOR_YCrCb2BGR)
    output[y1:y2, x1:x2] = bad[y1:y2, x1:x2]
    assert "V2" in fogkit.judge(source, output, decided, rules).failures


def test_faint_residue_fails_v3() -> None:
    """15 % of the content shining through is within the codec's noise and still found by its slope."""
    source, output, decided, rules = prepared()
    bad = np.rint(0.85 * output + 0.15 * source.pixels).astype(np.uint8)
    assert "V3" in fogkit.judge(source, bad, decided, rules).failures


@pytest.mark.parametrize(
    "spoil", [lambda d: d + b"x", lambda d: d[:-100], lambda d: d[:2] + b"\xff\xfe\x00\x04ab" + d[2:]]
)
@pytest.mark.parametrize("quality", [90, None])
def test_foreign_bytes_fail_v6(spoil: Any, quality: int | None) -> None:
    """Bytes after the end, a cut file and a comment segment are refused, never raised."""
    source, output, decided, rules = prepared(quality)
    encoded = codec.encode(source, output, rules.output)
    bad = replace(encoded, data=spoil(encoded.data))
    assert verify(source.pixels, bad, decided, rules, fogkit.KEYS, fogkit.CID).failures == ("V6",)


def test_another_size_fails() -> None:
    """A file of another picture size is not this picture."""
    source, _, decided, rules = prepared()
    other = fogkit.opened(fogkit.picture(1, [], size=160), 90)
    encoded = codec.encode(other, other.pixels, rules.output)
    assert verify(source.pixels, encoded, decided, rules, fogkit.KEYS, fogkit.CID).failures == ("V1",)


def tampered(name: str, decided: Decided) -> Decided:
    """Decisions that a broken decide() could hand over."""
    first = decided.fogged[0]
    x1, y1, x2, y2 = first.region or (0, 0, 0, 0)
    changes: dict[str, dict[str, Any]] = {
        "region too small": {"region": (x1, y1, x2 - 16, y2)},
        "region elsewhere": {"region": (x1 + 160, y1, x2 + 160, y2)},
        "margin left out": {"region": (40, 24, 104, 104), "margin_box": first.hull},
        "selected, not fogged": {"action": Action.BELOW_THRESHOLD, "region": None, "method": None},
        "ignored, though listed": {"action": Action.CLASS_IGNORED, "region": None, "method": None},
        "hull without its best box": {
            "hull": (0.0, 0.0, 8.0, 8.0),
            "margin_box": (-2.0, -3.0, 10.0, 10.0),
            "region": (0, 0, 24, 24),
        },
    }
    return replace(
        decided, decisions=tuple(replace(d, **changes[name]) if d is first else d for d in decided.decisions)
    )


@pytest.mark.parametrize(
    "name",
    ["region too small", "region elsewhere", "margin left out", "selected, not fogged", "ignored, though listed",
     "hull without its best box"],
)  # fmt: skip
@pytest.mark.parametrize("quality", [90, None])
def test_uncovered_detection_fails_v0(name: str, quality: int | None) -> None:
    """The output matches its decisions, but the decisions do not cover what the policy selects."""
    source, _, decided, rules = prepared(quality)
    wrong = tampered(name, decided)
    output = fogkit.fog_pixels(source.pixels, wrong, rules, fogkit.KEYS, fogkit.CID)
    verdict = fogkit.judge(source, output, wrong, rules)
    assert "V0" in verdict.failures
    assert verdict.coverage is not None
    assert verdict.coverage < 1.0


def test_a_wrong_key_is_noticed() -> None:
    """Fog made with another key is not the expected fog."""
    source, _, decided, rules = prepared()
    output = fogkit.fog_pixels(source.pixels, decided, rules, fogkit.KeyRing.from_master(bytes(32)), fogkit.CID)
    assert "V2" in fogkit.judge(source, output, decided, rules).failures


def test_too_colourful_mosaic_fails_v4(monkeypatch: pytest.MonkeyPatch) -> None:
    """A renderer whose mosaic is no mosaic is caught although output and expectation agree."""
    from airflow_facefog.core.fog import layers

    monkeypatch.setattr(layers, "render_pixelate", lambda _mask, inside, _seed: inside)
    rules = fogkit.policy("pixelate")
    source, output, decided, rules = prepared(None, rules)
    assert decided.fogged[0].method is Method.PIXELATE
    assert "V4" in fogkit.judge(source, output, decided, rules).failures


COLOURS = [("gray", 1), ("bgr", 3), ("bgra", 4)]


@pytest.mark.parametrize(("name", "channels"), COLOURS)
@pytest.mark.parametrize("method", ["fog", "fill", "pixelate", "blur"])
@pytest.mark.parametrize("shape", ["box", "ellipse"])
@pytest.mark.parametrize("target", ["source", "webp"])
def test_colour_modes(name: str, channels: int, method: str, shape: str, target: str) -> None:
    """Grey, colour and alpha pictures pass as PNG and as lossy WebP, and a no-op fails."""
    pixels = fogkit.picture(5, [(40, 30, 80)])
    if channels == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    if channels == 4:
        alpha = np.tile(np.linspace(0, 255, 320).astype(np.uint8), (320, 1))
        pixels = np.dstack([pixels, alpha])
    rules = load_policy(
        {
            "rules": {"face": {"method": method, "shape": shape}},
            "accept_linkable": True,
            "output": {"format": target, "quality": "source" if target == "source" else 90},
        }
    )
    source = fogkit.opened(pixels, None)
    assert source.pixels.ndim == (2 if channels == 1 else 3)
    output, decided = fogkit.cover(source, [fogkit.face_at(40, 30, 80)], rules)
    assert fogkit.judge(source, output, decided, rules).failures == ()
    assert not fogkit.judge(source, source.pixels, decided, rules).ok


def test_transparent_region_fails_in_a_lossy_file() -> None:
    """Alpha under a mask must be opaque in the decoded WebP too: a see-through fog is none."""
    pixels = np.dstack([fogkit.picture(5, [(40, 30, 80)]), np.full((320, 320), 255, np.uint8)])
    rules = load_policy({"output": {"format": "webp", "quality": 90}})
    source = fogkit.opened(pixels, None)
    output, decided = fogkit.cover(source, [fogkit.face_at(40, 30, 80)], rules)
    output[60:80, 60:80, 3] = 100
    assert fogkit.judge(source, output, decided, rules).failures == ("V2",)


def test_polygon_regions_pass_and_their_faults_fail() -> None:
    """A dilated polygon is verified like a box; without it the picture is refused."""
    rules = fogkit.policy("fog", "polygon")
    outline = ((100.0, 40.0), (160.0, 100.0), (100.0, 160.0), (40.0, 100.0))
    source = fogkit.opened(fogkit.picture(5, [(60, 60, 80)]), 90)
    found = [Detection((40, 40, 160, 160), 0.9, "face", polygon=outline)]
    output, decided = fogkit.cover(source, found, rules)
    assert fogkit.judge(source, output, decided, rules).ok
    assert not fogkit.judge(source, source.pixels, decided, rules).ok
    x1, y1, _, _ = decided.fogged[0].region or (0, 0, 0, 0)
    assert np.array_equal(output[y1, x1], source.pixels[y1, x1])
    assert not np.array_equal(output[100, 100], source.pixels[100, 100])


def test_decide_of_nothing_still_checks_the_whole_frame() -> None:
    """An image without detections is compared too."""
    rules = FogPolicy()
    source = fogkit.opened(fogkit.picture(2, []), 75)
    decided = decide([], rules, 320, 320, keyed=True)
    assert fogkit.judge(source, source.pixels, decided, rules).ok
    bad = source.pixels.copy()
    bad[100:116, 100:116] = 0
    assert fogkit.judge(source, bad, decided, rules).failures == ("V5",)


@pytest.mark.parametrize(("quality", "passes"), [("source", False), (60, True)])
def test_a_quality_that_the_policy_names_may_cost_more(quality: int | str, passes: bool) -> None:
    """Damage of 12 levels fails against the source's quality and is within what a chosen low quality may lose."""
    rules = load_policy({"output": {"format": "webp", "quality": quality}})
    source = fogkit.opened(fogkit.picture(2, []), 90)
    bad = source.pixels.copy()
    bad[96:128, 96:128] = cv2.add(bad[96:128, 96:128], np.full((32, 32, 3), 12, np.uint8))
    assert fogkit.judge(source, bad, Decided(()), rules).ok is passes
    worse = cv2.add(source.pixels, np.full(source.pixels.shape, 30, np.uint8))
    assert not fogkit.judge(source, worse, Decided(()), rules).ok
