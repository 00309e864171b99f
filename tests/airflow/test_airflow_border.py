"""What crosses between Airflow and the library: errors, retries, keys, places."""

from __future__ import annotations

import json
import traceback
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowNotFoundException,
    AirflowTaskTerminated,
    AirflowTaskTimeout,
)

from airflow_facefog.core import errors
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.records import Reason
from airflow_facefog.hooks import connections
from airflow_facefog.hooks.keys import key_ring
from airflow_facefog.operators import border

HEX = "0123456789abcdef" * 4
BASE64 = "ASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4mrze8="


@pytest.mark.parametrize(
    ("raised", "reaches_airflow"),
    [
        (errors.PolicyError("bad policy"), AirflowFailException),
        (errors.ConfigurationError("bad place"), AirflowFailException),
        (errors.PlanMismatchError("other recipe"), AirflowFailException),
        (errors.DetectorError("canary missed"), AirflowFailException),
        (errors.GateError("does not add up"), AirflowFailException),
        (errors.ImageError(Reason.CORRUPT, "broken"), AirflowFailException),
        (errors.SourceError(Reason.SOURCE_MISSING, "gone"), errors.SourceError),
        (errors.TransientError("busy"), errors.TransientError),
        (errors.StoreError("down"), errors.StoreError),
        (ValueError("person-7.jpg"), errors.InternalError),
        (MemoryError(), errors.InternalError),
    ],
)
def test_errors_are_translated(raised: Exception, reaches_airflow: type[Exception]) -> None:
    """Permanent errors become AirflowFailException; everything else stays an error that Airflow may retry."""

    @border.fails_cleanly
    def execute() -> None:
        raise raised

    with pytest.raises(reaches_airflow) as caught:
        execute()
    assert type(caught.value) is reaches_airflow


def test_what_reaches_airflow_holds_no_frame_cause_or_name() -> None:
    """No frame below the border, no context, and no foreign message survives: listeners get the exception object."""

    @border.fails_cleanly
    def execute(name: str) -> None:
        secret_local = name
        try:
            raise KeyError(secret_local)
        except KeyError as inner:
            raise errors.PolicyError("policy refused") from inner

    with pytest.raises(AirflowFailException) as caught:
        execute("person-7.jpg")
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    assert not any("secret_local" in frame.f_locals for frame in frames)
    assert str(error) == "PolicyError: policy refused"


@pytest.mark.parametrize("stop", [AirflowTaskTimeout("late"), AirflowTaskTerminated("killed"), SystemExit(1)])
def test_a_time_out_takes_no_frame_along(stop: BaseException) -> None:
    """A signal interrupts a frame that holds pixels: what Airflow gets is the same exception without that frame."""

    @border.fails_cleanly
    def execute() -> None:
        pixels = b"raw"
        try:
            raise KeyError(pixels)
        except KeyError:
            raise stop  # noqa: B904  as a signal handler would, inside whatever runs

    with pytest.raises(type(stop)) as caught:
        execute()
    assert caught.value is stop
    assert stop.__context__ is None
    assert not any("pixels" in frame.f_locals for frame, _ in traceback.walk_tb(stop.__traceback__))


@pytest.mark.parametrize(
    ("error", "action", "delay"),
    [
        (errors.GateError("x"), RetryAction.FAIL, None),
        (errors.TransientError("x"), RetryAction.RETRY, None),
        (errors.TransientError("x", retry_after_s=5.0), RetryAction.RETRY, timedelta(seconds=60)),
        (errors.TransientError("x", retry_after_s=300.0), RetryAction.RETRY, timedelta(seconds=300)),
        (errors.StoreError("x", retry_after_s=1e9), RetryAction.RETRY, timedelta(hours=1)),
        (errors.InternalError("x"), RetryAction.DEFAULT, None),
    ],
)
def test_retry_policy(error: Exception, action: RetryAction, delay: timedelta | None) -> None:
    """Permanent fails at once; a pause that the other side asked for is kept, within an hour."""
    context: Any = {"task": SimpleNamespace(retry_delay=timedelta(seconds=60))}
    decision = border.FogRetryPolicy().evaluate(error, 1, 3, context)
    assert (decision.action, decision.retry_delay) == (action, delay)


def test_jinja_errors_are_not_retried() -> None:
    """A template that cannot be rendered stays so: a missing policy file fails at once."""
    import jinja2

    assert border.FogRetryPolicy().evaluate(jinja2.TemplateNotFound("p.yaml"), 1, 3).action is RetryAction.FAIL


