"""Find public datasets on Universe, and download a version of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.operators.border import fails_cleanly
from airflow_facefog.operators.roboflow.base import RoboflowOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class RoboflowSearchUniverseOperator(RoboflowOperator):
    """Search public projects; returns ``[{"project", "name", "type", "images", "classes", "license", "url", "version"}]``.

    :param query: words, or Universe's filters such as ``face images>1000`` (templated).
    :param project_type: for example ``object-detection`` (templated); None: any.
    :param limit: most results.
    :param page: which page of them, from 1.
    """

    template_fields: Sequence[str] = (*RoboflowOperator.template_fields, "query", "project_type")

    def __init__(
        self, *, query: str, project_type: str | None = "object-detection", limit: int = 12, page: int = 1, **kwargs: Any
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.query = query
        self.project_type = project_type
        self.limit = limit
        self.page = page

    @fails_cleanly
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Search; an empty list when nothing matches."""
        with self.api() as api:
            return api.search(self.query, self.project_type, self.limit, self.page)


class RoboflowDownloadDatasetOperator(RoboflowOperator):
    """Download one version into a folder, whole or not at all.

    Returns {"folder", "project", "version", "format", "sha256", "bytes", "files", "images"}. A retry, or another run, that
    finds the whole dataset there downloads nothing; a folder that holds anything else is refused.

    :param project: ``workspace/project``, ``project`` or its Universe address (templated).
    :param version: number (templated).
    :param folder: absolute local folder, made by this task (templated).
    :param dataset_format: export format, for example ``yolov8``, ``coco``, ``voc`` (templated).
    :param max_bytes: largest archive.
    :param max_unpacked: most bytes that it may unpack to.
    """

    template_fields: Sequence[str] = (
        *RoboflowOperator.template_fields, "project", "version", "folder", "dataset_format",
    )  # fmt: skip

    def __init__(
        self, *, project: str, version: int | str, folder: str, dataset_format: str = "yolov8",
        max_bytes: int = 20_000_000_000, max_unpacked: int = 100_000_000_000, poll_interval: float = 5.0, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.project = project
        self.version = version
        self.folder = folder
        self.dataset_format = dataset_format
        self.max_bytes = max_bytes
        self.max_unpacked = max_unpacked
        self.poll_interval = poll_interval

    @fails_cleanly
    def execute(self, context: Context) -> dict[str, Any]:
        """Download, check, unpack, move into place."""
        from pathlib import Path

        from airflow_facefog.hooks.roboflow_dataset import DatasetRequest, download_dataset
        from airflow_facefog.hooks.roboflow_zip import ArchiveLimits

        folder = Path(self.folder)
        if not folder.is_absolute():
            raise ConfigurationError("a relative folder means another one on each worker; give an absolute path")
        with self.api() as api:
            request = DatasetRequest(
                api.ref(self.project), number(self.version), self.dataset_format, folder, self.max_bytes,
                ArchiveLimits(max_unpacked=self.max_unpacked), poll_s=self.poll_interval,
            )  # fmt: skip
            return download_dataset(api, request)


def number(version: int | str) -> int:
    """A dataset version as a number: templates render to text. Raises ConfigurationError."""
    text = str(version).strip()
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise ConfigurationError("a dataset version is a number from 1 upwards, such as 3")
