"""The management API: keys, workspaces, projects, versions, datasets, Universe. Pictures and trainings are next door."""

from __future__ import annotations

import re
from typing import Any

from standin import archives
from standin.call import Call
from standin.exchange import Answer, api_error, as_json, refuse
from standin.payloads import hit, project_payload, version_payload, workspace_payload
from standin.world import WORKSPACE, Project, Version

FORMATS = {"yolov5pytorch", "yolov7pytorch", "yolov8", "yolov8-obb", "yolov9", "yolov11", "yolov12", "yolo26", "coco",
           "coco-segmentation", "voc", "createml", "darknet", "tfrecord", "multiclass", "paligemma"}  # fmt: skip


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
    projects = [project_payload(p) for p in mine]
    return {"workspace": {**workspace_payload(call.found["ws"]), "members": 1, "projects": projects}}


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
    return project_payload(project)


def project(call: Call) -> Any:
    """``GET /{ws}/{p}``."""
    found = call.project()
    versions = [version_payload(call, found, v) for v in found.versions.values()]
    return {"workspace": workspace_payload(found.workspace), "project": project_payload(found), "versions": versions}


def version(call: Call) -> Any:
    """``GET /{ws}/{p}/{n}``: one look at a generation and at the trainings."""
    found, number = call.version()
    if number.polls_left:
        number.polls_left -= 1
    for training in number.trainings:
        training.step()
        call.world.settle(found, number, training)
    return _version_answer(call, found, number)


def _version_answer(call: Call, found: Project, number: Version) -> dict[str, Any]:
    payload = version_payload(call, found, number)
    return {"workspace": workspace_payload(found.workspace), "project": project_payload(found), "version": payload}


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
    return {**_version_answer(call, found, number), "export": {"format": fmt, "link": link, "size": 0.01}}


def dataset_file(call: Call) -> Any:
    """``GET /ds/{token}?key=``: the archive behind an export link."""
    found, fmt = call.world.links.get(call.found["token"], (None, ""))
    if found is None or call.request.query.get("key") != call.world.token("link", call.found["token"]):
        raise api_error(404, "This link has expired.")
    uploads = {image.name: image.data for image in found.images.values() if image.data}
    return archives.as_answer(archives.dataset(fmt, found.classes, uploads))


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
    return {"results": [hit(p) for p in window], "total": len(found), "page": page, "limit": limit}


def weights_file(call: Call) -> Answer:
    """A weights link: some bytes, no model."""
    data = b"stand-in weights " + call.found["token"].encode()
    return Answer(200, data, {"Content-Type": "application/octet-stream"})
