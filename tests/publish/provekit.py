"""A destination made by a real run over natural pictures, and ways to put things into it that do not belong there."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy
from airflow_facefog.job.model import Attempt, Place, PlanRequest, RunIdentity
from airflow_facefog.job.record.prove_store import ProofReport, ProveRequest, prove_store

KEYS = KeyRing.from_master(bytes(range(32)))
FACES = {
    "512x512": [[170, 60, 290, 210]], "600x400": [[190, 90, 420, 320]], "451x300": [[120, 70, 230, 190], [240, 60, 340, 180]],
    "640x427": [],
}  # fmt: skip
"""What the scripted detector sees, by size of the picture: one face, a cup, two eyes, nothing."""

_runs = itertools.count()
_attempts = itertools.count()


def pictures() -> dict[str, Any]:
    """Name → natural BGR picture: three with something to fog, one without."""
    from skimage import data

    found = {"astronaut.jpg": data.astronaut(), "coffee.jpg": data.coffee(), "chelsea.png": data.chelsea()}
    return {
        name: np.ascontiguousarray(pixels[:, :, ::-1])
        for name, pixels in (found | {"rocket.jpg": data.rocket()}).items()
    }


def encode(pixels: Any, suffix: str = ".jpg", quality: int = 92) -> bytes:
    """Bytes of a picture in a format by suffix."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    return bytes(cv2.imencode(suffix, pixels, options)[1].tobytes())


@dataclass
class World:
    """Source, destination and audit folders."""

    root: Path
    keys: KeyRing = KEYS
    raws: dict[str, bytes] = field(default_factory=dict)

    @property
    def raw(self) -> Path:
        """Source."""
        return self.root / "raw"

    @property
    def clean(self) -> Path:
        """Destination."""
        return self.root / "clean"

    @property
    def audit(self) -> Path:
        """Audit."""
        return self.root / "audit"

    def fill(self) -> World:
        """Write the four raw pictures and the detector's script."""
        self.raw.mkdir(parents=True)
        self.raws = {name: encode(p, Path(name).suffix) for name, p in pictures().items()}
        for name, data in self.raws.items():
            (self.raw / name).write_bytes(data)
        box = {"confidence": 0.9, "class_name": "face"}
        images = {size: [{"xyxy": xyxy, **box} for xyxy in boxes] for size, boxes in FACES.items()}
        (self.root / "script.json").write_text(json.dumps({"classes": ["face"], "images": images, "default": []}))
        return self

    def plan(self, **changes: Any) -> list[dict[str, Any]]:
        """Plan a run of its own."""
        from airflow_facefog.job.plan import make_plan

        settings = {
            "identity": RunIdentity("dag", f"run-{next(_runs)}", "list"), "source": Place.parse(self.raw),
            "destination": Place.parse(self.clean), "audit": Place.parse(self.audit), "policy": FogPolicy(),
            "detector": f"scripted:{self.root / 'script.json'}", **changes,
        }  # fmt: skip
        return make_plan(PlanRequest(**settings), self.keys)

    def batches(self, refs: Sequence[dict[str, Any]]) -> None:
        """Run every batch of a plan."""
        from airflow_facefog.job.batch import run_batch

        for ref in refs:
            attempt = Attempt(f"{next(_attempts):012d}")
            run_batch(ref["plan"], ref["batch"], attempt=attempt, keys=self.keys, workers=2)

    def run(self, **changes: Any) -> dict[str, Any]:
        """Plan, all batches, finalise."""
        from airflow_facefog.job.finalise import finalise

        refs = self.plan(**changes)
        self.batches(refs)
        return finalise(refs[0]["plan"], attempt=Attempt(f"{next(_attempts):012d}"), keys=self.keys)

    def copy(self, root: Path) -> World:
        """The same world elsewhere; its audit still names the first destination."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        return World(root, self.keys, self.raws)

    def put(self, key: str, data: bytes) -> str:
        """Write an object into the destination."""
        path = self.clean / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return key

    def published(self, name: str) -> Path:
        """The published object of a raw picture."""
        (path,) = (self.clean / "data").glob(f"{name}.*")
        return path

    def prove(self, keys: KeyRing | None = None, store: object = None, **options: Any) -> ProofReport:
        """Prove the destination, or another store."""
        request = ProveRequest(Place.parse(store or self.clean), Place.parse(self.audit), workers=2, **options)
        return prove_store(request, keys=keys or self.keys)


def found(report: ProofReport) -> dict[str, dict[str, Any]]:
    """Key → finding."""
    return {finding["key"]: finding for finding in report.document["findings"]}


def counts(report: ProofReport) -> dict[str, int]:
    """Class → objects, where there are any."""
    return {name: entry["objects"] for name, entry in report.document["classes"].items() if entry["objects"]}
