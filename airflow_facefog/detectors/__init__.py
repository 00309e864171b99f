"""Detectors: what finds the regions. ``resolve`` turns a written spec into one; ``normalise`` gives its canonical form.

Nothing registers itself and nothing heavy loads here: a kind names a factory by a dotted string, imported when asked
for. A user's own detector is ``package.module:factory``, any callable that returns ``core.detector.Detector``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, cast

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.detectors.spec import DetectorSpec, PythonSpec, RoboflowSpec, UnionSpec, parse

if TYPE_CHECKING:
    from airflow_facefog.core.detector import Detector
    from airflow_facefog.detectors.roboflow.access import Access, AccessOpener

__all__ = ["DetectorSpec", "normalise", "open_accesses", "resolve"]

_FACTORIES = {
    "local": "airflow_facefog.detectors.local:LocalDetector",
    "onnx": "airflow_facefog.detectors.onnx_model:OnnxDetector",
    "scripted": "airflow_facefog.detectors.scripted:ScriptedDetector",
}


def normalise(spec: DetectorSpec | None) -> dict[str, Any]:
    """Return the canonical JSON form for ``plan.json``; ``resolve`` takes it back.

    Raises ConfigurationError for no detector, an unknown kind (the kinds are listed) or a wrong setting.
    """
    return parse(spec).model_dump(mode="json")


def resolve(spec: DetectorSpec | None, access: AccessOpener | None = None, allow_remote: bool = False) -> Detector:
    """Build the detector that ``spec`` describes. Reads a user's model file for its identity; no session is made yet.

    ``access`` opens what a remote model is reached by (default: from the environment). ``allow_remote`` is the policy's
    ``allow_remote_inference``: without it such a detector sends pictures to addresses of this network only.

    Raises ConfigurationError as ``normalise`` does, and for a factory that cannot be imported or gives no detector.
    """
    parsed = parse(spec)
    if isinstance(parsed, UnionSpec):
        from airflow_facefog.detectors.union import UnionDetector

        return UnionDetector(tuple(resolve(member.model_dump(), access, allow_remote) for member in parsed.of))
    if isinstance(parsed, PythonSpec):
        return _build(parsed.factory, parsed.options)
    if isinstance(parsed, RoboflowSpec):
        return _roboflow(parsed, access, allow_remote)
    return _build(_FACTORIES[parsed.kind], parsed.model_dump(exclude={"kind"}))


def open_accesses(spec: DetectorSpec | None, access: AccessOpener | None) -> dict[str | None, Access]:
    """Open every connection that ``spec`` names, by its id: what a child process needs to ``resolve`` it too."""
    parsed = parse(spec)
    if isinstance(parsed, UnionSpec):
        return {name: way for member in parsed.of for name, way in open_accesses(member.model_dump(), access).items()}
    if not isinstance(parsed, RoboflowSpec):
        return {}
    from airflow_facefog.detectors.roboflow.access import access_from_env

    return {parsed.conn_id: (access or access_from_env)(parsed.conn_id)}


def _roboflow(spec: RoboflowSpec, access: AccessOpener | None, allow_remote: bool) -> Detector:
    from airflow_facefog.detectors.roboflow.access import access_from_env
    from airflow_facefog.detectors.roboflow.detector import RoboflowDetector

    options = spec.model_dump(exclude={"kind", "conn_id"})
    return RoboflowDetector(**options, access=(access or access_from_env)(spec.conn_id), allow_remote=allow_remote)


def _build(target: str, options: dict[str, Any]) -> Detector:
    module_name, _, name = target.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"detector factory {target!r} cannot be imported ({type(error).__name__}); "
            "install its package in every worker and check the spelling"
        ) from None
    detector, refused = None, False
    try:
        detector = factory(**options)
    except TypeError:  # told outside: its text is the factory's own and may quote values of options
        refused = True
    if refused:
        given = ", ".join(map(repr, sorted(options))) or "no option"
        raise ConfigurationError(
            f"detector factory {target!r} fails with a TypeError when given {given}; check the names and types that it takes"
        )
    if not (hasattr(detector, "info") and callable(getattr(detector, "detect", None))):
        raise ConfigurationError(f"{target!r} returned a {type(detector).__name__} without `info` and `detect`")
    return cast("Detector", detector)
