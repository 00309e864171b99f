"""Pictures of the management API: upload, annotate, search."""

from __future__ import annotations

import hashlib
import io
from typing import Any
from urllib.parse import parse_qsl

from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from standin.call import Call
from standin.exchange import Answer, api_error, as_json, multipart, refuse
from standin.world import WORKSPACE, Image


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


def search_project(call: Call) -> Any:
    """``POST /{ws}/{p}/search``: images by tag, batch or words of their name, ``limit`` from ``offset``."""
    body, project = call.json(), call.project()
    found = [i for i in project.images.values() if _wanted(i, body)]
    start = int(body.get("offset", 0))
    return {
        "offset": start,
        "total": len(found),
        "results": [_listed(i) for i in found[start:][: body.get("limit", 100)]],
    }


def search_workspace(call: Call) -> Any:
    """``POST /{ws}/search/v1``: every image whose name or tags hold the query; the continuation token is an offset."""
    body = call.json()
    mine = [p for p in call.world.projects.values() if p.workspace == call.found["ws"]]
    found = [i for p in mine for i in p.images.values() if _wanted(i, {"prompt": body.get("query", "")})]
    start, size = int(body.get("continuationToken") or 0), int(body.get("pageSize", 50))
    following = str(start + size) if start + size < len(found) else None
    results = [_listed(i) for i in found[start : start + size]]
    return {"results": results, "total": len(found), "continuationToken": following}


def _wanted(image: Image, body: dict[str, Any]) -> bool:
    words = str(body.get("prompt") or "").replace("tag:", "").casefold()
    text = " ".join([image.name, *image.tags]).casefold()
    return words in text and body.get("tag") in (None, *image.tags) and body.get("batch") in (None, False, image.batch)


def _listed(image: Image) -> dict[str, Any]:
    return {"id": image.image_id, "name": image.name, "split": image.split, "tags": image.tags, "batch": image.batch}
