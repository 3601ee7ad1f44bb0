"""The app servers that can run an app, in one list. A new one is a file with a `serve` function, and a line here."""

from __future__ import annotations

import importlib
import importlib.util
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from ..interfaces import App, Interface


class EngineError(Exception):
    """No engine can run the app as asked; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where and how an engine serves."""

    listener: socket.socket
    """Listening already; the engine takes it over."""
    threads: int
    """Threads that handle the requests of a WSGI app."""
    ready: Callable[[], None]
    """To be called once the engine accepts and the app has started."""


Serve = Callable[[App, Site], None]
"""Serve until SIGTERM, then finish the requests in progress, however long they take, and return.

After SIGTERM it accepts no more connections. Until then idle connections are kept open without limit: only the gateway
closes them, so that it never sends a request on a connection that is being closed. An ASGI app whose startup fails ends
`serve` without a call of `ready`.
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine for one interface."""

    name: str
    interface: Interface
    module: str
    """The file of this package that has `serve`."""
    needs: tuple[str, ...]
    """Packages without which it cannot run."""

    def load(self) -> Serve:
        """Its `serve`. Raises EngineError when a package is missing or does not fit."""
        missing = [package for package in self.needs if importlib.util.find_spec(package) is None]
        if missing:
            fitting = [engine.name for engine in ENGINES if engine.interface == self.interface]
            others = [name for name in fitting if name != self.name]
            raise EngineError(
                f"engine {self.name} for {self.interface} apps needs {' and '.join(missing)}, not installed here:"
                f" run pip install {' '.join(missing)}, or set engine to {' or '.join(others)}"
            )
        try:
            return cast(Serve, importlib.import_module(f"{__name__}.{self.module}").serve)
        except ImportError as error:
            raise EngineError(f"engine {self.name} does not work with what is installed here: {error}") from error


ENGINES: tuple[Engine, ...] = (
    Engine("uvicorn", "asgi", "uvicorn_asgi", ("uvicorn", "httptools", "websockets")),
    Engine("granian", "asgi", "granian_asgi", ("granian",)),
    Engine("threads", "wsgi", "threads_wsgi", ("httptools",)),
    Engine("granian", "wsgi", "granian_wsgi", ("granian",)),
)
"""The first of an interface is its default; docs/app-servers.md has the measurements and the reasons."""


def choose(name: str, interface: Interface, engines: tuple[Engine, ...] = ENGINES) -> Engine:
    """The engine called `name`, or the default of `interface` for auto. Raises EngineError."""
    fitting = [engine for engine in engines if engine.interface == interface]
    if name == "auto":
        return fitting[0]
    for engine in fitting:
        if engine.name == name:
            return engine
    names = ", ".join(["auto", *(engine.name for engine in fitting)])
    for engine in engines:
        if engine.name == name:
            raise EngineError(
                f"engine {name} runs {engine.interface} apps, and this is a {interface} app: expected one of {names}"
            )
    raise EngineError(f"unknown engine {name}: expected one of {names} for {interface} apps")
