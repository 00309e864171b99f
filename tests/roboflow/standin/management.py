"""The management API: keys, workspaces, projects, versions, images, datasets, Universe. Trainings are next door."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from standin import archives
from standin.exchange import Answer, Request, api_error, as_json, multipart, refuse
from standin.world import CREATED, WORKSPACE, Image, Project, Version, World

FORMATS = {"yolov5pytorch", "yolov7pytorch", "yolov8", "yolov8-obb", "yolov9", "yolov11", "yolov12", "yolo26", "coco",
           "coco-segmentation", "voc", "createml", "darknet", "tfrecord", "multiclass", "paligemma"}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One management call: ``found`` holds the named parts of the path."""

    world: World
    request: Request
    found: dict[str, str]
    base_url: str

    def project(self) -> Project:
        """The project in the path."""
        return self.world.project(self.found["ws"], self.found["p"])

    def version(self) -> tuple[Project, Version]:
        """The version in the path and its project."""
        return self.world.version(self.found["ws"], self.found["p"], self.found["n"])

    def json(self) -> dict[str, Any]:
        """The body. Raises the API's 400."""
        try:
            body = self.request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise refuse(400, {"error": "Invalid JSON body"})
        return body


def check_key(call: Call) -> Any:
    """``POST /``."""
    return {
        "welcome": "Welcome to the Roboflow API.",
        "instructions": "You are successfully authenticated.",
        "docs": "https://docs.roboflow.com",
        "workspace": WORKSPACE,
    }


def workspace(call: Call) -> Any:
    """``GET /{ws}``."""
    mine = [p for p in call.world.projects.values() if p.workspace == call.found["ws"]]
    if not mine:
        raise api_error(404, f"Unsupported get request. Object with ID '{call.found['ws']}' does not exist.")
    return {"workspace": {**_workspace(call.found["ws"]), "members": 1, "projects": [_project(p) for p in mine]}}


def create_project(call: Call) -> Any:
    """``POST /{ws}/projects``."""
    body = call.json()
    if missing := [name for name in ("name", "type", "license", "annotation") if not body.get(name)]:
        raise refuse(400, {"error": f"{missing[0]} is required"})
    slug = re.sub(r"[^a-z0-9]+", "-", body["name"].lower()).strip("-")
    if f"{call.found['ws']}/{slug}" in call.world.projects:
        raise refuse(409, {"error": f"A project named {slug} already exists."})
    project = Project(slug, body["type"], call.found["ws"], [body["annotation"]], body["license"])
    project.public = body["license"] != "Private"
    call.world.projects[project.project_id] = project
    return _project(project)


def project(call: Call) -> Any:
    """``GET /{ws}/{p}``."""
    found = call.project()
    versions = [_version(call, found, v) for v in found.versions.values()]
    return {"workspace": _workspace(found.workspace), "project": _project(found), "versions": versions}


def version(call: Call) -> Any:
    """``GET /{ws}/{p}/{n}``: one look at a generation and at the trainings."""
    found, number = call.version()
    if number.polls_left:
        number.polls_left -= 1
    for training in number.trainings:
        training.step()
        call.world.settle(found, number, training)
    payload = _version(call, found, number)
    return {"workspace": _workspace(found.workspace), "project": _project(found), "version": payload}


def generate(call: Call) -> Any:
    """``POST /{ws}/{p}/generate``."""
    found, body = call.project(), call.json()
    if not {"augmentation", "preprocessing"} <= body.keys():
        raise refuse(400, {"error": "augmentation and preprocessing are required"})
    number = str(max((int(n) for n in found.versions), default=0) + 1)
    polls = call.world.generating_polls
    images = 6 + sum(1 for i in found.images.values() if i.data)
    found.versions[number] = Version(number, body["preprocessing"], body["augmentation"], images, polls, polls)
    return {"message": "Successfully started generating", "version": number}


