"""What all rooms share: a real PostgreSQL, started when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pgkit
import pytest


@pytest.fixture(scope="session")
def pg_server() -> Iterator[pgkit.PgServer]:
    """One server for the session. A machine that cannot have one fails the tests that need it."""
    with pgkit.server() as server:
        yield server


@pytest.fixture
def pg_url(pg_server: pgkit.PgServer) -> Iterator[str]:
    """The SQLAlchemy URL (``postgresql+psycopg://``) of an empty database of this test's own."""
    with pg_server.database() as url:
        yield url
