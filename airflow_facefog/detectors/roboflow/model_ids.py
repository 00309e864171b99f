"""What a Roboflow model is called: ``project/3``, ``workspace/project/3``, ``workspace/slug`` or a Universe address."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from airflow_facefog.core.errors import ConfigurationError

HELP = "give project/3, workspace/project/3, workspace/model-name or a Universe model address ending in /model/3"
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_SITES = ("universe.roboflow.com", "app.roboflow.com", "universe.roboflow.eu", "app.roboflow.eu")


@dataclass(frozen=True, slots=True)
class ModelId:
    """One trained model. ``version`` is None for models that have a name of their own in a workspace."""

    project: str
    version: int | None
    workspace: str | None = None

    @property
    def path(self) -> str:
        """What stands in an inference URL: two segments, safe characters only (three are answered with 405)."""
        return f"{self.workspace}/{self.project}" if self.version is None else f"{self.project}/{self.version}"

    def __str__(self) -> str:
        return self.path if self.version is None or self.workspace is None else f"{self.workspace}/{self.path}"


def parse_model_id(text: str | ModelId) -> ModelId:
    """Read any way of writing a model. Raises ConfigurationError with the valid forms."""
    if isinstance(text, ModelId):
        return text
    if not isinstance(text, str) or not text.strip():
        raise ConfigurationError(f"no Roboflow model named; {HELP}")
    text = text.strip()
    segments = _from_address(text) if "://" in text else text.strip("/").split("/")
    if not all(_SLUG.fullmatch(segment) for segment in segments):
        raise ConfigurationError(f"the Roboflow model name holds empty parts or characters that no name has; {HELP}")
    return _assemble(segments)


def _assemble(segments: list[str]) -> ModelId:
    *front, last = segments
    if len(front) not in (1, 2):
        raise ConfigurationError(f"a Roboflow model name has 2 or 3 parts, not {len(segments)}; {HELP}")
    if _VERSION.fullmatch(last):
        return ModelId(front[-1], int(last), front[0] if len(front) == 2 else None)
    if len(front) == 2 or last.isdigit():
        raise ConfigurationError(f"{last!r} is not a version number; {HELP}")
    return ModelId(last, None, front[0])


def _from_address(url: str) -> list[str]:
    """``https://universe.roboflow.com/<workspace>/<project>/model/3`` and what app.roboflow.com shows."""
    parts = urlsplit(url)
    segments = [segment for segment in parts.path.split("/") if segment]
    if (parts.hostname or "") not in _SITES or len(segments) < 2:
        raise ConfigurationError(f"this address is not a model on {' or '.join(_SITES[:2])}; {HELP}")
    workspace, project, *rest = segments
    if len(rest) == 3 and rest[0] == "models":  # app.roboflow.com/<workspace>/<any project>/models/<project>/3
        return [workspace, rest[1], rest[2]]
    if rest and rest[0] in ("model", "models", "dataset", "visualize", "deploy"):
        rest = rest[1:]
    if len(rest) != 1:
        raise ConfigurationError(f"this address names no version; {HELP}")
    return [workspace, project, rest[0]]
