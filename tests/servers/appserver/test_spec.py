"""The command line carries a spec unchanged, and the list of engines is whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from trimaran.servers.appserver import command
from trimaran.servers.appserver.engines import ENGINES, Engine, EngineError, choose
from trimaran.servers.appserver.spec import parse

from .running import spec


def test_command_and_parse_are_inverse() -> None:
    original = spec("-odd name:x()", Path("/tmp/s"), name="--app", directory=Path("/a b"), threads=9)
    arguments = command(original, 5)
    assert parse(arguments[arguments.index("-m") + 2 :]) == (original, 5)


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_auto_is_the_first_of_the_list(interface: str) -> None:
    fitting = [engine for engine in ENGINES if engine.interface == interface]
    assert len(fitting) >= 2
    assert choose("auto", fitting[0].interface) is fitting[0]


def test_engine_of_the_other_interface() -> None:
    only_asgi = Engine("solo", "asgi", "uvicorn_asgi", ())
    with pytest.raises(EngineError, match="engine solo runs asgi apps, and this is a wsgi app"):
        choose("solo", "wsgi", (*ENGINES, only_asgi))


def test_missing_package_is_named() -> None:
    engine = Engine("solo", "asgi", "uvicorn_asgi", ("not_installed_here", "uvicorn"))
    with pytest.raises(EngineError, match="engine solo for asgi apps needs not_installed_here, not installed here"):
        engine.load()
