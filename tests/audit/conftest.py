"""Fixtures of the audit's tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import askkit
import pgkit
import pytest
from upath import UPath

from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.publish.store import Store

if TYPE_CHECKING:
    from airflow_facefog.audit.query import Engine

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(params=DATABASES)
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database: each test runs on SQLite and on a real PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'audit.db'}"
    return str(request.getfixturevalue("pg_url"))


@pytest.fixture
def sink(sql_url: str) -> Iterator[Any]:
    """A sink on an empty database."""
    from airflow_facefog.audit.sql import SqlSink

    made = SqlSink(sql_url)
    yield made
    made.close()


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The audit of ``askkit``, in a folder."""
    audit = Store(UPath(tmp_path_factory.mktemp("planted")))
    askkit.plant(audit)
    return audit


@pytest.fixture(scope="session")
def engines(
    planted: Store, tmp_path_factory: pytest.TempPathFactory, pg_server: pgkit.PgServer
) -> Iterator[Mapping[str, Engine]]:
    """The planted audit through DuckDB, SQLite and PostgreSQL."""
    from airflow_facefog.audit.duck import open_duck
    from airflow_facefog.audit.query import open_sql
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.job.record.load_audit import load

    ledger = open_ledger(planted)
    with pg_server.database() as postgres:
        sqlite = f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/audit.db"
        for url in (sqlite, postgres):
            sink = SqlSink(url)
            load(planted, ledger, sink)
            sink.close()
        opened = {"duckdb": open_duck(planted, ledger), "sqlite": open_sql(sqlite), "postgresql": open_sql(postgres)}
        yield opened
        for engine in opened.values():
            engine.close()