def export(call: Call) -> Any:
    """``GET /{ws}/{p}/{n}/{fmt}``: 202 while it is made, then a link."""
    found, number = call.version()
    fmt = call.found["fmt"]
    if fmt not in FORMATS:
        raise api_error(400, f"Unsupported export format {fmt}.")
    left = number.export_polls_left.setdefault(fmt, 0 if fmt in number.exports else call.world.export_polls)
    if left:
        number.export_polls_left[fmt] = left - 1
        return as_json({"progress": round(1 - left / (call.world.export_polls + 1), 2)}, 202)
    if fmt not in number.exports:
        number.exports.append(fmt)
    token = call.world.token(found.project_id, number.number, fmt)
    call.world.links[token] = (found, fmt)
    link = f"{call.base_url}/ds/{token}?key={call.world.token('link', token)}"
    return {**version(call), "export": {"format": fmt, "link": link, "size": 0.01}}


def dataset_file(call: Call) -> Any:
    """``GET /ds/{token}?key=``: the archive behind an export link."""
    found, fmt = call.world.links.get(call.found["token"], (None, ""))
    if found is None or call.request.query.get("key") != call.world.token("link", call.found["token"]):
        raise api_error(404, "This link has expired.")
    uploads = {image.name: image.data for image in found.images.values() if image.data}
    return archives.as_answer(archives.dataset(fmt, found.classes, uploads))


def upload(call: Call) -> Any:
    """``POST /dataset/{p}/upload``: a picture in the body, or ``image=`` a URL that the cloud would fetch."""
    found = call.world.project(WORKSPACE, call.found["p"])
    query = call.request.query
    name, split, data = (query.get("name", ""), query.get("split", "train"), b"") if "image" in query else _sent(call)
    content = data or query["image"].encode()
    sha256 = hashlib.sha256(content).hexdigest()
    known = next((i for i in found.images.values() if i.sha256 == sha256), None)
    if known:
        return {"duplicate": True, "message": "Duplicate image", "id": known.image_id}
    image_id = call.world.token(found.project_id, sha256)
    tags = [value for key, value in parse_qsl(call.request.raw_query) if key == "tag"]
    found.images[image_id] = Image(image_id, name, split, query.get("batch", ""), tags, sha256, data)
    return {"success": True, "id": image_id}


def _sent(call: Call) -> tuple[str, str, bytes]:
    try:
        parts = multipart(call.request)
        data = parts["file"][1]
        Pillow.open(io.BytesIO(data)).verify()
    except (ValueError, KeyError):
        raise refuse(400, {"error": "No file was sent."}) from None
    except (UnidentifiedImageError, OSError, SyntaxError):
        raise refuse(400, {"error": "The image could not be read."}) from None
    text = {name: content.decode("utf-8", "replace") for name, (_, content) in parts.items() if name != "file"}
    return text.get("name", ""), text.get("split", "train"), data


def annotate(call: Call) -> Answer:
    """``POST /dataset/{p}/annotate/{image}``."""
    image = call.world.project(WORKSPACE, call.found["p"]).images.get(call.found["image"])
    if image is None:
        raise api_error(404, "Image not found.")
    text = call.json().get("annotationFile")
    if not isinstance(text, str) or not text.strip() or "name" not in call.request.query:
        raise refuse(400, {"error": {"message": "Annotation file is empty or has no name.", "status": 400}})
    if image.annotation is not None and call.request.query.get("overwrite") != "true":
        raise refuse(409, {"error": {"message": "This image was already annotated.", "status": 409}})
    image.annotation = text
    return as_json({"success": True})


def search_universe(call: Call) -> Any:
    """``GET /universe/search?q=&limit=&page=[&type=]``: public projects with the words in their name or classes."""
    query = call.request.query
    words = query.get("q", "").casefold().split()
    found = [
        p
        for p in call.world.projects.values()
        if p.public
        and all(word in " ".join([p.slug, *p.classes]).casefold() for word in words)
        and query.get("type", p.kind) == p.kind
    ]
    limit, page = int(query.get("limit", 12)), int(query.get("page", 1))
    window = found[(page - 1) * limit : page * limit]
    return {"results": [_hit(p) for p in window], "total": len(found), "page": page, "limit": limit}


def _hit(found: Project) -> dict[str, Any]:
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


def _workspace(slug: str) -> dict[str, Any]:
    return {"name": slug.title(), "url": slug}


def _project(found: Project) -> dict[str, Any]:
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


def _version(call: Call, found: Project, number: Version) -> dict[str, Any]:
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
    return payload


SCORES = {"map": 91.5, "precision": 92.0, "recall": 88.0}
