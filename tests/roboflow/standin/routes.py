"""Which endpoint a request speaks to, and whether its key may."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from standin import images, management, trainings
from standin.call import Call
from standin.exchange import Answer, Refused, Request, api_error, as_json, message
from standin.inference import infer
from standin.world import World

UNAUTHORISED = (
    "Unauthorized access to roboflow API - check API key and make sure the key is valid for workspace you use. Visit "
    "https://docs.roboflow.com/api-reference/authentication#retrieve-an-api-key to learn how to retrieve one."
)
REFUSALS = {
    401: UNAUTHORISED,
    402: "Not enough credits to perform this request. Verify your workspace billing page.",
    403: "Unauthorized access to roboflow API - check API key regarding correctness and required scopes. Visit "
    "https://docs.roboflow.com/api-reference/authentication#retrieve-an-api-key to learn how to retrieve one.",
    423: "Roboflow API usage is paused. Contact your workspace administrator.",
}
INFO = {"name": "Roboflow Inference Server", "version": "1.8.3", "uuid": "standin-0001"}
INFERENCE = re.compile(r"/[\w.-]+/[\w.-]+")

OPEN = ("/ds/", "/weights/", "/universe/")
"""No key is asked for: links that carry their own token, and Universe, which is public."""

Endpoint = Callable[[Call], Any]


def route(world: World, request: Request, base_url: str, sleep_s: float | None) -> Answer:
    """The true answer to ``request``. Raises Refused with the error answer."""
    if request.path == "/info" and request.method == "GET":
        return as_json(INFO)
    match = None if world.self_hosted else _find(request)
    if match is None and request.method == "POST" and INFERENCE.fullmatch(request.path):
        _admit(
            world,
            request,
            lambda status: message(status, REFUSALS[status]),
            world.require_key and not world.self_hosted,
        )
        return infer(request, world.models.get(request.path.strip("/")), sleep_s, world.byte_limit)
    if match is None:
        known = any(re.fullmatch(pattern, request.path) for _, pattern, _ in TABLE)
        raise Refused(as_json({"detail": "Method Not Allowed" if known else "Not Found"}, 405 if known else 404))
    endpoint, found = match
    if not request.path.startswith(OPEN):
        _admit(world, request, _management_refusal, True)
    with world.lock:
        answer = endpoint(Call(world, request, found, base_url))
    return answer if isinstance(answer, Answer) else as_json(answer)


def _find(request: Request) -> tuple[Endpoint, dict[str, str]] | None:
    for method, pattern, endpoint in TABLE:
        found = re.fullmatch(pattern, request.path)
        if method == request.method and found:
            return endpoint, found.groupdict()
    return None


def _admit(world: World, request: Request, refusal: Callable[[int], Refused], required: bool) -> None:
    key = request.key if world.header_auth else request.query.get("api_key")
    status = world.keys.get(key or "", 401)
    if required and status != 200:
        raise refusal(status)


def _management_refusal(status: int) -> Refused:
    if status == 401:
        return api_error(401, "This API key does not exist (or has been revoked).", "OAuthException")
    return api_error(status, REFUSALS[status])


_P = r"/(?P<ws>[\w.-]+)/(?P<p>[\w.-]+)"
_V = _P + r"/(?P<n>\d+)"

_W = r"/(?P<ws>[\w.-]+)"

TABLE: list[tuple[str, str, Endpoint]] = [
    ("POST", r"/", management.check_key),
    ("GET", r"/universe/search", management.search_universe),
    ("GET", r"/ds/(?P<token>\w+)", management.dataset_file),
    ("GET", r"/weights/(?P<token>\w+)\.pt", management.weights_file),
    ("POST", r"/dataset/(?P<p>[\w.-]+)/upload", images.upload),
    ("POST", r"/dataset/(?P<p>[\w.-]+)/annotate/(?P<image>[\w.-]+)", images.annotate),
    ("POST", _W + "/projects", management.create_project),
    ("POST", _W + "/search/v1", images.search_workspace),
    ("GET", _W + "/model-evals", trainings.evals),
    ("GET", _W + r"/model-evals/(?P<id>[\w-]+)", trainings.evaluation),
    ("GET", _W + rf"/model-evals/(?P<id>[\w-]+)/(?P<panel>{'|'.join(trainings.PANELS)})", trainings.evaluation),
    ("GET", _W, management.workspace),
    ("GET", _P, management.project),
    ("POST", _P + "/generate", management.generate),
    ("POST", _P + "/search", images.search_project),
    ("GET", _V, management.version),
    ("GET", _V + "/ptFile", trainings.weights),
    ("POST", _V + "/v2/trainings", trainings.create),
    ("GET", _V + "/v2/trainings", trainings.listing),
    ("GET", _V + "/v2/trainings/get", trainings.get),
    ("POST", _V + "/v2/trainings/cancel", trainings.cancel),
    ("POST", _V + "/v2/trainings/stop", trainings.stop),
    ("POST", _V + "/train", trainings.create_legacy),
    ("POST", _V + "/train/cancel", trainings.cancel),
    ("POST", _V + "/train/stop", trainings.stop),
    ("GET", _V + "/training/results", trainings.results),
    ("GET", _V + r"/(?P<fmt>[\w-]+)", management.export),
]
