"""Airflow connections → storage places and SQL engines, with errors that say what to do and never quote a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow_facefog.core.errors import ConfigurationError, FogError, StoreError

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from upath import UPath

SHARED_MACHINE_EXECUTORS = {"LocalExecutor", "SequentialExecutor"}
"""Executors whose tasks all run on one machine, so that they may share a SQLite file."""


def connection_failure(conn_id: str, error: Exception) -> FogError:
    """Say what a connection that cannot be used means: permanent when missing or wrong, transient otherwise."""
    from airflow.sdk.exceptions import AirflowNotFoundException

    name = type(error).__name__
    if isinstance(error, AirflowNotFoundException):
        return ConfigurationError(f"connection {conn_id!r} does not exist; create it or correct the connection id")
    if isinstance(error, ImportError):
        return ConfigurationError(f"connection {conn_id!r} needs a package that is not installed; see our extras")
    if isinstance(error, (ValueError, TypeError, AttributeError, NotImplementedError)):
        return ConfigurationError(f"connection {conn_id!r} cannot be used ({name}); check its type and fields")
    return StoreError(f"connection {conn_id!r} cannot be opened now ({name})")


def open_root(uri: str, conn_id: str | None = None) -> UPath:
    """Open a place through an Airflow connection, or with the worker's own rights when there is no ``conn_id``.

    Raises ConfigurationError when the connection or its provider is missing, StoreError when it cannot be read now.
    """
    from upath import UPath

    if conn_id is None:
        return UPath(uri)
    from airflow.sdk import BaseHook, ObjectStoragePath
    from airflow.sdk.io import attach

    # Both of these fall back to the worker's own rights without an error: the AWS hook when the connection is missing,
    # ObjectStoragePath when its filesystem cannot be built. So each is asked first.
    failure: FogError
    try:
        BaseHook.get_connection(conn_id)
        _ = attach(uri.partition("://")[0], conn_id).fs
        path: Any = ObjectStoragePath(uri, conn_id=conn_id)
        return cast("UPath", path)  # it is one; its stubs say otherwise
    except Exception as error:
        failure = connection_failure(conn_id, error)
    raise failure


def sql_engine(conn_id: str) -> Engine:
    """An engine for the audit database behind ``conn_id``.

    Raises ConfigurationError when the connection is missing or its provider is not installed, and for SQLite under an
    executor whose tasks run on several machines: each worker would write its own file, or one over the network.
    """
    from airflow.sdk import BaseHook

    failure: FogError
    try:
        connection: Any = BaseHook.get_connection(conn_id)
        engine: Engine = connection.get_hook().get_sqlalchemy_engine()
    except Exception as error:
        failure = connection_failure(conn_id, error)
    else:
        executors = _executors()
        if engine.dialect.name != "sqlite" or executors <= SHARED_MACHINE_EXECUTORS:
            return engine
        failure = ConfigurationError(
            f"a SQLite audit cannot be shared by the workers of {', '.join(sorted(executors))}; use PostgreSQL, "
            "or leave audit_sql_conn_id out and query the Parquet audit"
        )
    raise failure


def _executors() -> set[str]:
    from airflow.sdk.configuration import conf

    names = conf.get("core", "executor", fallback="LocalExecutor").split(",")
    return {name.strip().rpartition(":")[2].rpartition(".")[2] for name in names if name.strip()}
