"""The stand-in server for every test of this folder: one per session, fresh per test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from standin import StandIn


@pytest.fixture(scope="session")
def standin_server() -> Iterator[StandIn]:
    """One server on a free loopback port."""
    with StandIn() as server:
        yield server


@pytest.fixture
def standin(standin_server: StandIn) -> Iterator[StandIn]:
    """The server in its first state; stalls end with the test. A bug of the stand-in itself fails the test."""
    standin_server.reset()
    yield standin_server
    standin_server.released.set()
    assert standin_server.bugs == []
