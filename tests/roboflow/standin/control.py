"""The control endpoint: what a test in another process says to the stand-in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from standin.exchange import Answer, Request, as_json

if TYPE_CHECKING:
    from standin.server import StandIn

CONTROL = "/_standin/"


def obey(standin: StandIn, request: Request) -> Answer:
    """The control endpoint, for tests in another process; the package's docstring lists what it understands."""
    order = request.path.removeprefix(CONTROL)
    try:
        return as_json(ORDERS[order](standin, request.json()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return as_json({"error": f"{type(error).__name__}: {error}"}, 400)


def _reset(standin: StandIn, params: dict[str, Any]) -> Any:
    standin.reset()
    return {"ok": True}


def _script(standin: StandIn, params: dict[str, Any]) -> Any:
    standin.script(**params)
    return {"ok": True}


def _set(standin: StandIn, params: dict[str, Any]) -> Any:
    for name, value in params.items():
        owner = next((o for o in (standin, standin.world) if name in vars(o) and not name.startswith("_")), None)
        if owner is None or not isinstance(getattr(owner, name), int | float | bool | str | None):
            raise KeyError(f"no setting {name}")
        setattr(owner, name, value)
    return {"ok": True}


def _retire(standin: StandIn, params: dict[str, Any]) -> Any:
    standin.world.models[params["model_id"]].retired = params.get("retired", True)
    return {"ok": True}


def _training(standin: StandIn, params: dict[str, Any]) -> Any:
    standin.world.steer(params["training_id"], params["status"])
    return {"ok": True}


def _requests(standin: StandIn, params: dict[str, Any]) -> Any:
    return [{k: v for k, v in vars(r).items() if k != "body"} for r in standin.requests()]


def _peak(standin: StandIn, params: dict[str, Any]) -> Any:
    return {"peak": standin.peak}


ORDERS: dict[str, Callable[[StandIn, dict[str, Any]], Any]] = {
    "reset": _reset,
    "script": _script,
    "set": _set,
    "retire": _retire,
    "training": _training,
    "requests": _requests,
    "peak": _peak,
}
