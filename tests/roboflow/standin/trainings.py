"""Trainings (v2 and the legacy route), their results, curves and evaluations. State is kept here, not in the client."""

from __future__ import annotations

import math
from typing import Any

from standin.call import Call
from standin.exchange import Answer, api_error, as_json, refuse
from standin.world import ENDED, Project, Training, Version

METRICS = {"map50": 0.915, "map5095": 0.62, "precision": 0.92, "recall": 0.88}
MODEL_TYPES = ("yolo", "rfdetr", "roboflow", "pali", "flor", "vit", "resnet")
DEFAULT_EPOCHS = 10


def create(call: Call) -> Any:
    """``POST …/v2/trainings``. A version that is still generated, an unknown type or no epochs are refused."""
    training = _begin(call)
    return {"trainingId": training.training_id, "status": training.status, "jobId": f"job-{training.training_id}"}


def create_legacy(call: Call) -> Any:
    """``POST …/train``."""
    _begin(call)
    return {"success": True}


def _begin(call: Call) -> Training:
    project, version = call.version()
    body = call.json()
    kind, epochs = body.get("modelType"), body.get("epochs", DEFAULT_EPOCHS)
    if version.polls_left:
        raise refuse(409, {"error": "Version is still generating."})
    if kind is not None and not str(kind).startswith(MODEL_TYPES):
        raise api_error(400, f"Unsupported model type {kind}.")
    if not isinstance(epochs, int) or epochs < 1:
        raise api_error(400, "epochs must be a positive integer.")
    world = call.world
    path = ["queued"] * world.queued_polls + ["running"] * world.running_polls + [world.training_outcome]
    training_id = world.token(project.project_id, version.number, str(len(version.trainings)))
    training = Training(training_id, version.number, kind, epochs, path)
    version.trainings.append(training)
    return training


def listing(call: Call) -> Any:
    """``GET …/v2/trainings``."""
    project, version = call.version()
    return {"trainings": [_entry(call, project, version, t) for t in version.trainings]}


def _entry(call: Call, project: Project, version: Version, training: Training) -> dict[str, Any]:
    return {
        "id": training.training_id,
        "versionId": version.number,
        "status": training.status,
        "start": 1790000000,
        "end": 1790003600 if training.status in ENDED else None,
        "jobType": "training",
        "modelType": training.model_type,
        "modelGroup": None,
        "modelIds": [m["modelId"] for m in _models(project, version, training)],
    }


def get(call: Call) -> Any:
    """``GET …/v2/trainings/get[?trainingId=]``: one look, and so one step."""
    project, version = call.version()
    training = call.world.training(version, call.request.query.get("trainingId"))
    training.step()
    call.world.settle(project, version, training)
    return _bundle(project, version, training)


def _bundle(project: Project, version: Version, training: Training) -> dict[str, Any]:
    models = _models(project, version, training)
    bundle = {
        "trainingId": training.training_id,
        "status": training.status,
        "modelType": training.model_type,
        "modelGroup": None,
        "modelCount": len(models),
        "models": models,
    }
    return bundle | ({"error": "Training failed: out of memory."} if training.status == "failed" else {})


def _models(project: Project, version: Version, training: Training) -> list[dict[str, Any]]:
    if training.status != "finished":
        return []
    model_id = f"{project.slug}/{version.number}"
    return [{"modelId": model_id, "modelType": training.model_type, "metrics": dict(METRICS)}]


def cancel(call: Call) -> Any:
    """``POST …/v2/trainings/cancel``."""
    return _halt(call, "cancelled")


def stop(call: Call) -> Any:
    """``POST …/v2/trainings/stop``."""
    return _halt(call, "stopped")


def _halt(call: Call, status: str) -> Any:
    _, version = call.version()
    training = call.world.training(version, call.json().get("trainingId"))
    if training.status in ENDED:
        raise api_error(400, f"Training is {training.status}, not in flight.")
    training.status, training.path = status, []
    return {"success": True, "trainingId": training.training_id}


def results(call: Call) -> Any:
    """``GET …/training/results``: the bundle of the newest run, without a step."""
    project, version = call.version()
    if not version.trainings:
        raise api_error(404, "No training found for this version.")
    return {**_bundle(project, version, version.trainings[-1]), "recommendedByHardware": {}}


def weights(call: Call) -> Any:
    """``GET /{ws}/{p}/{id}/ptFile``."""
    _, version = call.version()
    if not any(t.status == "finished" for t in version.trainings):
        raise api_error(404, "No trained model found.")
    return {"weightsUrl": f"{call.base_url}/weights/{version.trainings[-1].training_id}.pt"}


