"""ASGI on every ASGI engine: what has no counterpart in WSGI."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing

import pytest
from trimaran.servers.appserver.engines import Engine

from tests.support.waiting import eventually

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


def test_startup_comes_before_readiness(server: Running) -> None:
    assert server.get("/request").json()["lifespan"] == ["startup"]


def test_error_in_the_middle_is_not_a_complete_response(server: Running) -> None:
    with closing(server.client()) as client:
        client.request("GET", "/boom-late")
        response = client.getresponse()
        with pytest.raises(http.client.IncompleteRead):
            response.read()
    eventually(lambda: "boom in the middle" in server.log(), "the traceback in the log")


def test_name_with_underscore_is_no_twin(server: Running) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9", "X_Forwarded_For": "6.6.6.6", "X_Secret": "1"}
    seen = server.get("/request", headers).json()
    assert seen["client"] == "203.0.113.9"
    assert seen["headers"]["x_forwarded_for"] == "203.0.113.9"
    assert "x_secret" not in seen["headers"]


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        ("lifespans:says_failed", "no database"),
        ("lifespans:raises_after_startup", "ConnectionError: no database"),
        ("lifespans:starlette", "RuntimeError: no database"),
    ],
)
def test_failed_startup_is_not_ready(engine: Engine, app: str, reason: str) -> None:
    with running(app, **start_options(engine)) as server:
        assert server.report["ok"] is False
        assert server.report["error"] == f"the app's startup failed: {reason}"
        assert "no database" in server.report["traceback"]
        assert server.process.wait(20) == 3


def test_app_without_lifespan_is_served(engine: Engine) -> None:
    with running("lifespans:knows_no_lifespan", **start_options(engine)) as server:
        assert server.report["ok"] is True
        assert server.get("/").status == 204
        assert server.stop() == 0
