"""Builders for whole runs without Airflow: pictures with painted markers, and a detector that really finds them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from airflow_facefog.core.detector import DetectorInfo
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy
from airflow_facefog.core.records import Detection
from airflow_facefog.detectors.canary import Canary
from airflow_facefog.job.model import Attempt, Place, PlanRequest, RunIdentity

MARKER_BGR = (255, 0, 255)
MARKER = {"kind": "python", "factory": "jobkit:MarkerDetector"}
KEYS = KeyRing.from_master(bytes(range(32)))


class MarkerDetector:
    """Finds magenta rectangles as class ``face``: predictions that depend on pixels, cheap and exact."""

    @property
    def info(self) -> DetectorInfo:
        """Identity of the test detector."""
        return DetectorInfo("marker", "marker", "1", "0" * 64, "marker-1", ("face",))

    def canary(self) -> Canary | None:
        """A small picture with one marker."""
        return Canary(picture(999, (128, 128), [(40, 30, 72, 70)]), "face", 0.5, (40, 30, 72, 70))

    def detect(self, pixels: Any, floor: float) -> Sequence[Detection]:
        """Every connected magenta area, JPEG noise allowed."""
        blue, green, red = (pixels[:, :, i].astype(int) for i in range(3))
        mask = ((blue > 200) & (red > 200) & (green < 90)).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        found = []
        for x, y, w, h, area in stats[1:count]:
            if area >= 9:
                found.append(Detection((x, y, x + w, y + h), 0.9, "face", 0, None, "marker").on_grid())
        return found


class PlateDetector:
    """Sees one plate in every picture."""

    @property
    def info(self) -> DetectorInfo:
        """Identity of the test detector."""
        return DetectorInfo("plates", "plates", "1", "0" * 64, "plates-1", ("license_plate",))

    def canary(self) -> Canary:
        """Any picture will do."""
        return Canary(picture(999), "license_plate", 0.5)

    def detect(self, pixels: Any, floor: float) -> Sequence[Detection]:
        """The plate."""
        return [Detection((40, 30, 72, 70), 0.9, "license_plate", 0, None, "plates")]


def picture(
    seed: int = 0, size: tuple[int, int] = (160, 120), markers: Sequence[tuple[int, int, int, int]] = ()
) -> Any:
    """A smooth textured BGR picture of (width, height) with magenta ``markers`` as xyxy."""
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 190, (max(2, size[1] // 16), max(2, size[0] // 16), 3), dtype=np.uint8)
    image = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
    image[:, :, 1] = np.maximum(image[:, :, 1], 100)  # never magenta by chance
    for x1, y1, x2, y2 in markers:
        image[y1:y2, x1:x2] = MARKER_BGR
    return image


def save(path: Path, image: Any, quality: int = 92) -> Path:
    """Write a picture; the suffix decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix in (".jpg", ".jpeg") else []
    path.write_bytes(cv2.imencode(path.suffix, image, options)[1].tobytes())
    return path


@dataclass
class World:
    """Source, destination and audit folders of one test."""

    root: Path

    def __post_init__(self) -> None:
        for name in ("raw", "clean", "audit"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    @property
    def raw(self) -> Path:
        """Folder of raw images."""
        return self.root / "raw"

    @property
    def clean(self) -> Path:
        """Destination."""
        return self.root / "clean"

    @property
    def audit(self) -> Path:
        """Audit store."""
        return self.root / "audit"

    def photos(self, n: int, start: int = 0) -> list[Path]:
        """``n`` JPEGs with one marker each."""
        return [
            save(self.raw / f"photo_{i:03d}.jpg", picture(i, markers=[(40, 30, 72, 70)]))
            for i in range(start, start + n)
        ]

    def request(self, run_id: str = "run-1", **changes: Any) -> PlanRequest:
        """A plan request over this world."""
        settings: dict[str, Any] = {
            "identity": RunIdentity("dag", run_id, "list"),
            "source": Place.parse(self.raw),
            "destination": Place.parse(self.clean),
            "audit": Place.parse(self.audit),
            "policy": FogPolicy(),
            "detector": MARKER,
            "batch_images": 4,
            **changes,
        }
        return PlanRequest(**settings)

    def published(self) -> dict[str, bytes]:
        """Every object in the destination: relative name → bytes."""
        folder = self.clean / "data"
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    def snapshots(self) -> list[str]:
        """Names of all snapshots."""
        return sorted(p.name for p in (self.clean / "_facefog" / "snapshots").glob("*.json"))


_attempts = iter(range(10**9))


def attempt(try_number: int = 1) -> Attempt:
    """A new attempt id; later ones sort after earlier ones, as Airflow's do."""
    return Attempt(f"{next(_attempts):012d}", try_number)


def run(request: PlanRequest, keys: KeyRing = KEYS, **options: Any) -> dict[str, Any]:
    """Plan, all batches, finalise."""
    from airflow_facefog.job.batch import run_batch
    from airflow_facefog.job.finalise import finalise
    from airflow_facefog.job.plan import make_plan

    refs = make_plan(request, keys)
    for ref in refs:
        run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=keys, workers=options.get("workers", 2))
    return finalise(refs[0]["plan"], attempt=attempt(), keys=keys, sql=options.get("sql"))


def audit_rows(world: World, result: dict[str, Any], name: str = "image") -> list[dict[str, Any]]:
    """Rows of one sealed table of a run."""
    from airflow_facefog.audit.parquet import from_parquet

    folder = Path(result["manifest_uri"].removeprefix("file://")).parent
    return from_parquet(f"facefog_{name}", (folder / f"{name}.parquet").read_bytes())


def plan_of(ref: dict[str, Any]) -> dict[str, Any]:
    """The plan's JSON."""
    return dict(json.loads(Path(ref["plan"].removeprefix("file://")).read_text()))
