"""Serves the admin app on its listeners, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

import uvicorn

from trimaran.config.check import is_loopback
from trimaran.config.model import Bind
from trimaran.control import Control
from trimaran.dashboard.app import reading, steering
from trimaran.errors import PortInUse

_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
_START_S = 10.0
_STOP_S = 2.0


class _Server(uvicorn.Server):
    """uvicorn without signal handlers: signals are the supervisor's."""

    def install_signal_handlers(self) -> None:
        """Leaves them alone."""


class AdminServer:
    """The admin listener and the control socket."""

    def __init__(self, control: Control, bind: Bind | None, token: str, control_socket: Path) -> None:
        self._control = control
        self._bind = bind
        self._token = token
        self._control_socket = control_socket
        self._servers: list[_Server] = []
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()

    def start(self) -> None:
        """Returns when both listen. Raises PortInUse."""
        listeners: list[tuple[socket.socket, _Server]] = []
        if self._bind is not None:
            hosts = _LOOPBACK_HOSTS if is_loopback(self._bind) and self._bind.path is None else None
            listeners.append((_listen(self._bind), _server(reading(self._control, self._token, hosts))))
        listeners.append((_listen_privately(self._control_socket), _server(steering(self._control))))
        self._servers = [server for _, server in listeners]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(listeners)), name="admin", daemon=True)
        self._thread.start()
        self._ready.wait(_START_S)

    def stop(self) -> None:
        """Ends within two seconds and removes the socket files."""
        for server in self._servers:
            server.should_exit = True
            server.force_exit = True
        if self._thread is not None:
            self._thread.join(_STOP_S)
        self._control_socket.unlink(missing_ok=True)
        if self._bind is not None and self._bind.path is not None:
            Path(self._bind.path).unlink(missing_ok=True)

    async def _serve(self, listeners: list[tuple[socket.socket, _Server]]) -> None:
        tasks = [asyncio.create_task(server.serve(sockets=[listener])) for listener, server in listeners]
        while not all(server.started or task.done() for (_, server), task in zip(listeners, tasks, strict=True)):
            await asyncio.sleep(0.005)
        self._ready.set()
        await asyncio.gather(*tasks)


def _server(app: object) -> _Server:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_level="error",
        access_log=False,
        lifespan="off",
        http="h11",
        ws="none",
        loop="asyncio",
        timeout_graceful_shutdown=1,
        server_header=False,
        proxy_headers=False,
    )
    return _Server(config)


def _listen(bind: Bind) -> socket.socket:
    try:
        if bind.path is not None:
            return _listen_privately(Path(bind.path))
        family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
        return socket.create_server((bind.host, bind.port), family=family, backlog=128)
    except OSError as error:
        hint = f"{os.strerror(error.errno or 0)}; choose another with admin.bind or --admin"
        raise PortInUse(str(bind), hint) from error


def _listen_privately(path: Path) -> socket.socket:
    """A Unix socket that only this user can open. A leftover of an earlier run is replaced: we hold the lock."""
    with suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(64)
    return listener
