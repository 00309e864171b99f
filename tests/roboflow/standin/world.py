"""What the stand-in knows: keys, models, workspaces with projects, versions, images and trainings. One lock for all."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from typing import Any

from standin.exchange import api_error
from standin.models import Model, look_echo, look_local, look_markers

GOOD_KEY = "standin-good-key-0123456789"
KEYS = {
    GOOD_KEY: 200,
    "standin-no-credits-key-0123456": 402,
    "standin-forbidden-key-012345678": 403,
    "standin-locked-key-0123456789": 423,
}
WORKSPACE = "stand-in"
CREATED = 1790000000.0
STRETCH = {"format": "Stretch to", "width": 640, "height": 640}
ENDED = ("finished", "failed", "stopped", "cancelled")
MARKER_CLASSES = ["face", "license_plate", "red", "green"]


@dataclass
class Image:
    """An uploaded picture."""

    image_id: str
    name: str
    split: str
    batch: str
    tags: list[str]
    sha256: str
    data: bytes = field(repr=False)
    annotation: str | None = None


@dataclass
class Training:
    """A training run. Each look at it is one step along ``path``; ``steered`` holds it where a test put it."""

    training_id: str
    version: str
    model_type: str | None
    epochs: int
    path: list[str]
    status: str = "queued"
    steered: bool = False

    def step(self) -> None:
        """One look: on to the next status."""
        if self.path and not self.steered:
            self.status = self.path.pop(0)


@dataclass
class Version:
    """A dataset version. ``polls_left``: looks until it is generated; ``export_polls_left`` by format."""

    number: str
    preprocessing: dict[str, Any]
    augmentation: dict[str, Any]
    images: int = 6
    polls_left: int = 0
    polls: int = 0
    exports: list[str] = field(default_factory=list)
    export_polls_left: dict[str, int] = field(default_factory=dict)
    trainings: list[Training] = field(default_factory=list)


@dataclass
class Project:
    """A project of the workspace ``workspace``."""

    slug: str
    kind: str = "object-detection"
    workspace: str = WORKSPACE
    classes: list[str] = field(default_factory=lambda: ["face"])
    license: str = "CC BY 4.0"
    public: bool = True
    versions: dict[str, Version] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)

    @property
    def project_id(self) -> str:
        """``workspace/slug``."""
        return f"{self.workspace}/{self.slug}"


class World:
    """Everything behind the endpoints. Change it freely from a test; ``StandIn.reset`` makes a new one."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.keys = dict(KEYS)
        self.require_key = True
        self.header_auth = True
        self.self_hosted = False
        self.generating_polls = 0
        self.export_polls = 0
        self.queued_polls = 1
        self.running_polls = 2
        self.training_outcome = "finished"
        self.byte_limit = 20 * 1024 * 1024
        self.models = {model.model_id: model for model in _models()}
        self.projects = {project.project_id: project for project in _projects()}
        self.links: dict[str, tuple[Project, str]] = {}

    def project(self, workspace: str, slug: str) -> Project:
        """Raises the API's 404."""
        found = self.projects.get(f"{workspace}/{slug}")
        if found is None:
            raise api_error(404, f"Unsupported get request. Object with ID '{slug}' does not exist.")
        return found

    def version(self, workspace: str, slug: str, number: str) -> tuple[Project, Version]:
        """Raises the API's 404."""
        project = self.project(workspace, slug)
        if number not in project.versions:
            raise api_error(404, f"Version {number} does not exist in project {slug}.")
        return project, project.versions[number]

    def training(self, version: Version, training_id: str | None) -> Training:
        """One run of a version; the only one when no id is given. Raises the API's 404 and 409."""
        found = [t for t in version.trainings if training_id in (None, "", t.training_id)]
        if not found:
            raise api_error(404, "Training not found.")
        if len(found) > 1:
            raise api_error(409, "MULTIPLE_TRAININGS: pass trainingId.")
        return found[0]

    def steer(self, training_id: str, status: str) -> None:
        """Hold a training at ``status``. Raises KeyError."""
        runs = [(p, v, t) for p in self.projects.values() for v in p.versions.values() for t in v.trainings]
        project, version, training = next(
            (run for run in runs if run[2].training_id == training_id), (None, None, None)
        )
        if project is None or version is None or training is None:
            raise KeyError(training_id)
        training.status, training.steered = status, True
        self.settle(project, version, training)

    def settle(self, project: Project, version: Version, training: Training) -> None:
        """A finished training makes the version's model answer inference calls."""
        model_id = f"{project.slug}/{version.number}"
        if training.status == "finished" and model_id not in self.models:
            resize = version.preprocessing.get("resize") or {}
            stretch = (resize["width"], resize["height"]) if "Stretch" in resize.get("format", "") else None
            self.models[model_id] = Model(model_id, look_local, list(project.classes), stretch)

    def token(self, *parts: str) -> str:
        """An id that depends on ``parts`` only, so that runs compare."""
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _models() -> list[Model]:
    colours = list(MARKER_CLASSES)
    return [
        Model("faces/1", look_local, ["face"], (640, 640)),
        Model("faces/2", look_local, ["face"]),
        Model("markers/1", look_markers, colours),
        Model("markers/2", look_markers, colours, (640, 640)),
        Model("outlines/1", look_markers, colours, polygons=True),
        Model("echo/1", look_echo, ["face"], rounding=False),
    ]


def _projects() -> list[Project]:
    orient = {"auto-orient": {"enabled": True}}
    stretched = {**orient, "resize": STRETCH}
    return [
        Project("faces", versions={"1": Version("1", stretched, {}), "2": Version("2", orient, {})}),
        Project(
            "markers",
            classes=list(MARKER_CLASSES),
            versions={"1": Version("1", orient, {}), "2": Version("2", stretched, {})},
        ),
        Project(
            "outlines", "instance-segmentation", classes=list(MARKER_CLASSES), versions={"1": Version("1", orient, {})}
        ),
        Project("open-faces", workspace="universe-people", versions={"1": Version("1", stretched, {})}),
    ]
