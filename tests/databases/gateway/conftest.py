"""A real PostgreSQL with a real gateway before it. Most tests run twice: directly, which shows that the test expects what
PostgreSQL does, and through the gateway."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from trimaran.databases.postgres import EmbeddedNode

from tests.support.gateways import Gateway, remove, start_gateway, start_node


@pytest.fixture(scope="session")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNode]:
    """One PostgreSQL for all tests of the gateway."""
    state = tmp_path_factory.mktemp("gateway")
    started = start_node(state)
    yield started
    started.stop()
    remove(state)


@pytest.fixture(scope="session")
def gateway(primary: EmbeddedNode) -> Iterator[Gateway]:
    """The gateway that most tests share."""
    started = start_gateway(primary)
    yield started
    started.stop()


@pytest.fixture(params=["direct", "gateway"])
def dsn(request: pytest.FixtureRequest, gateway: Gateway) -> str:
    """The app's address, of the node and then of the gateway."""
    return gateway.direct if request.param == "direct" else gateway.dsn


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def crowd(gateway: Gateway) -> Iterator[None]:
    """Other clients that use the same server connections all the while, so that sessions do not keep theirs by chance."""
    ended = threading.Event()

    def work() -> None:
        with psycopg.connect(gateway.dsn, autocommit=True) as connection:
            while not ended.is_set():
                connection.execute("SELECT set_config('search_path', 'pg_catalog', false), pg_sleep(0.001)")
                connection.execute("RESET search_path")

    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    yield
    ended.set()
    for thread in threads:
        thread.join(10)
