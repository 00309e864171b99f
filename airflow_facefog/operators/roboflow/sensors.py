"""Wait for a model that somebody else trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator

from airflow_facefog.hooks.roboflow_wait import Watch, look
from airflow_facefog.operators.border import fails_cleanly
from airflow_facefog.operators.roboflow.base import (
    DEFAULT_CONN_ID,
    defers,
    make_trigger,
    open_api,
    status_of_event,
)

if TYPE_CHECKING:
    from airflow.sdk import Context


class RoboflowModelVersionSensor(BaseSensorOperator):
    """Succeeds when a dataset version has a trained model.

    :param project: ``workspace/project`` or ``project`` (templated).
    :param version: number (templated).
    :param roboflow_conn_id: connection of type ``roboflow`` (templated); None: the worker's environment.
    :param deferrable: wait in the triggerer; None: ``[operators] default_deferrable``. Else ``mode="reschedule"`` frees the
        worker slot too.
    """

    template_fields: Sequence[str] = ("project", "version", "roboflow_conn_id")
    ui_color = "#e6dcf5"

    def __init__(
        self, *, project: str, version: int | str, roboflow_conn_id: str | None = DEFAULT_CONN_ID,
        deferrable: bool | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.project = project
        self.version = version
        self.roboflow_conn_id = roboflow_conn_id
        self.deferrable = deferrable

    def execute(self, context: Context) -> Any:
        """Look once, then wait in the triggerer; or poke as sensors do."""
        if not defers(self.deferrable):
            return super().execute(context)
        if not self.poke(context):
            self.defer(
                trigger=make_trigger(self.roboflow_conn_id, self._watch(), self.poke_interval),
                method_name="execute_complete", timeout=timedelta(seconds=self.timeout),
            )  # fmt: skip
        return None

    @fails_cleanly
    def poke(self, context: Context) -> bool:
        """Whether the version has a model now."""
        with open_api(self.roboflow_conn_id) as api:
            return look(api, self._watch()) is not None

    @fails_cleanly
    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> None:
        """After the wait in the triggerer."""
        status_of_event(event)

    def _watch(self) -> Watch:
        return Watch("model", self.project, str(self.version))
