"""uvicorn for ASGI apps, with httptools, and with uvloop where that is installed."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Generator
from typing import Any, cast

import uvicorn

from ..interfaces import App
from ..logs import to_stderr
from . import Site

_KEEP_ALIVE_S = 10**9
"""Thirty years: uvicorn has no value for an idle connection that is never closed."""


def serve(app: App, site: Site) -> None:
    """See `engines.Serve`. WebSockets that are open at SIGTERM are closed with code 1012, service restart."""
    to_stderr("uvicorn.error")
    config = uvicorn.Config(
        cast(Any, app),
        interface="asgi3",
        http="httptools",
        ws="auto",
        lifespan="auto",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=None,
    )
    # A failed startup ends in SystemExit; the lifespan record knows the reason.
    with contextlib.suppress(SystemExit):
        _Server(config, site).run(sockets=[site.listener])


class _Server(uvicorn.Server):
    """Ends on SIGTERM alone, and tells when it serves."""

    def __init__(self, config: uvicorn.Config, site: Site) -> None:
        super().__init__(config)
        self._site = site

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        # uvicorn's own version also takes SIGINT, and raises SIGTERM once more after an orderly stop.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._site.ready()

    def _stop(self) -> None:
        self.should_exit = True