def legacy_parts(version: Version) -> dict[str, Any]:
    """``train`` and ``models`` of a version's payload: status, results and the curves per epoch."""
    if not version.trainings:
        return {}
    training = version.trainings[-1]
    parts: dict[str, Any] = {"train": {"status": training.status, "modelType": training.model_type}}
    if training.status == "finished":
        parts["train"]["results"] = dict(METRICS)
    if training.status in ("running", "finished", "failed"):
        seen = training.epochs if training.status == "finished" else max(1, training.epochs // 2)
        parts["models"] = {"roboflow-train": {"epochs": [_epoch(i, training.epochs) for i in range(1, seen + 1)]}}
    return parts


def _epoch(number: int, epochs: int) -> dict[str, Any]:
    done = number / epochs
    rest = math.exp(-3 * done)
    losses = {"box_loss": 0.2 + 1.5 * rest, "class_loss": 0.1 + 2.0 * rest, "obj_loss": 0.05 + rest}
    reached = METRICS["map50"] * (1 - rest) / (1 - math.exp(-3))
    return {"epoch": number, "mAP": round(reached, 6), **{name: round(loss, 6) for name, loss in losses.items()}}


def evals(call: Call) -> Any:
    """``GET /{ws}/model-evals[?project=&version=&model=&status=&limit=]``."""
    query = call.request.query
    wanted = {"project": "project", "version": "versionId", "model": "modelId", "status": "status"}
    found = [
        one for one in _evals(call) if all(query.get(name) in (None, one[field]) for name, field in wanted.items())
    ]
    return {"evals": found[: int(query.get("limit", 50))]}


def _evals(call: Call) -> list[dict[str, Any]]:
    return [
        {
            "evalId": f"eval-{training.training_id}",
            "status": "done" if training.status == "finished" else "running",
            "project": project.slug,
            "versionId": version.number,
            "modelId": f"{project.slug}/{version.number}",
            "createdAt": "2026-11-23T05:00:00.000Z",
            "summary": {"mAP": METRICS["map50"], "precision": METRICS["precision"], "recall": METRICS["recall"]},
        }
        for project in call.world.projects.values()
        if project.workspace == call.found["ws"]
        for version in project.versions.values()
        for training in version.trainings
    ]


def evaluation(call: Call) -> Answer:
    """``GET /{ws}/model-evals/{id}[/{panel}]``: errors are ``{"error": code, "message": text}``."""
    found = next((one for one in _evals(call) if one["evalId"] == call.found["id"]), None)
    if found is None:
        raise refuse(404, {"error": "model_eval_not_found", "message": "Model evaluation not found."})
    panel = call.found.get("panel")
    if panel is None:
        return as_json(found if found["status"] == "done" else {**found, "summary": None})
    if found["status"] != "done":
        raise refuse(409, {"error": "model_eval_not_done", "message": "Model evaluation is still running."})
    classes = call.world.project(call.found["ws"], found["project"]).classes
    return as_json({"evalId": found["evalId"], **PANELS[panel](call, classes)})


def _map_results(call: Call, classes: list[str]) -> dict[str, Any]:
    by_class = [{"className": name, "map50": METRICS["map50"], "map50_95": METRICS["map5095"]} for name in classes]
    split = {"map50": METRICS["map50"], "map50_95": METRICS["map5095"], "map75": 0.7, "classes": by_class}
    return {"splits": {"train": split, "valid": split, "test": split}}


def _sweep(call: Call, classes: list[str]) -> dict[str, Any]:
    points = [
        {
            "confidence": c,
            "precision": min(1.0, 0.5 + c / 200),
            "recall": 1 - c / 100,
            "f1": round(1 - abs(c - 40) / 100, 4),
        }
        for c in range(0, 100, 10)
    ]
    return {"split": "test", "points": points}


def _by_class(call: Call, classes: list[str]) -> dict[str, Any]:
    split = call.request.query.get("split", "test")
    if split not in ("train", "valid", "test"):
        raise refuse(400, {"error": "invalid_split", "message": "split must be train, valid or test"})
    row = {"map50": METRICS["map50"], "map50_95": METRICS["map5095"], "map75": 0.7, "f1": 0.9, "optimalThreshold": 0.4}
    row |= {"precision": METRICS["precision"], "recall": METRICS["recall"]}
    return {"split": split, "classes": [{"className": name, **row} for name in classes]}


def _confusion(call: Call, classes: list[str]) -> dict[str, Any]:
    names = [*classes, "background"]
    matrix = [
        [8 if i == j else 1 if "background" in (a, b) else 0 for j, b in enumerate(names)] for i, a in enumerate(names)
    ]
    return {"split": call.request.query.get("split", "test"), "classes": names, "matrix": matrix}


PANELS = {
    "map-results": _map_results,
    "confidence-sweep": _sweep,
    "performance-by-class": _by_class,
    "confusion-matrix": _confusion,
}
