"""Upload pictures to a Roboflow project: training data, or hard images of a run for labelling."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.operators.border import attempt, fails_cleanly, identity, map_index, place, store_rights
from airflow_facefog.operators.roboflow.base import RoboflowOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_facefog.hooks.roboflow_api import RoboflowApi
    from airflow_facefog.hooks.roboflow_upload import UploadRequest

PRIVACIES = ("private", "public")
SPLITS = ("train", "valid", "test")


class RoboflowUploadImagesOperator(RoboflowOperator):
    """Send pictures, unfogged, to a named project. Give either ``source``, or ``plan`` with ``select``.

    Every picture is encoded anew in memory (no EXIF, no GPS, no file name) and recorded in ``facefog_egress`` before it
    leaves. Equal pictures are sent once; a retry sends only what was not confirmed. Returns {"project", "listed",
    "uploaded", "duplicates", "known", "refused", "annotated", "bytes"}; fails when the project did not grow as confirmed.

    :param project: ``workspace/project`` or ``project`` (templated).
    :param privacy: ``private`` refuses a public project; ``public`` accepts that everybody can copy the pictures. No default.
    :param source: folder, file or glob (templated).
    :param audit: where egress is recorded (templated); of the plan when ``plan`` is given.
    :param annotations: folder with one file per picture: same relative path, suffix .xml, .txt or .json (templated).
    :param plan: plan URI of a run (templated).
    :param select: ``quarantined`` or ``low_confidence`` images of that run.
    :param allow_raw_upload: must be True for ``plan``: these are pictures that the run did not publish.
    :param below: ``low_confidence``: a fogged detection below this counts.
    :param limit: most images taken from the run.
    :param split: ``train``, ``valid`` or ``test``.
    :param batch: name of the batch in Roboflow (templated).
    :param tags: tags of the pictures (templated).
    :param overwrite_annotations: replace annotations that are there.
    :param key_conn_id: master key, as in the run.
    :param audit_conn_id: connection that opens the plan's audit.
    """

    template_fields: Sequence[str] = (
        *RoboflowOperator.template_fields, "project", "source", "audit", "annotations", "plan", "batch", "tags",
        "key_conn_id", "audit_conn_id",
    )  # fmt: skip

    def __init__(
        self, *, project: str, privacy: str, source: str | None = None, audit: str | None = None,
        annotations: str | None = None, plan: str | None = None, select: str | None = None,
        allow_raw_upload: bool = False, below: float = 0.5, limit: int = 500, split: str = "train",
        batch: str = "facefog", tags: Sequence[str] = (), overwrite_annotations: bool = False,
        key_conn_id: str | None = None, audit_conn_id: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        _check(privacy, split, source, audit, plan, select, allow_raw_upload)
        self.project = project
        self.privacy = privacy
        self.source = source
        self.audit = audit
        self.annotations = annotations
        self.plan = plan
        self.select = select
        self.allow_raw_upload = allow_raw_upload
        self.below = below
        self.limit = limit
        self.split = split
        self.batch = batch
        self.tags = tags
        self.overwrite_annotations = overwrite_annotations
        self.key_conn_id = key_conn_id
        self.audit_conn_id = audit_conn_id

    @fails_cleanly
    def execute(self, context: Context) -> dict[str, Any]:
        """Send what is not there yet, then count."""
        from airflow_facefog.hooks.roboflow_upload import upload_all

        _check(self.privacy, self.split, self.source, self.audit, self.plan, self.select, self.allow_raw_upload)
        rights = store_rights(self.key_conn_id)
        candidates, egress = self._from_run(context, rights) if self.plan else self._from_source(context, rights)
        with self.api() as api:
            request = self._request(api)
            counts = upload_all(api, request, candidates, egress, rights["keys"])
        return {"project": str(request.ref), **counts}

    def _request(self, api: RoboflowApi) -> UploadRequest:
        from airflow_facefog.hooks.roboflow_upload import UploadRequest

        return UploadRequest(
            api.ref(self.project), self.privacy, self.split, self.batch, tuple(self.tags),  # type: ignore[arg-type]
            self.overwrite_annotations,
        )  # fmt: skip

    def _from_source(self, context: Context, rights: dict[str, Any]) -> tuple[Any, Any]:
        from airflow_facefog.core.policy import Limits
        from airflow_facefog.hooks.roboflow_candidates import from_source
        from airflow_facefog.hooks.roboflow_upload import Egress
        from airflow_facefog.job.places import check_apart
        from airflow_facefog.job.plan import open_store

        source, audit = place(self.source), place(self.audit)
        check_apart(source, audit.child("uploads"), audit)
        annotations = place(self.annotations) if self.annotations else None
        found = from_source(source, annotations, rights["keys"], rights["open_root"], Limits())
        store = open_store(audit, rights["open_root"])
        return found, Egress(store, upload_key(context), 0, attempt(context).attempt_id)

    def _from_run(self, context: Context, rights: dict[str, Any]) -> tuple[Any, Any]:
        from airflow_facefog.hooks.roboflow_candidates import RunSelection, from_run
        from airflow_facefog.hooks.roboflow_upload import Egress

        selection = RunSelection(str(self.plan), self.select, self.below, self.limit)  # type: ignore[arg-type]
        plan, store, found = from_run(selection, rights["keys"], rights["open_root"], self.audit_conn_id)
        return found, Egress(store, plan.run_key, plan.generation, attempt(context).attempt_id)


def upload_key(context: Context) -> str:
    """32 hex digits for an upload that belongs to no fogging run: the same in every try of the task."""
    run = identity(context)
    text = "\0".join(("facefog/upload/1", run.dag_id, run.run_id, run.task_id, str(map_index(context["ti"]))))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _check(
    privacy: str, split: str, source: str | None, audit: str | None, plan: str | None, select: str | None, allowed: bool
) -> None:
    """Refuse what cannot be meant, while the Dag is parsed and again after rendering."""
    if privacy not in PRIVACIES:
        raise ConfigurationError(f"privacy is {privacy!r}; choose one of: {', '.join(PRIVACIES)}")
    if split not in SPLITS:
        raise ConfigurationError(f"split is {split!r}; choose one of: {', '.join(SPLITS)}")
    if (plan is None) == (source is None) or (plan is None) != (select is None):
        raise ConfigurationError("give either source (with audit), or plan with select: what is to be uploaded?")
    if source is not None and audit is None:
        raise ConfigurationError("an upload needs audit: every picture that leaves is recorded there first")
    if plan is not None and not allowed:
        raise ConfigurationError(
            "these are raw pictures that the run did not publish, with the people in them; if they may be sent to the "
            "Roboflow project, write allow_raw_upload=True"
        )
