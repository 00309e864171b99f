"""A small world for the command line: photos, a scripted detector, a config folder of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from airflow_facefog.cli.app import run

FACE = {"xyxy": [40, 30, 72, 70], "confidence": 0.9, "class_name": "face"}


@dataclass
class Outcome:
    """Exit code and both streams of one command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout; fails when there is more or less."""
        (line,) = self.out.splitlines()
        return dict(json.loads(line))


@dataclass
class Terminal:
    """Runs commands in a temporary folder."""

    root: Path
    capture: pytest.CaptureFixture[str]

    def __post_init__(self) -> None:
        self.raw.mkdir()
        (self.root / "script.json").write_text(json.dumps({"classes": ["face"], "images": {}, "default": [FACE]}))

    @property
    def raw(self) -> Path:
        """Source folder."""
        return self.root / "raw"

    @property
    def clean(self) -> Path:
        """Destination."""
        return self.root / "clean"

    @property
    def audit(self) -> Path:
        """Audit."""
        return self.root / "audit"

    @property
    def detector(self) -> str:
        """Spec of the scripted detector: one face in every picture."""
        return f"scripted:{self.root / 'script.json'}"

    def photo(self, name: str, seed: int = 0) -> Path:
        """A JPEG of 160x120 px below ``raw``."""
        small = np.random.default_rng(seed).integers(40, 190, (8, 10, 3), dtype=np.uint8)
        data = cv2.imencode(".jpg", cv2.resize(small, (160, 120)))[1].tobytes()
        return self.file(name, data)

    def file(self, name: str, data: bytes) -> Path:
        """Any file below ``raw``."""
        path = self.raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def photos(self, good: int, broken: int = 0) -> None:
        """``good`` photos and ``broken`` files that are cut off."""
        for index in range(good):
            self.photo(f"person-{index}.jpg", index)
        for index in range(broken):
            data = self.photo(f"broken-{index}.jpg", 100 + index).read_bytes()
            self.file(f"broken-{index}.jpg", data[: len(data) // 2])

    def facefog(self, *argv: object) -> Outcome:
        """Run ``facefog …`` in this process."""
        code = run([str(part) for part in argv])
        streams = self.capture.readouterr()
        return Outcome(code, streams.out, streams.err)

    def run(self, *more: object) -> Outcome:
        """``facefog run`` over this world, as JSON."""
        places = (self.raw, self.clean, "--audit", self.audit, "--detector", self.detector)
        return self.facefog("run", *places, "--workers", 1, "--json", *more)
