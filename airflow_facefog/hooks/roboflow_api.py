"""Roboflow's management API as we need it: few calls, plain values back, each safe against faults and repeats.

Knows no Airflow. Calls that may be repeated are (with the session's back-off); calls that start something billable
(``generate``, ``create_training``, ``create_project``) are sent once, and who lost an answer looks before asking again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_facefog.core.errors import ConfigurationError, FogError, TransientError
from airflow_facefog.detectors.roboflow.access import HOSTED_API, Access
from airflow_facefog.detectors.roboflow.faults import redact
from airflow_facefog.detectors.roboflow.guard import Gate
from airflow_facefog.hooks.roboflow_session import ApiSession, status_of

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_HELP = "give workspace/project, project (in the connection's workspace) or its address on universe.roboflow.com"


@dataclass(frozen=True, slots=True)
class ProjectRef:
    """A project of a workspace, as it stands in URLs."""

    workspace: str
    project: str

    def __str__(self) -> str:
        return f"{self.workspace}/{self.project}"


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of one picture: its id there, and whether the project held the same bytes before."""

    image_id: str
    duplicate: bool


class RoboflowApi:
    """Management calls of one access. Thread-safe. Raises PermanentError and TransientError that quote no key."""

    def __init__(self, access: Access) -> None:
        self.access = access
        gate = Gate.of(access, allow_remote=True, url=access.api_url)
        self._session = ApiSession(access, access.api_url, gate)
        self._workspace = access.workspace

    def __repr__(self) -> str:
        return "RoboflowApi(…)"

    @property
    def host(self) -> str:
        """Where uploads go."""
        return urlsplit(self.access.api_url).hostname or ""

    def workspace(self) -> str:
        """The connection's workspace, or the one that the key belongs to."""
        if self._workspace is None:
            self._workspace = str(_field(self._session.call("POST", "/"), "workspace"))
        return self._workspace

    def ref(self, project: str) -> ProjectRef:
        """Read any way of writing a project. Raises ConfigurationError with the valid ones."""
        text = project.strip()
        if "://" in text:
            parts = urlsplit(text)
            if parts.hostname not in ("universe.roboflow.com", "app.roboflow.com"):
                raise ConfigurationError(f"this address is not a Roboflow project; {_HELP}")
            text = "/".join(parts.path.strip("/").split("/")[:2])
        names = text.split("/")
        if len(names) not in (1, 2) or not all(_SLUG.fullmatch(name) for name in names):
            raise ConfigurationError(f"the Roboflow project name is not readable; {_HELP}")
        return ProjectRef(names[0] if len(names) == 2 else self.workspace(), names[-1])

    def search(self, query: str, kind: str | None = None, limit: int = 12, page: int = 1) -> list[dict[str, Any]]:
        """Public projects on Universe that match ``query``, best first."""
        params = {"q": query, "limit": str(limit), "page": str(page), **({"type": kind} if kind else {})}
        found = _field(self._session.call("GET", "/universe/search", params=params), "results")
        return [_hit(entry) for entry in found if isinstance(entry, Mapping)]

    def project(self, ref: ProjectRef) -> dict[str, Any]:
        """``{"project": {…}, "versions": […]}``."""
        answer = self._session.call("GET", f"/{ref}")
        _field(answer, "project")
        return dict(answer)

    def create_project(self, workspace: str, name: str, *, kind: str, licence: str, annotation: str) -> dict[str, Any]:
        """Make a project; ``licence`` "Private" is not public (paid plans). Sent once."""
        body = {"name": name, "type": kind, "license": licence, "annotation": annotation}
        return dict(self._session.once("POST", f"/{workspace}/projects", json_body=body))

    def versions(self, ref: ProjectRef) -> set[str]:
        """Numbers of all versions, as text."""
        return {str(_field(entry, "id")).rpartition("/")[2] for entry in self.project(ref).get("versions") or ()}

    def version(self, ref: ProjectRef, number: int | str) -> dict[str, Any]:
        """The version as it is now: ``generating``, ``images``, ``splits``, ``model`` when one is trained."""
        answer = self._session.call("GET", f"/{ref}/{_number(number)}", params={"nocache": "true"})
        return dict(_field(answer, "version"))

    def generate(self, ref: ProjectRef, preprocessing: Mapping[str, Any], augmentation: Mapping[str, Any]) -> str:
        """Start a new version and return its number. Sent once."""
        body = {"preprocessing": dict(preprocessing), "augmentation": dict(augmentation)}
        return _number(_field(self._session.once("POST", f"/{ref}/generate", json_body=body), "version"))

    def export(self, ref: ProjectRef, number: int | str, fmt: str) -> str | None:
        """The link of the version's archive in this format, or None while it is made."""
        if not _SLUG.fullmatch(fmt):
            raise ConfigurationError(f"export format {fmt!r} is none of Roboflow's; for example yolov8, coco or voc")
        answer = self._session.call("GET", f"/{ref}/{_number(number)}/{fmt}", params={"nocache": "true"})
        if isinstance(answer, Mapping) and "progress" in answer and not answer.get("export"):
            return None
        return str(_field(_field(answer, "export"), "link"))

    def upload(
        self, ref: ProjectRef, name: str, data: bytes, kind: str, *, split: str, batch: str, tags: Sequence[str] = ()
    ) -> Uploaded:
        """Send one picture to a project. Equal bytes are kept once, so this may be repeated."""
        params: Any = {"batch": batch, "tag": list(tags)}
        files = {"name": (None, name), "split": (None, split), "file": (name, data, kind)}
        answer = self._session.call("POST", f"/dataset/{ref.project}/upload", params=params, files=files)
        if not isinstance(answer, Mapping) or not (answer.get("success") or answer.get("duplicate")):
            raise TransientError("the Roboflow API confirmed an upload with neither success nor duplicate; try again")
        return Uploaded(_id(_field(answer, "id")), bool(answer.get("duplicate")))

    def annotate(self, ref: ProjectRef, image_id: str, name: str, text: str, *, overwrite: bool = False) -> bool:
        """Attach an annotation file. False: the image was annotated before and stays as it was."""
        params = {"name": name, **({"overwrite": "true"} if overwrite else {})}
        body = {"annotationFile": text, "labelmap": None}
        path = f"/dataset/{ref.project}/annotate/{_id(image_id)}"
        try:
            self._session.call("POST", path, params=params, json_body=body)
        except FogError as error:
            if status_of(error) == 409 and "already annotated" in str(error):
                return False
            raise
        return True

    def trainings(self, ref: ProjectRef, number: int | str) -> set[str]:
        """Ids of all trainings of a version."""
        answer = self._session.call("GET", f"/{ref}/{_number(number)}/v2/trainings")
        found = _field(answer, "trainings") or ()
        return {str(entry.get("id") or entry.get("trainingId")) for entry in found}

    def create_training(self, ref: ProjectRef, number: int | str, settings: Mapping[str, Any]) -> str:
        """Start a training (``modelType``, ``epochs``, ``speed``, ``checkpoint``, ``trainRecipe``). Sent once."""
        answer = self._session.once("POST", f"/{ref}/{_number(number)}/v2/trainings", json_body=dict(settings))
        return str(_field(answer, "trainingId"))

    def training(self, ref: ProjectRef, number: int | str, training_id: str) -> dict[str, Any]:
        """``{"status", "modelType", "models": […]}`` as it is now."""
        params = {"trainingId": training_id}
        answer = self._session.call("GET", f"/{ref}/{_number(number)}/v2/trainings/get", params=params)
        _field(answer, "status")
        return dict(answer)

    def end_training(self, ref: ProjectRef, number: int | str, training_id: str, how: str = "cancel") -> None:
        """``cancel`` at once, or ``stop`` early and keep what was learned."""
        if how not in ("cancel", "stop"):
            raise ConfigurationError(f"a training is ended by cancel or stop, not {how!r}")
        body = {"trainingId": training_id}
        self._session.call("POST", f"/{ref}/{_number(number)}/v2/trainings/{how}", json_body=body)

    def results(self, ref: ProjectRef, number: int | str) -> dict[str, Any]:
        """What the trainings of a version made: ``{"models": […], …}``."""
        return dict(self._session.call("GET", f"/{ref}/{_number(number)}/training/results"))

    def close(self) -> None:
        """Close all connections."""
        self._session.close()


