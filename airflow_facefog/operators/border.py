"""Where Airflow meets the job: errors, places, run identity, retries. Nothing heavy is imported at module level.

Errors: a ``PermanentError`` becomes ``AirflowFailException`` (Airflow never retries it); a ``TransientError`` and a sealed
``InternalError`` are raised as they are, so that Airflow retries. What reaches Airflow holds no inner frame, cause, file
name or key: Airflow hands exceptions to logs, callbacks and listeners.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryDecision, RetryRule
from airflow.sdk.exceptions import AirflowFailException

from airflow_facefog.core.errors import ConfigurationError, ImageError, PermanentError, SourceError
from airflow_facefog.core.raw import sealed
from airflow_facefog.job.model import Attempt, Place, RunIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context

P = ParamSpec("P")
R = TypeVar("R")

RETRIES = 2
RETRY_DELAY = timedelta(minutes=1)
LONGEST_WAIT_S = 3600.0
"""A store that asks for a longer pause than this is tried again after an hour."""


class FogRetryPolicy(ExceptionRetryPolicy):
    """Fail at once on permanent errors; wait at least as long as the other side asked on transient ones."""

    def __init__(self) -> None:
        errors = "airflow_facefog.core.errors."
        super().__init__(
            rules=[
                RetryRule(errors + "PermanentError", RetryAction.FAIL, reason="a retry repeats this error"),
                RetryRule("jinja2.exceptions.TemplateError", RetryAction.FAIL, reason="a template cannot be rendered"),
                RetryRule(errors + "TransientError", RetryAction.RETRY, reason="a retry may help"),
            ]
        )

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide as the rules say; stretch the delay to the error's ``retry_after_s``."""
        decision = super().evaluate(exception, try_number, max_tries, context)
        wait_s = getattr(exception, "retry_after_s", None)
        if decision.action is not RetryAction.RETRY or not wait_s:
            return decision
        usual = context["task"].retry_delay if context else RETRY_DELAY
        return RetryDecision.retry(max(usual, timedelta(seconds=min(wait_s, LONGEST_WAIT_S))), decision.reason)


def fails_cleanly(execute: Callable[P, R]) -> Callable[P, R]:
    """Translate what ``execute`` raises: permanent errors fail the task at once, everything else may be retried."""
    closed = sealed(execute)

    @functools.wraps(execute)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        failure: BaseException
        try:
            return closed(*args, **kwargs)
        except PermanentError as error:
            failure = _fail(error)
        except ImageError as error:
            if isinstance(error, SourceError):
                raise
            failure = _fail(error)
        except Exception:
            raise  # sealed already, and a retry may help
        except BaseException as stopped:  # a time-out or a kill: the frames it interrupted hold raw pixels
            failure = _bare(stopped)
        raise failure

    return wrapper


def _fail(error: Exception) -> AirflowFailException:
    return AirflowFailException(f"{type(error).__name__}: {error}")


def _bare(stopped: BaseException) -> BaseException:
    stopped.__cause__ = stopped.__context__ = None
    return stopped.with_traceback(None)


def place(given: object) -> Place:
    """Read a place (text or path), which must not depend on a working directory: every worker has its own.

    Raises ConfigurationError for relative folders, and as ``Place.parse`` does.
    """
    text = str(given)
    scheme, found, rest = text.partition("://")
    folder = text if not found else rest if scheme in ("file", "local") else "/"
    if folder.strip() and not folder.startswith("/"):
        raise ConfigurationError("a relative folder means another one on each worker; give an absolute path or a URI")
    return Place.parse(text)


def identity(context: Context) -> RunIdentity:
    """The run as the plan records it. Call it from the list task: its id is part of the run key.

    Each instance of a mapped list task is a run of its own, or they would all share the first one's plan.
    """
    ti, run = context["ti"], context["dag_run"]
    return RunIdentity(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id if map_index(ti) < 0 else f"{ti.task_id}[{ti.map_index}]",
        run_type=str(getattr(run.run_type, "value", run.run_type)),
        logical_date=_iso(run.logical_date),
        data_date=_iso(run.data_interval_start and run.data_interval_start.date()),
        dag_version_id=str(ti.dag_version_id) if ti.dag_version_id else None,
        clear_number=getattr(run, "clear_number", 0) or 0,
    )


def attempt(context: Context) -> Attempt:
    """This try of this task instance. Airflow gives every try its own ``ti.id``."""
    ti = context["ti"]
    return Attempt(str(ti.id), ti.try_number, map_index(ti))


def map_index(ti: Any) -> int:
    """Which instance of a mapped task; -1 for a task that is not mapped."""
    return -1 if ti.map_index is None else int(ti.map_index)


def store_rights(key_conn_id: str | None) -> dict[str, Any]:
    """What only Airflow can give a step that looks at no picture: the key ring and how to open places."""
    from airflow_facefog.hooks.connections import open_root
    from airflow_facefog.hooks.keys import key_ring

    return {"keys": key_ring(key_conn_id), "open_root": open_root}


def job_rights(key_conn_id: str | None) -> dict[str, Any]:
    """What only Airflow can give a step with a detector: also how remote models are reached."""
    from airflow_facefog.hooks.roboflow import access

    return {**store_rights(key_conn_id), "open_access": access}


def _iso(moment: datetime | date | None) -> str | None:
    return moment.isoformat() if moment else None
