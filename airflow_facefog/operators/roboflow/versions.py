"""Generate a dataset version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_facefog.hooks.roboflow_wait import Watch
from airflow_facefog.operators.border import fails_cleanly
from airflow_facefog.operators.roboflow.base import RoboflowJobOperator, start_once, status_of_event

if TYPE_CHECKING:
    from airflow.sdk import Context

VERSION_KEY = "facefog_version"
"""Task state: the version that this task instance started, so that no retry starts another."""


class RoboflowGenerateVersionOperator(RoboflowJobOperator):
    """Freeze the project's images as a new version and wait until it is generated; returns its number.

    :param project: ``workspace/project`` or ``project`` (templated).
    :param preprocessing: as in Roboflow's API (templated). The default only turns images upright: no "Stretch to", which
        changes shapes.
    :param augmentation: as in Roboflow's API (templated); default none.
    """

    template_fields: Sequence[str] = (
        *RoboflowJobOperator.template_fields, "project", "preprocessing", "augmentation",
    )  # fmt: skip

    def __init__(
        self, *, project: str, preprocessing: Mapping[str, Any] | None = None,
        augmentation: Mapping[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.project = project
        self.preprocessing = {"auto-orient": True} if preprocessing is None else dict(preprocessing)
        self.augmentation = dict(augmentation or {})

    @fails_cleanly
    def execute(self, context: Context) -> int:
        """Start it, or find the one that an earlier try started; then wait."""
        with self.api() as api:
            ref = api.ref(self.project)
            number = start_once(
                context, VERSION_KEY, lambda: api.versions(ref),
                lambda: api.generate(ref, self.preprocessing, self.augmentation),
            )  # fmt: skip
            if self.wait:
                self.await_end(api, Watch("generated", str(ref), number))
        return int(number)

    @fails_cleanly
    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> int:
        """After the wait in the triggerer."""
        status_of_event(event)
        return int(context["task_state_store"].get(VERSION_KEY)["id"])  # type: ignore[index, call-overload, arg-type]