def ask_once(access: Access) -> str:
    """One request that shows whether an access works; what to tell a person. Raises FogError that says why not."""
    if access.hosted or access.api_url != HOSTED_API:
        session = ApiSession(access, access.api_url, Gate.of(access, allow_remote=True, url=access.api_url))
        if not access.api_key:
            raise ConfigurationError("there is no API key; put it into the connection's password")
        workspace = _field(session.once("POST", "/"), "workspace")
        return f"the key is right; it belongs to workspace {redact(str(workspace), access.api_key)!r}"
    session = ApiSession(access, access.inference_url, Gate.of(access, allow_remote=True))
    info = session.once("GET", "/info")
    version = redact(str(_field(info, "version")), access.api_key)
    return f"a self-hosted inference server answers (version {version}); the key was not checked, it does not know it"


def _field(answer: Any, name: str) -> Any:
    if isinstance(answer, Mapping) and name in answer:
        return answer[name]
    raise ConfigurationError(f"the Roboflow API's answer has no {name!r}; check the connection's API URL")


def _number(value: Any) -> str:
    text = str(value).strip()
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise ConfigurationError("a dataset version is a number from 1 upwards, such as 3")
    return text


def _id(value: Any) -> str:
    text = str(value)
    if not _ID.fullmatch(text):
        raise ConfigurationError(
            "the Roboflow API answered an id that no id looks like; check the connection's API URL"
        )
    return text


def _hit(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One search result as plain values; what the API left out is None."""
    project = str(entry.get("project") or entry.get("id") or "").strip("/")
    if entry.get("workspace") and "/" not in project:
        project = f"{entry['workspace']}/{project}"
    names = ("name", "type", "images", "classes", "license", "url")
    return {"project": project, **{name: entry.get(name) for name in names}, "version": entry.get("latestVersion")}
