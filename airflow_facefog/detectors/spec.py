"""How a detector is written down: short strings for people, one canonical JSON form for plans. Safe at Dag-parse time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.detectors.roboflow.model_ids import parse_model_id

DetectorSpec = str | Mapping[str, Any] | Sequence[Any]
Side = Annotated[int, Field(ge=32, le=8192)]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class LocalSpec(_Spec):
    """``local`` or ``local?min_side=1280&max_side=1600``: embedded YuNet; the long side is scaled into that range (px)."""

    kind: Literal["local"]
    min_side: Side = 1024
    max_side: Side = 1600

    @model_validator(mode="after")
    def _ordered(self) -> LocalSpec:
        if self.min_side > self.max_side:
            raise ValueError(f"min_side {self.min_side} is above max_side {self.max_side}")
        return self


class CanarySpec(_Spec):
    """``picture``: path of a small image on which the model must find ``class_name`` at ``min_confidence`` or more."""

    picture: Annotated[str, Field(min_length=1)]
    class_name: Annotated[str, Field(min_length=1)]
    min_confidence: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25


class OnnxSpec(_Spec):
    """``onnx:FILE``: a user's own YOLO-layout model. ``classes`` in the order of the model's class ids."""

    kind: Literal["onnx"]
    path: Annotated[str, Field(min_length=1)]
    classes: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    input_size: Side | None = None
    layout: Literal["v5", "v8", "end2end"] | None = None
    canary: CanarySpec | None = None


class ScriptedSpec(_Spec):
    """``scripted:FILE.json``: answers written in a file, for tests and demonstrations."""

    kind: Literal["scripted"]
    path: Annotated[str, Field(min_length=1)]


class PythonSpec(_Spec):
    """``package.module:factory``: a callable that takes ``options`` as keywords and returns a Detector."""

    kind: Literal["python"]
    factory: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    options: dict[str, Any] = Field(default_factory=dict)


class RoboflowSpec(_Spec):
    """``roboflow:project/3`` or ``roboflow:project/3?classes=face,plate``: a model on a Roboflow inference server.

    ``conn_id`` names an Airflow connection (None: the environment). The rest: see ``RoboflowDetector``.
    """

    kind: Literal["roboflow"]
    model_id: Annotated[str, Field(min_length=1)]
    conn_id: Annotated[str, Field(min_length=1)] | None = None
    classes: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    class_map: dict[str, str] = Field(default_factory=dict)
    overlap: Annotated[float, Field(ge=0.01, le=1.0)] = 0.60
    max_detections: Annotated[int, Field(ge=1, le=10_000)] = 1000
    max_side: Side = 1600
    raise_to: Annotated[float, Field(ge=0.01, le=1.0)] = 0.20
    canary: CanarySpec | None = None

    @field_validator("model_id")
    @classmethod
    def _canonical(cls, value: str) -> str:
        try:
            return str(parse_model_id(value))
        except ConfigurationError as error:
            raise ValueError(str(error)) from None

    @field_validator("classes", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


class UnionSpec(_Spec):
    """A list of specs, or ``{"kind": "union", "of": [...]}``: all members look at each image."""

    kind: Literal["union"]
    of: Annotated[tuple[AnySpec, ...], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _members(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or "of" not in value:
            return value
        of = value["of"]
        parts = of.split(",") if isinstance(of, str) else of
        return {**value, "of": [as_mapping(part) for part in parts]}


AnySpec = Annotated[
    LocalSpec | OnnxSpec | ScriptedSpec | PythonSpec | UnionSpec | RoboflowSpec,
    Field(discriminator="kind", title="detector"),
]
UnionSpec.model_rebuild()
ParsedSpec = LocalSpec | OnnxSpec | ScriptedSpec | PythonSpec | UnionSpec | RoboflowSpec
KINDS = ("local", "onnx", "union", "scripted", "python", "roboflow")
_HELP = (
    "local, local?min_side=1280, onnx:FILE, roboflow:project/3, scripted:FILE.json, package.module:factory, "
    "a list of these, "
    f"or a mapping whose kind is one of: {', '.join(KINDS)}"
)


def parse(spec: DetectorSpec | None) -> ParsedSpec:
    """Validate any way of writing a detector. Raises ConfigurationError naming the kinds or the wrong setting."""
    mapping = as_mapping(spec)
    try:
        return _ADAPTER.validate_python(mapping)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise ConfigurationError(
            f"detector {mapping['kind']!r} refused: " + "; ".join(_explain(item) for item in problems)
        ) from None


def _explain(item: Any) -> str:
    where = [part for part in item["loc"] if part not in KINDS]
    if item["type"] == "extra_forbidden":
        kinds = [part for part in item["loc"] if part in _MODELS]
        model = CanarySpec if "canary" in where[:-1] else _MODELS[str(kinds[-1])]
        return f"unknown setting {where[-1]!r}; valid here: {', '.join(sorted(model.model_fields))}"
    message = item["msg"].removeprefix("Value error, ")
    return ": ".join([".".join(map(str, where)), message]) if where else str(message)


_MODELS: dict[Any, type[BaseModel]] = {
    "local": LocalSpec, "onnx": OnnxSpec, "union": UnionSpec, "scripted": ScriptedSpec, "python": PythonSpec,
    "roboflow": RoboflowSpec,
}  # fmt: skip
_ADAPTER: TypeAdapter[ParsedSpec] = TypeAdapter(AnySpec)


def as_mapping(spec: Any) -> dict[str, Any]:
    """Bring a string, list or mapping into mapping form with a known ``kind``; values are not validated yet."""
    if not spec:
        raise ConfigurationError(f"no detector configured: an image nobody looked at is never published; give {_HELP}")
    if isinstance(spec, str):
        return _from_text(spec.strip())
    if isinstance(spec, Mapping):
        if spec.get("kind") not in KINDS:
            raise _unknown(spec.get("kind"))
        return dict(spec)
    if isinstance(spec, Sequence) and not isinstance(spec, bytes):
        return as_mapping(spec[0]) if len(spec) == 1 else {"kind": "union", "of": list(spec)}
    raise ConfigurationError(f"a detector is given as text, mapping or list, not {type(spec).__name__}; give {_HELP}")


def _from_text(text: str) -> dict[str, Any]:
    kind, colon, rest = text.partition(":")
    if colon:
        if kind in ("onnx", "scripted"):
            return {"kind": kind, "path": rest}
        if kind == "roboflow":
            model_id, _, query = rest.partition("?")
            return {"kind": kind, "model_id": model_id, **dict(parse_qsl(query, keep_blank_values=True))}
        if "." in kind and all(part.isidentifier() for part in [*kind.split("."), rest]):
            return {"kind": "python", "factory": text}
        raise _unknown(kind)
    name, _, query = text.partition("?")
    if name != "local":
        raise _unknown(name)
    return {"kind": name, **dict(parse_qsl(query, keep_blank_values=True))}


def _unknown(kind: object) -> ConfigurationError:
    return ConfigurationError(f"unknown detector kind {kind!r}; give {_HELP}")
