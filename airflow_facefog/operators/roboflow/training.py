"""Train a model on a dataset version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import FogError, PermanentError
from airflow_facefog.hooks.roboflow_wait import BAD, Watch, look
from airflow_facefog.operators.border import fails_cleanly
from airflow_facefog.operators.roboflow.base import RoboflowJobOperator, start_once, status_of_event

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_facefog.hooks.roboflow_api import ProjectRef, RoboflowApi

TRAINING_KEY = "facefog_training"
"""Task state: the training that this task instance started; stored before it waits."""


class RoboflowTrainOperator(RoboflowJobOperator):
    """Train a version and wait for the end; returns {"training_id", "project", "version", "status", "model_id"}.

    A retry after a crash re-attaches to the training that runs. A training that failed, or that somebody ended, fails the
    task at once; clearing it then starts a new one. A kill cancels the training.

    :param project: ``workspace/project`` or ``project`` (templated).
    :param version: number (templated).
    :param model_type: for example ``rfdetr-medium`` or ``yolov11s`` (templated). Has no default: it decides the price.
    :param epochs: of the training; None: Roboflow's choice.
    :param speed: ``fast`` or ``accurate``, for model types that know it.
    :param checkpoint: model to start from (templated).
    :param train_recipe: whole recipe as in Roboflow's API (templated).
    :param cancel_on_kill: cancel the training when the task is killed.
    """

    template_fields: Sequence[str] = (
        *RoboflowJobOperator.template_fields, "project", "version", "model_type", "epochs", "checkpoint", "train_recipe",
    )  # fmt: skip

    def __init__(
        self, *, project: str, version: int | str, model_type: str, epochs: int | None = None, speed: str | None = None,
        checkpoint: str | None = None, train_recipe: Mapping[str, Any] | None = None, cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.project = project
        self.version = version
        self.model_type = model_type
        self.epochs = epochs
        self.speed = speed
        self.checkpoint = checkpoint
        self.train_recipe = train_recipe
        self.cancel_on_kill = cancel_on_kill
        self._running: Watch | None = None

    @fails_cleanly
    def execute(self, context: Context) -> dict[str, Any]:
        """Start or re-attach, then wait."""
        with self.api() as api:
            ref = api.ref(self.project)
            self._forget_ended(context, api, ref)
            training_id = start_once(
                context, TRAINING_KEY, lambda: api.trainings(ref, self.version),
                lambda: api.create_training(ref, self.version, self._settings()),
            )  # fmt: skip
            self.log.info("Roboflow training %s of %s version %s", training_id, ref, self.version)
            watch = self._running = self._watch(ref, training_id)
            status = self.await_end(api, watch, cancel=self.cancel_on_kill) if self.wait else "started"
            return self._result(api, ref, training_id, status)

    @fails_cleanly
    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """After the wait in the triggerer."""
        status = status_of_event(event)
        stored: Any = context["task_state_store"].get(TRAINING_KEY)
        with self.api() as api:
            return self._result(api, api.ref(self.project), str(stored["id"]), status)

    def on_kill(self) -> None:
        """Cancel the training that this process waits for."""
        watch = self._running
        if watch is None or watch.training_id is None or not self.cancel_on_kill:
            return
        try:
            with self.api() as api:
                api.end_training(api.ref(watch.project), watch.version, watch.training_id)
        except FogError as error:
            self.log.warning("the Roboflow training goes on, it could not be cancelled: %s", error)

    def _settings(self) -> dict[str, Any]:
        """The request's body; with a recipe, epochs go into it, because the server takes the recipe's."""
        recipe = dict(self.train_recipe) if self.train_recipe else None
        epochs = int(self.epochs) if self.epochs is not None else None
        if recipe is not None and epochs is not None:
            recipe["hyperparameters"] = {"epochs": epochs, **(recipe.get("hyperparameters") or {})}
        chosen = {
            "modelType": self.model_type, "epochs": epochs, "speed": self.speed, "checkpoint": self.checkpoint,
            "trainRecipe": recipe,
        }  # fmt: skip
        return {name: value for name, value in chosen.items() if value is not None}

    def _watch(self, ref: ProjectRef, training_id: str) -> Watch:
        return Watch("training", str(ref), str(self.version), training_id)

    def _forget_ended(self, context: Context, api: RoboflowApi, ref: ProjectRef) -> None:
        """A stored training that ended badly is not waited for again: a person who clears the task wants a new one."""
        store = context["task_state_store"]
        stored: Any = store.get(TRAINING_KEY) or {}
        if "id" in stored and look(api, self._watch(ref, str(stored["id"]))) in BAD:
            store.delete(TRAINING_KEY)

    def _result(self, api: RoboflowApi, ref: ProjectRef, training_id: str, status: str) -> dict[str, Any]:
        self._running = None
        if status in BAD:
            raise PermanentError(
                f"Roboflow training {training_id} of {ref} version {self.version} ended as {status!r}; look at it there, "
                "then clear this task to train again"
            )
        models = api.training(ref, self.version, training_id).get("models") or [{}] if status == "finished" else [{}]
        model_id = models[0].get("modelId") or f"{ref.project}/{self.version}"
        return {
            "training_id": training_id, "project": str(ref), "version": int(self.version), "status": status,
            "model_id": str(model_id),
        }  # fmt: skip
