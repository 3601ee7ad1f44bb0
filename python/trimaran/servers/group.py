"""The own servers of one pool: kept at the wanted count, restarted when they crash, replaced without loss.

A *place* is one of the wanted number of servers; it is kept by a task of its own, which starts a server, waits for its end
and starts the next. Reload, drain and recycling are one movement: new servers boot unseen, then the data plane is shown
the new ones as usable and the old ones as draining in a single snapshot, then the old ones finish and end.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from trimaran.config.model import Pool
from trimaran.errors import AppError, TrimaranError
from trimaran.processes import describe_exit
from trimaran.servers.recycle import reason_to_recycle
from trimaran.servers.restart import Crashes
from trimaran.servers.server import AppServer, Surroundings
from trimaran.snapshot import Placed

_IDLE_READS = 2
"""How often in a row a leaving server must be seen without work: a request may be on its way to it at the first look."""
_IDLE_READ_PAUSE_S = 0.05
_STOP_GRACE_S = 5.0
"""For what a drained server still does after its last request."""
_RECYCLE_CHECK_S = 2.0


@dataclass(eq=False)
class Place:
    """One wanted server, whichever process fills it now."""

    server: AppServer
    booted: asyncio.Future[None]
    """Its server has booted, or why it has not."""
    task: asyncio.Task[None] | None = None
    crashes: Crashes = field(default_factory=Crashes)


class Group:
    """The own servers of the pool `name`. All methods belong to the event loop's thread."""

    def __init__(self, name: str, pool: Pool, surroundings: Surroundings) -> None:
        self.name = name
        self.pool = pool
        self.version = 1
        self._surroundings = surroundings
        self._places: list[Place] = []
        self._leaving: set[AppServer] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._moving = asyncio.Lock()
        """Held by whatever exchanges servers, so that two exchanges never overlap."""

    # What others see

    @property
    def count(self) -> int:
        """Wanted servers, whatever state they are in."""
        return len(self._places)

    @property
    def up(self) -> int:
        return sum(place.server.state == "up" for place in self._places)

    def servers(self) -> list[AppServer]:
        """Every server that exists, leaving ones last."""
        return [place.server for place in self._places] + sorted(self._leaving, key=lambda server: server.started_at)

    def placed(self) -> list[Placed]:
        """The servers that traffic may know."""
        return [server.placed() for server in self.servers() if server.state in ("up", "draining")]

    # What others do

    async def start(self) -> None:
        """Starts the least number of servers. Raises AppError when one does not boot; then none is left running."""
        self._places = await self._boot(self.pool, max(self.pool.count.least, 1))
        self._show(self._places)

    def scale(self, count: int) -> None:
        """Moves to `count` servers in the background."""
        while self.count < count:
            place = self._open_place(self.pool)
            self._places.append(place)
            self._spawn(self._show_when_booted(place))
        surplus = sorted(self._places, key=self._worth)[: max(self.count - count, 0)]
        for place in surplus:
            self._places.remove(place)
            self._retire(place)
        if surplus:
            self._surroundings.publish()

    async def drain(self, name: str) -> None:
        """Replaces one server by a new one. Raises TrimaranError when it is unknown or its successor does not boot."""
        async with self._moving:
            place = next((place for place in self._places if place.server.name == name), None)
            if place is None:
                raise TrimaranError(f"{name} is not a running server of the pool {self.name}")
            await self._replace([place], self.pool, 1)

    async def reload(self, pool: Pool) -> None:
        """Replaces all servers by new ones with the settings `pool`. Raises AppError; then the old ones go on."""
        async with self._moving:
            count = min(max(self.count, pool.count.least, 1), pool.count.most)
            self.version += 1
            try:
                await self._replace(list(self._places), pool, count)
            except AppError:
                self.version -= 1
                raise
            self.pool = pool

    async def recycle(self) -> None:
        """Replaces servers that have had their time, one after the other, for ever."""
        while True:
            await asyncio.sleep(_RECYCLE_CHECK_S)
            for place in list(self._places):
                server = place.server
                memory = server.process.memory_bytes() if server.process else None
                reason = reason_to_recycle(server.pool, memory, server.uptime_s) if server.state == "up" else None
                if reason:
                    self._surroundings.journal.decide(self.name, f"replace {server.name}", f"it {reason}")
                    # It may be gone by now, and a successor that does not boot has said so.
                    with suppress(TrimaranError):
                        await self.drain(server.name)

    async def stop(self, grace_s: float) -> None:
        """Ends every server."""
        tasks = [place.task for place in self._places if place.task] + list(self._background)
        for task in tasks:
            task.cancel()
        servers = self.servers()
        await asyncio.gather(*(server.stop(grace_s) for server in servers))
        await asyncio.gather(*tasks, return_exceptions=True)

    # One place

    def _open_place(self, pool: Pool) -> Place:
        place = Place(self._new_server(pool), _outcome())
        place.task = asyncio.create_task(self._keep(place))
        return place

    def _new_server(self, pool: Pool) -> AppServer:
        return AppServer(f"{self.name}-{next(self._numbers)}", pool, self.version, self._surroundings)

    async def _keep(self, place: Place) -> None:
        """Keeps a server in `place` until the task is cancelled or the server is retired."""
        while True:
            server = place.server
            ending = await self._live(place, server)
            if server.state == "draining" or (server.up_since is None and place not in self._places):
                # A place that has never had a server belongs to whoever waits for its first one.
                return
            place.crashes = place.crashes.after(server.uptime_s)
            delay_ms = place.crashes.delay_ms(server.pool.restart_delay_ms, server.pool.restart_delay_max_ms)
            server.state = "failed" if place.crashes.is_loop else "starting"
            server.reason = ending.splitlines()[0]
            self._surroundings.publish()
            action = f"restart {server.name} in {delay_ms / 1000:g} s"
            self._surroundings.journal.decide(self.name, action, ending)
            await asyncio.sleep(delay_ms / 1000)
            await server.stop(0.0)
            place.server = self._new_server(server.pool)
            place.booted = _outcome()
            self._spawn(self._show_when_booted(place))

    async def _live(self, place: Place, server: AppServer) -> str:
        """Boots `server` and waits for its end; says how it ended."""
        try:
            await server.boot()
        except AppError as error:
            place.booted.set_exception(error)
            return str(error)
        place.booted.set_result(None)
        assert server.process is not None
        code = await server.process.wait()
        return f"{server.name} {describe_exit(code)} after {server.uptime_s:.0f} s"

    # Exchanging servers

    async def _boot(self, pool: Pool, count: int) -> list[Place]:
        """Opens `count` places and waits until all have a server. Raises AppError; then none is left."""
        places = [self._open_place(pool) for _ in range(count)]
        try:
            await asyncio.gather(*(place.booted for place in places))
        except BaseException:
            await asyncio.gather(*(self._abandon(place) for place in places))
            raise
        return places

    async def _replace(self, old: Sequence[Place], pool: Pool, count: int) -> None:
        new = await self._boot(pool, count)
        self._places = [place for place in self._places if place not in old] + new
        for place in old:
            self._retire(place)
        self._show(new)

    def _show(self, places: Iterable[Place]) -> None:
        """Lets traffic know servers that have booted."""
        for place in places:
            if place.server.up_since is not None and place.server.state == "starting":
                place.server.state, place.server.reason = "up", "ready"
                said = f"serves {place.server.pool.app} ({place.server.interface}, {place.server.engine}, pid {place.server.pid})"
                self._surroundings.journal.say(place.server.name, said)
        self._surroundings.publish()

    async def _show_when_booted(self, place: Place) -> None:
        with suppress(AppError):
            await asyncio.shield(place.booted)
            # A place that is to replace another is shown at the exchange, not before.
            if place in self._places:
                self._show([place])

    def _retire(self, place: Place) -> None:
        """Takes a place's server out of traffic, lets it finish, ends it."""
        server = place.server
        if server.state != "up":
            self._spawn(self._abandon(place))
            return
        server.state, server.reason = "draining", "takes no new requests"
        self._leaving.add(server)
        self._spawn(self._see_off(place))

    async def _see_off(self, place: Place) -> None:
        server = place.server
        try:
            await self._finish_work(server)
            await server.stop(_STOP_GRACE_S)
        finally:
            self._leaving.discard(server)
            self._surroundings.publish()

    async def _finish_work(self, server: AppServer) -> None:
        """Waits until `server` has nothing in hand, as long as its pool allows."""
        deadline = time.monotonic() + server.pool.drain_timeout_ms / 1000
        idle_reads = 0
        while idle_reads < _IDLE_READS and server.pid is not None and time.monotonic() < deadline:
            await asyncio.sleep(_IDLE_READ_PAUSE_S)
            idle_reads = idle_reads + 1 if self._surroundings.in_use(self.name, server.name) == 0 else 0

    async def _abandon(self, place: Place) -> None:
        """Ends a place whose server serves nobody."""
        if place.task is not None:
            place.task.cancel()
            await asyncio.gather(place.task, return_exceptions=True)
        await place.server.stop(1.0)

    def _worth(self, place: Place) -> tuple[bool, int, str]:
        """What is lost with a place's server; the least is given up first."""
        is_up = place.server.state == "up"
        return is_up, self._surroundings.in_use(self.name, place.server.name) if is_up else 0, place.server.started_at

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _outcome() -> asyncio.Future[None]:
    """A future whose failure need not be asked for: it has been logged."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future
