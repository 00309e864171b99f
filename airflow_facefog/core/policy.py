"""The fog policy: one frozen, validated object that says what is fogged and how. Safe at Dag-parse time.

From YAML or a mapping; unknown keys are refused with the valid ones listed; unsafe settings are refused with the line
that would allow them. ``policy_hash`` covers the decisions and pixels alone, so renaming a policy redoes no work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from airflow_facefog.core.errors import PolicyError
from airflow_facefog.core.rules import (
    DEFAULT_MARGINS,
    Family,
    FogRule,
    Frozen,
    Margin,
    Margins,
    Method,
    Shape,
    class_family,
)

__all__ = [
    "DEFAULT_MARGINS", "Family", "FogPolicy", "FogRule", "Limits", "Margin", "Margins", "Method", "OutputFormat", "Shape",
    "class_family", "load_policy", "recipe_hash",
]  # fmt: skip

HIGH_THRESHOLD = 0.5
"""A rule above this misses what detectors commonly report for real faces: it takes ``accept_high_threshold: true``."""


class Limits(Frozen):
    """Largest source image that is read. Checked on the header, before any pixel is decoded."""

    max_bytes: Annotated[int, Field(ge=1, le=2**31 - 1)] = 256_000_000
    max_pixels: Annotated[int, Field(ge=1, le=2**30)] = 120_000_000


class OutputFormat(Frozen):
    """``format`` of published images; ``quality`` for lossy ones.

    ``source``: the source's IJG quality (nearest not lower); at least 75 below 50, at least 90 for turned, camera-table
    or colour-converted sources.
    """

    format: Literal["source", "jpeg", "png", "webp"] = "source"
    quality: Literal["source"] | Annotated[int, Field(ge=50, le=100)] = "source"


class FogPolicy(Frozen):
    """Everything that decides what an output looks like, and the gate's limits."""

    name: str = "default"
    rules: dict[str, FogRule] = Field(default_factory=lambda: {"face": FogRule()})
    other_classes: Literal["fog", "ignore"] = "fog"
    other_rule: FogRule = Field(default_factory=FogRule)
    on_bad_image: Literal["quarantine", "fail"] = "quarantine"
    limits: Limits = Field(default_factory=Limits)
    output: OutputFormat = Field(default_factory=OutputFormat)
    fill_color: tuple[
        Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)]
    ] = (128, 128, 128)
    record_floor: Annotated[float, Field(ge=0.0, le=1.0)] = 0.10
    max_recorded: Annotated[int, Field(ge=1, le=10_000)] = 300
    max_quarantined: Annotated[float, Field(ge=0.0, le=1.0)] = 0.20
    frame_sequence: bool = False
    require_key: bool = False
    accept_linkable: bool = False
    accept_high_threshold: bool = False
    accept_small_margins: bool = False
    accept_no_canary: bool = False
    allow_remote_inference: bool = False
    record_pixel_id: bool = False

    @field_validator("rules", mode="before")
    @classmethod
    def _casefold(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        folded = {str(name).casefold(): rule for name, rule in value.items()}
        if len(folded) != len(value):
            raise ValueError("two rules name the same class (names are compared casefolded); keep one")
        return folded

    @model_validator(mode="after")
    def _safe(self) -> FogPolicy:
        for name, rule in [*self.rules.items(), ("other_rule", self.other_rule)]:
            self._check_rule(name, rule)
        return self

    def _check_rule(self, name: str, rule: FogRule) -> None:
        if rule.min_confidence < self.record_floor:
            raise ValueError(
                f"rule {name!r}: min_confidence {rule.min_confidence} is below record_floor {self.record_floor}, so it would "
                f"never be seen; write `record_floor: {rule.min_confidence}` or raise min_confidence"
            )
        if rule.min_confidence > HIGH_THRESHOLD and not self.accept_high_threshold:
            raise ValueError(
                f"rule {name!r}: min_confidence {rule.min_confidence} leaves out faces that a detector is half sure of; "
                "if that is meant, write `accept_high_threshold: true`"
            )
        self._check_margins(name, rule)
        if rule.method.linkable:
            self._check_linkable(name, rule)

    def _check_margins(self, name: str, rule: FogRule) -> None:
        small = rule.small_margins(name)
        if small and not self.accept_small_margins:
            least = ", ".join(f"{side} {value}" for side, value in small.items())
            raise ValueError(
                f"rule {name!r}: margin is below the default of this kind of class ({least}), so edges may stay visible; "
                "if that is meant, write `accept_small_margins: true`"
            )

    def _check_linkable(self, name: str, rule: FogRule) -> None:
        if self.frame_sequence:
            raise ValueError(
                f"rule {name!r}: {rule.method} is undone by averaging frames; with `frame_sequence: true` use fog or fill"
            )
        family = class_family(name)
        if family in (Family.PLATE, Family.TEXT) or (rule.method is Method.BLUR and family is not Family.FACE):
            raise ValueError(f"rule {name!r}: {rule.method} is readable on this kind of class; use fog or fill")
        if not self.accept_linkable:
            raise ValueError(
                f"rule {name!r}: {rule.method} stays linkable to the source photo; use fog, "
                "or accept that with `accept_linkable: true` (and a master key)"
            )

    @property
    def needs_key(self) -> bool:
        """Whether a master key must be there: asked for, or needed by pixel ids or a linkable method."""
        return (
            self.require_key
            or self.record_pixel_id
            or any(r.method.linkable for r in [*self.rules.values(), self.other_rule])
        )

    def rule_for(self, class_name: str) -> FogRule | None:
        """The rule that decides about this class, or None when unlisted classes are ignored."""
        rule = self.rules.get(class_name.casefold())
        if rule is not None:
            return rule
        return self.other_rule if self.other_classes == "fog" else None

    def lowest_threshold(self) -> float:
        """The smallest min_confidence of any rule in force (0..1)."""
        rules = list(self.rules.values())
        if self.other_classes == "fog":
            rules.append(self.other_rule)
        return min((r.min_confidence for r in rules), default=self.record_floor)

    def canonical(self) -> dict[str, Any]:
        """The policy as plain JSON values."""
        return self.model_dump(mode="json")

    def policy_hash(self) -> str:
        """64 hex digits over the decisions and pixels alone (RFC 8785 bytes), not over name, gate or permissions."""
        return hash_decisions(self.canonical())


_NOT_DECISIONS = {
    "name", "on_bad_image", "max_quarantined", "require_key", "accept_linkable", "accept_high_threshold",
    "accept_small_margins", "accept_no_canary", "allow_remote_inference", "record_pixel_id",
}  # fmt: skip


def hash_decisions(canonical: Mapping[str, Any]) -> str:
    """``policy_hash`` of what ``FogPolicy.canonical`` returned, also of another release: its settings are not validated.

    Raises ValueError (or one of its kind) for values that RFC 8785 cannot hold.
    """
    import rfc8785

    decisions = {name: value for name, value in canonical.items() if name not in _NOT_DECISIONS}
    return hashlib.sha256(rfc8785.dumps(decisions)).hexdigest()


def load_policy(source: FogPolicy | Mapping[str, Any] | str | Path | None) -> FogPolicy:
    """Build a policy from a policy, a mapping, a ``.yaml`` path, or None (the default: fog everything).

    Raises PolicyError that names each wrong key or value and what would be right.
    """
    if source is None:
        return FogPolicy()
    if isinstance(source, FogPolicy):
        return source
    if isinstance(source, str | Path):
        source = _read_yaml(Path(source))
    if not isinstance(source, Mapping):
        raise PolicyError(
            f"a policy is a mapping of settings, not a {type(source).__name__}; see `facefog policy show`"
        )
    try:
        return FogPolicy.model_validate(dict(source))
    except ValidationError as error:
        raise PolicyError(_explain(error)) from None


def _read_yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text("utf-8")) or {}
    except OSError as error:
        raise PolicyError(
            f"policy file {path.name!r} cannot be read ({error.strerror}); give an existing .yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" near line {where.line + 1}" if where else ""
        raise PolicyError(f"policy file {path.name!r} is not valid YAML{line}") from None


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            valid = ", ".join(sorted(_model_at(item["loc"][:-1]).model_fields))
            lines.append(f"unknown setting {where!r}; valid here: {valid}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {message}" if where else message)
    return "policy refused: " + "; ".join(lines)


_SECTIONS: dict[str, type[BaseModel]] = {"margin": Margin, "limits": Limits, "output": OutputFormat}


def _model_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    model: type[BaseModel] = FogPolicy
    for part in location:
        if model is FogPolicy and part in ("rules", "other_rule"):
            model = FogRule
        elif part in ("margin", "limits", "output"):
            model = _SECTIONS[str(part)]
    return model


def recipe_hash(policy_hash: str, model_fingerprint: str, key_id: str, fog_version: str) -> str:
    """64 hex digits that name "this policy, this model, this key, this fog code": equal recipe, equal bytes."""
    text = "\0".join(("facefog/recipe/1", policy_hash, model_fingerprint, key_id, fog_version))
    return hashlib.sha256(text.encode()).hexdigest()
