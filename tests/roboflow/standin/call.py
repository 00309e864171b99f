"""One management call: the world, the request and the parts of its path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from standin.exchange import Request, refuse
from standin.world import Project, Version, World


@dataclass(frozen=True)
class Call:
    """One management call: ``found`` holds the named parts of the path."""

    world: World
    request: Request
    found: dict[str, str]
    base_url: str

    def project(self) -> Project:
        """The project in the path."""
        return self.world.project(self.found["ws"], self.found["p"])

    def version(self) -> tuple[Project, Version]:
        """The version in the path and its project."""
        return self.world.version(self.found["ws"], self.found["p"], self.found["n"])

    def json(self) -> dict[str, Any]:
        """The body. Raises the API's 400."""
        try:
            body = self.request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise refuse(400, {"error": "Invalid JSON body"})
        return body
