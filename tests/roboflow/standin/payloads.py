"""Workspaces, projects and versions as the management API spells them."""

from __future__ import annotations

from typing import Any

from standin.call import Call
from standin.trainings import legacy_parts
from standin.world import CREATED, Project, Version

SCORES = {"map": 91.5, "precision": 92.0, "recall": 88.0}


def hit(found: Project) -> dict[str, Any]:
    """A project as Universe's search lists it."""
    return {
        "id": found.project_id,
        "name": found.slug,
        "type": found.kind,
        "url": f"https://universe.roboflow.com/{found.project_id}",
        "images": 6 + len(found.images),
        "classes": found.classes,
        "license": found.license,
        "latestVersion": max((int(n) for n in found.versions), default=None),
    }


def workspace_payload(slug: str) -> dict[str, Any]:
    """A workspace."""
    return {"name": slug.title(), "url": slug}


def project_payload(found: Project) -> dict[str, Any]:
    """A project with every key that the client needs."""
    splits: dict[str, int] = {"train": 4, "valid": 1, "test": 1}
    for image in found.images.values():
        splits[image.split] = splits.get(image.split, 0) + 1
    return {
        "id": found.project_id,
        "type": found.kind,
        "name": found.slug,
        "created": CREATED,
        "updated": CREATED + len(found.images),
        "images": sum(splits.values()),
        "unannotated": sum(1 for i in found.images.values() if i.annotation is None),
        "annotation": found.classes[0],
        "public": found.public,
        "license": found.license,
        "splits": splits,
        "colors": {name: "#C7FC00" for name in found.classes},
        "classes": dict.fromkeys(found.classes, 6),
    }


def version_payload(call: Call, found: Project, number: Version) -> dict[str, Any]:
    """A version; ``model`` only if inference answers for it, ``train`` and ``models`` only after a training began."""
    model_id = f"{found.slug}/{number.number}"
    done = 1.0 if not number.polls else 1 - number.polls_left / number.polls
    payload: dict[str, Any] = {
        "id": f"{found.project_id}/{number.number}",
        "name": f"{found.slug} v{number.number}",
        "created": CREATED,
        "images": 0 if number.polls_left else number.images,
        "splits": {"train": number.images - 2, "valid": 1, "test": 1},
        "generating": bool(number.polls_left),
        "progress": done,
        "preprocessing": number.preprocessing,
        "augmentation": number.augmentation,
        "exports": list(number.exports),
        "classes": dict.fromkeys(found.classes, 6),
    }
    model = call.world.models.get(model_id)
    if model and not model.retired:
        payload["model"] = {"id": model_id, "endpoint": f"{call.base_url}/{model_id}", **SCORES}
    return payload | legacy_parts(number)
