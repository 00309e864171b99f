"""Detectors that cost something: asked once per image, and what they sent is recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import jobkit
import pytest
from jobkit import KEYS, World, attempt

from airflow_facefog.core.detector import DetectorInfo
from airflow_facefog.core.records import Detection
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.plan import make_plan
from airflow_facefog.job.staged import detect_batch, fog_detected_batch

PAID = {"kind": "python", "factory": "test_cache:PaidDetector"}


class PaidDetector(jobkit.MarkerDetector):
    """The marker detector at a price: counts its calls, and says that answers are worth keeping."""

    calls: ClassVar[int] = 0
    fail_after: ClassVar[int | None] = None

    @property
    def info(self) -> DetectorInfo:
        """Identity."""
        return DetectorInfo("paid", "paid", "1", "0" * 64, "paid-1", ("face",), concurrency=3, cacheable=True)

    def detect(self, pixels: Any, floor: float) -> Sequence[Detection]:
        """Count and look; the canary picture (128 px) is free."""
        if pixels.shape[:2] != (128, 128):
            type(self).calls += 1
            if self.fail_after is not None and self.calls > self.fail_after:
                raise ConnectionError("the line is dead")
        return super().detect(pixels, floor)

    def egress(self) -> dict[str, dict[str, float]]:
        """What was sent."""
        return {"paid.example": {"calls": self.calls, "bytes": 10 * self.calls, "credits": 0.5 * self.calls}}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PaidDetector, "calls", 0)
    monkeypatch.setattr(PaidDetector, "fail_after", None)


def test_a_retried_batch_asks_only_for_what_was_not_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt dies after five answers; the second asks for the other three only."""
    world = World(tmp_path)
    world.photos(8)
    ref = make_plan(world.request(detector=PAID, batch_images=8), KEYS)[0]
    monkeypatch.setattr(PaidDetector, "fail_after", 5)
    with pytest.raises(Exception, match="ConnectionError"):
        run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)
    monkeypatch.setattr(PaidDetector, "fail_after", None)
    PaidDetector.calls = 0
    done = run_batch(ref["plan"], ref["batch"], attempt=attempt(2), keys=KEYS, workers=1)
    assert (done["published"], PaidDetector.calls) == (8, 3)


def test_the_staged_driver_pays_once_too(tmp_path: Path) -> None:
    """Detect twice, fog once: every image is asked for once, and all are fogged."""
    world = World(tmp_path)
    world.photos(4)
    ref = make_plan(world.request(detector=PAID), KEYS)[0]
    for _ in range(2):
        seen = detect_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
    done = fog_detected_batch(ref["plan"], ref["batch"], seen["predictions"], attempt=attempt(), keys=KEYS)
    assert (done["published"], PaidDetector.calls) == (4, 4)


def test_a_forged_or_damaged_entry_is_not_believed(tmp_path: Path) -> None:
    """An entry that does not authenticate means looking again, never "no faces"."""
    world = World(tmp_path)
    world.photos(2)
    refs = make_plan(world.request(detector=PAID), KEYS)
    detect_batch(refs[0]["plan"], refs[0]["batch"], attempt=attempt(), keys=KEYS)
    entries = [path for path in world.audit.glob("predictions/cache/*/*/*") if path.is_file()]
    assert len(entries) == 2
    for path in entries:
        body = json.loads(path.read_bytes())
        path.write_text(json.dumps({**body, "detections": []}))
    run_batch(refs[0]["plan"], refs[0]["batch"], attempt=attempt(), keys=KEYS)
    assert PaidDetector.calls == 4
    objects = [path.read_bytes() for path in (world.clean / "data").rglob("*.jpg")]
    assert len(objects) == 2


def test_what_was_sent_is_recorded_for_failed_attempts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every attempt leaves host, calls, bytes and credits in the audit, whether it succeeded or not."""
    world = World(tmp_path)
    world.photos(3)
    ref = make_plan(world.request(detector=PAID), KEYS)[0]
    monkeypatch.setattr(PaidDetector, "fail_after", 1)
    with pytest.raises(Exception, match="ConnectionError"):
        run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)
    sent = [json.loads(path.read_text()) for path in world.audit.rglob("egress.json")]
    assert [entry["paid.example"]["calls"] for entry in sent] == [2]