@pytest.mark.parametrize("password", [HEX, BASE64, f" {HEX}\n"])
def test_key_comes_from_the_password(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    """64 hex digits and base64 give the same key ring, and the password is masked in logs."""
    masked: list[str] = []
    monkeypatch.setattr("airflow.sdk.log.mask_secret", masked.append)
    monkeypatch.setenv("AIRFLOW_CONN_FOG_KEY", json.dumps({"conn_type": "generic", "password": password}))
    ring = key_ring("fog_key")
    assert ring.key_id == KeyRing.from_master(bytes.fromhex(HEX)).key_id
    assert masked == [password]


@pytest.mark.parametrize("password", ["", "short", HEX[:-1], HEX + "00", "%" * 64])
def test_bad_key_is_refused_without_quoting_it(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    """A connection without a usable key is an error, never keyless mode, and the message holds no part of it."""
    monkeypatch.setenv("AIRFLOW_CONN_FOG_KEY", json.dumps({"conn_type": "generic", "password": password}))
    with pytest.raises(errors.ConfigurationError) as caught:
        key_ring("fog_key")
    assert not password or password not in str(caught.value)


def test_missing_key_connection_is_not_keyless() -> None:
    """A wrong connection id must not silently change ids and noise."""
    with pytest.raises(errors.ConfigurationError, match="'no_such_key' does not exist"):
        key_ring("no_such_key")


def test_no_connection_id_is_keyless() -> None:
    """Keyless mode is what one asks for by giving no connection id."""
    assert not key_ring(None).keyed


def test_open_root_without_connection_is_plain(tmp_path: Path) -> None:
    """Local and ambient places need no Airflow at all."""
    assert connections.open_root(f"file://{tmp_path}").path == str(tmp_path)


def test_open_root_never_falls_back_to_ambient_rights() -> None:
    """Airflow's own path and the AWS hook both go on without the connection; we stop."""
    with pytest.raises(errors.ConfigurationError, match="'no_such_lake' does not exist"):
        connections.open_root("s3://bucket/raw", "no_such_lake")


def test_open_root_names_a_missing_filesystem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheme that no installed provider serves is a configuration error, not a retry."""
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps({"conn_type": "generic"}))
    with pytest.raises(errors.ConfigurationError, match="'lake' cannot be used"):
        connections.open_root("nosuchscheme://bucket/raw", "lake")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AirflowNotFoundException("x"), errors.ConfigurationError),
        (ImportError("x"), errors.ConfigurationError),
        (ValueError("x"), errors.ConfigurationError),
        (ConnectionResetError("x"), errors.StoreError),
        (RuntimeError("x"), errors.StoreError),
    ],
)
def test_connection_failures(error: Exception, expected: type[Exception]) -> None:
    """Missing and wrong connections are permanent; an unreachable secrets backend is worth a retry."""
    failure = connections.connection_failure("lake", error)
    assert type(failure) is expected
    assert "lake" in str(failure)


@pytest.mark.parametrize(
    ("executor", "allowed"),
    [
        ("LocalExecutor", True),
        ("CeleryExecutor", False),
        ("KubernetesExecutor", False),
        ("LocalExecutor,KubernetesExecutor", False),
        ("my.company.MyExecutor", False),
    ],
)
def test_sqlite_audit_needs_one_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, executor: str, allowed: bool
) -> None:
    """Workers on several machines cannot share a SQLite file: that is refused, not corrupted."""
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    conn = {"conn_type": "sqlite", "host": str(tmp_path / "audit.db")}
    monkeypatch.setenv("AIRFLOW_CONN_AUDIT_DB", json.dumps(conn))
    if allowed:
        assert connections.sql_engine("audit_db").dialect.name == "sqlite"
        return
    with pytest.raises(errors.ConfigurationError, match="SQLite audit"):
        connections.sql_engine("audit_db")


def test_mapped_list_tasks_are_runs_of_their_own() -> None:
    """Instances of a mapped list task must not share the first one's plan: their images would never be looked at."""
    run = SimpleNamespace(run_type="manual", logical_date=None, data_interval_start=None, clear_number=0)
    found = set()
    for index in (-1, 0, 1):
        ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=index, dag_version_id=None)
        found.add(border.identity({"ti": ti, "dag_run": run}).task_id)  # type: ignore[typeddict-item]
    assert found == {"t", "t[0]", "t[1]"}
