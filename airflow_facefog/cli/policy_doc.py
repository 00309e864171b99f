"""The table of policy settings for README and docs: names, values and defaults come from ``FogPolicy``, meanings from here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_facefog.core.policy import FogPolicy

MEANINGS: Mapping[str, str] = {
    "name": "for people; recorded, decides nothing",
    "rules": "one entry per class name, compared without case; a class without an entry falls to `other_classes`",
    "rules.<class>.min_confidence": "fogged from this confidence on; above 0.5 takes `accept_high_threshold`",
    "rules.<class>.margin": "added around the box; where not given it depends on the class: face, plate, text or other; "
    "less than that takes `accept_small_margins`",
    "rules.<class>.margin.sides": "left and right, as a fraction of the width",
    "rules.<class>.margin.top": "as a fraction of the height",
    "rules.<class>.margin.bottom": "as a fraction of the height",
    "rules.<class>.method": "how the region is covered; `pixelate` and `blur` take a key and `accept_linkable`",
    "rules.<class>.shape": "outline of the region; `polygon` where the detector gives one",
    "other_classes": "what happens to detections of a class that has no rule",
    "other_rule": "the rule for those classes; same settings as under `rules.<class>`",
    "on_bad_image": "an image that cannot be read, detected or verified: quarantine it, or fail the run",
    "limits.max_bytes": "largest source file",
    "limits.max_pixels": "largest picture, checked in the header before a pixel is decoded",
    "output.format": "format of published images; `source` keeps it where it can be written",
    "output.quality": "of lossy formats; `source`: the source's IJG quality; at least 75 below 50; at least 90 for turned, "
    "camera-table or colour-converted sources",
    "fill_color": "red, green, blue of `fill`",
    "record_floor": "detections below this confidence are not recorded; no rule may go lower",
    "max_recorded": "most detections recorded per image; what is fogged is never dropped",
    "max_quarantined": "share of listed images that may be quarantined or failed before the run fails",
    "frame_sequence": "images are frames of a video: linkable methods are refused, averaging undoes them",
    "require_key": "a run without a master key is an error",
    "accept_linkable": "allow `pixelate` and `blur`, which can be matched to the source photo",
    "accept_high_threshold": "allow `min_confidence` above 0.5, which leaves out faces a detector is half sure of",
    "accept_small_margins": "allow margins below the default of the class's kind: edges of faces may stay visible",
    "accept_no_canary": "allow detectors without a canary: if one goes blind, images are published with nothing fogged",
    "allow_remote_inference": "allow detectors that send pictures to another host",
    "record_pixel_id": "also record an HMAC of the decoded source pixels, so that `facefog prove` recognises a raw picture "
    "that was saved again without loss; takes a key",
}


def markdown() -> str:
    """The table as Markdown. Raises KeyError for a setting without a meaning."""
    lines = ["| setting | values | default | meaning |", "|---|---|---|---|"]
    schema = FogPolicy.model_json_schema()
    for name, field in _settings(schema, schema, ""):
        values, default = _values(schema, field), _default(field)
        lines.append(f"| `{name}` | {values} | {default} | {MEANINGS[name]} |")
    return "\n".join(lines) + "\n"


def _settings(schema: Mapping[str, Any], model: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for short, field in model["properties"].items():
        name = prefix + short
        inner = _model(schema, field)
        if inner is None or not field.get("$ref") or name == "other_rule":
            yield name, field
        if inner is not None and name != "other_rule":
            yield from _settings(schema, inner, f"{name}.<class>." if name == "rules" else f"{name}.")


def _model(schema: Mapping[str, Any], field: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The nested model of a field: direct, optional, or the values of a mapping."""
    options = [field, *field.get("anyOf", ()), field.get("additionalProperties") or {}]
    for option in options:
        found = schema["$defs"].get(option.get("$ref", "").rpartition("/")[2], {})
        if "properties" in found:
            return dict(found)
    return None


def _values(schema: Mapping[str, Any], field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_values(schema, option) for option in field["anyOf"] if option.get("type") != "null")
    target = schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], field)
    if "enum" in target:
        return ", ".join(f"`{value}`" for value in target["enum"])
    if "const" in target:
        return f"`{target['const']}`"
    if "minimum" in target:
        return f"{_number(target['minimum'])} to {_number(target['maximum'])}"
    if "prefixItems" in target:
        return f"{len(target['prefixItems'])} numbers, {_values(schema, target['prefixItems'][0])}"
    return {"boolean": "`true`, `false`", "string": "text"}.get(target.get("type", ""), "settings")


def _default(field: Mapping[str, Any]) -> str:
    if field.get("default") is None:
        return ""
    value = field["default"]
    return f"`{str(value).lower()}`"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
