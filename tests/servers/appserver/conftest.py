"""The contract suite runs against every engine and interface of the list."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from trimaran.servers.appserver.engines import ENGINES, Engine

from .running import Running, running

EVERY = [pytest.param(engine, id=f"{engine.interface}-{engine.name}") for engine in ENGINES]
ASGI = [param for param in EVERY if str(param.id).startswith("asgi-")]
WSGI = [param for param in EVERY if str(param.id).startswith("wsgi-")]


def start_options(engine: Engine) -> dict[str, str]:
    return {"engine": engine.name, "interface": engine.interface}


def app_of(engine: Engine) -> str:
    return f"{engine.interface}_app:application"


@pytest.fixture(scope="module", params=EVERY)
def engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.param
    return chosen


@pytest.fixture(scope="module")
def server(engine: Engine) -> Iterator[Running]:
    """One server for all the tests of a module that leave it as they found it."""
    with running(app_of(engine), **start_options(engine)) as started:
        assert started.report.get("ok"), started.report or started.log()
        yield started
