"""WebSockets on every ASGI engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from trimaran.servers.appserver.engines import Engine
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import unix_connect

from .conftest import ASGI, app_of, start_options
from .running import Running, running


@pytest.fixture(scope="module", params=ASGI)
def engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.param
    return chosen


@pytest.fixture(scope="module")
def server(engine: Engine) -> Iterator[Running]:
    with running(app_of(engine), **start_options(engine)) as started:
        yield started


def test_echo(server: Running) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    with unix_connect(str(server.address), "ws://app.test/chat", additional_headers=headers) as connection:
        assert connection.recv(20) == '["wss", ["203.0.113.9", 0]]'
        for message in ("text é", b"\x00bytes", "x" * 200_000):
            connection.send(message)
            assert connection.recv(20) == message


def test_many_at_once(server: Running) -> None:
    ready = threading.Barrier(8)

    def talk(number: int) -> str | bytes:
        with unix_connect(str(server.address), "ws://app.test/chat") as connection:
            connection.recv(20)
            ready.wait(20)
            connection.send(str(number))
            return connection.recv(20)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(talk, range(8))) == [str(number) for number in range(8)]


def test_stop_ends_open_websockets(engine: Engine) -> None:
    """uvicorn tells the client to come back (1012, service restart); granian cuts the connection."""
    with (
        running(app_of(engine), **start_options(engine)) as server,
        unix_connect(str(server.address), "ws://app.test/chat") as connection,
    ):
        connection.recv(20)
        assert server.stop() == 0
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(20)
        if engine.name == "uvicorn":
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
