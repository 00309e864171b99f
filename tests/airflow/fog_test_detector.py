"""A detector for Dag tests: one face in the middle of every picture, and errors on demand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from airflow_facefog.core.detector import DetectorInfo
from airflow_facefog.core.errors import DetectorError, TransientError
from airflow_facefog.core.records import Detection
from airflow_facefog.detectors.canary import Canary, bundled


class ScriptedFaces:
    """Reads its orders from a JSON file at every picture.

    ``transient``: how many times in all to raise TransientError. ``permanent``: shades (±4) at which to raise
    DetectorError. ``crash``: shades at which to raise an exception whose message names the raw file.
    """

    def __init__(self, control: str) -> None:
        self._control = Path(control)

    @property
    def info(self) -> DetectorInfo:
        return DetectorInfo("scripted-faces", "test/1", "1", "0" * 64, "fog-test-detector", ("face",))

    def canary(self) -> Canary:
        return Canary(bundled().picture, "face", 0.5, (30.0, 20.0, 60.0, 44.0))

    def detect(self, pixels: Any, floor: float) -> list[Detection]:
        orders = json.loads(self._control.read_text())
        shade = int(pixels[0, 0, 2])
        if self._spend(orders.get("transient", 0)):
            raise TransientError("the model server is busy", retry_after_s=0.01)
        if any(abs(shade - bad) <= 4 for bad in orders.get("permanent", [])):
            raise DetectorError("the detector was told to refuse this shade")
        if any(abs(shade - bad) <= 4 for bad in orders.get("crash", [])):
            raise RuntimeError(f"secret-name person-{shade}.jpg {pixels.tobytes()[:8]!r}")
        return [Detection((30.0, 20.0, 60.0, 44.0), 0.9, "face", 0, None, "scripted-faces")]

    def _spend(self, allowed: int) -> bool:
        """Whether one of the ordered failures is left; spent ones are files, so that processes agree."""
        for number in range(allowed):
            try:
                os.close(os.open(self._control.with_suffix(f".{number}"), os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            return True
        return False
