"""One own server: an app server process with a name, a socket and a life from starting to gone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from trimaran.config.model import Pool
from trimaran.errors import AppError
from trimaran.journal import Journal
from trimaran.processes import Process, ReadyPipe
from trimaran.servers.appserver import AppServerSpec, command
from trimaran.snapshot import Placed

State = Literal["starting", "up", "draining", "failed", "gone"]
ASGI_IN_FLIGHT_MAX = 100
"""An event loop takes many requests at once; beyond this the queue is better kept where every server can serve it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all servers of a running Trimaran share."""

    directory: Path
    environment: Mapping[str, str]
    sockets: Path
    journal: Journal
    publish: Callable[[], None]
    """Sends a new snapshot down; to be called whenever what `Group.placed` says has changed."""
    in_use: Callable[[str, str], int]
    """Requests and streams that a pool's server has in hand now."""


class AppServer:
    """A server process of one pool. `boot` starts it, `stop` ends it; both may be called once."""

    def __init__(self, name: str, pool: Pool, version: int, surroundings: Surroundings) -> None:
        self.name = name
        self.pool = pool
        self.version = version
        self.state: State = "starting"
        self.reason = "starting"
        self.interface = pool.interface
        self.engine = pool.engine
        self.socket = surroundings.sockets / f"{name}.sock"
        self.process: Process | None = None
        self.started_at = datetime.now().astimezone().isoformat(timespec="seconds")
        self.up_since: float | None = None
        self._surroundings = surroundings

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process and self.process.is_running else None

    @property
    def uptime_s(self) -> float:
        """How long it was ready; 0 when it never was."""
        return 0.0 if self.up_since is None else time.monotonic() - self.up_since

    async def boot(self) -> None:
        """Starts the process and waits until it can serve. Raises AppError with what the app said; then nothing runs."""
        pipe = ReadyPipe()
        try:
            self.process = self._spawn(pipe)
        except OSError as error:
            pipe.close()
            raise AppError(f"{self.name} cannot be started: {error}") from error
        finally:
            pipe.close_child_end()
        timeout_ms = self.pool.boot_timeout_ms
        try:
            message = await pipe.message(timeout_ms / 1000)
        except BaseException as error:
            pipe.close()
            await self.stop(0.0)
            if isinstance(error, TimeoutError):
                raise AppError(f"{self.pool.app} was not ready within {timeout_ms} ms (boot_timeout_ms)") from None
            raise
        await self._settle(message)

    def _spawn(self, pipe: ReadyPipe) -> Process:
        assert self.pool.app is not None
        spec = AppServerSpec(
            app=self.pool.app,
            interface=self.pool.interface,
            engine=self.pool.engine,
            socket=self.socket,
            threads=self.pool.threads,
            name=self.name,
            directory=self._surroundings.directory,
            parent_pid=os.getpid(),
        )
        return Process(
            command(spec, pipe.child_end),
            environment={**self._surroundings.environment, **self.pool.environment, "TRIMARAN_SERVER": self.name},
            directory=self._surroundings.directory,
            on_line=lambda line: self._surroundings.journal.say(self.name, line),
            pass_fds=(pipe.child_end,),
        )

    async def _settle(self, message: bytes) -> None:
        """Takes over what the child said on its ready pipe."""
        try:
            said = json.loads(message) if message else None
        except ValueError:
            said = None
        if isinstance(said, dict) and said.get("ok") is True:
            self.interface, self.engine = said["interface"], said["engine"]
            self.up_since = time.monotonic()
            return
        await self.stop(1.0)
        if not isinstance(said, dict):
            raise AppError(f"{self.pool.app} ended before it was ready; its last words are above, under {self.name}")
        traceback = str(said.get("traceback", "")).strip()
        detail = "\n" + "\n".join("    " + line for line in traceback.splitlines()) if traceback else ""
        raise AppError(f"{self.pool.app} does not boot: {said.get('error')}{detail}")

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, `grace_s` for what is in hand, SIGKILL."""
        if self.process is not None:
            await self.process.stop(grace_s)
        self.state = "gone"
        with suppress(FileNotFoundError):
            self.socket.unlink()

    def placed(self) -> Placed:
        """As the data plane is to see it."""
        wsgi = self.interface == "wsgi"
        return Placed(
            name=self.name,
            address=f"unix:{self.socket}",
            weight=1.0,
            in_flight_max=self.pool.in_flight_max or (self.pool.threads if wsgi else ASGI_IN_FLIGHT_MAX),
            draining=self.state == "draining",
            ready=True,
            streams_hold_slots=wsgi,
        )
