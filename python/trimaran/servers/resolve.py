"""Remote servers: names are looked up before the start and again and again; the data plane gets numbers."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable

from trimaran.config.model import Pool, Remote
from trimaran.errors import TrimaranError
from trimaran.journal import Journal
from trimaran.servers.server import ASGI_IN_FLIGHT_MAX
from trimaran.snapshot import Placed

_LOOKUP_TIMEOUT_S = 5.0


async def lookup(host: str, port: int) -> list[str]:
    """The addresses of `host` as `IP:PORT`, sorted. Raises OSError (TimeoutError is one)."""
    loop = asyncio.get_running_loop()
    work = loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found = await asyncio.wait_for(work, _LOOKUP_TIMEOUT_S)
    return sorted({_address(str(entry[4][0]), port) for entry in found})


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Remotes:
    """The remote servers of one pool."""

    def __init__(self, name: str, pool: Pool, journal: Journal, publish: Callable[[], None]) -> None:
        self.name = name
        self.pool = pool
        self._journal = journal
        self._publish = publish
        self._addresses: dict[Remote, list[str]] = {}
        self._draining: set[str] = set()

    async def start(self) -> None:
        """Looks every name up once. Raises TrimaranError for a name that cannot be found."""
        for remote in self.pool.addresses:
            try:
                self._addresses[remote] = await self._resolve(remote)
            except OSError as error:
                raise TrimaranError(
                    f"the server {remote} of the pool {self.name} cannot be looked up: {error}"
                ) from error

    async def keep_resolving(self) -> None:
        """Looks names up again, for ever. When that fails, the last answer stays."""
        failing: set[Remote] = set()
        while True:
            await asyncio.sleep(self.pool.resolve_interval_ms / 1000)
            before = dict(self._addresses)
            for remote in [remote for remote in self.pool.addresses if not _is_numeric(remote)]:
                try:
                    self._addresses[remote] = await self._resolve(remote)
                    failing.discard(remote)
                except OSError as error:
                    if remote not in failing:
                        self._journal.say(self.name, f"{remote} cannot be looked up ({error}); its last addresses stay")
                    failing.add(remote)
            if self._addresses != before:
                self._journal.decide(self.name, "use new addresses", f"names resolve to {', '.join(self._names())} now")
                self._publish()

    async def replace(self, pool: Pool) -> None:
        """Takes over new settings. Raises TrimaranError; then nothing has changed."""
        fresh = Remotes(self.name, pool, self._journal, self._publish)
        await fresh.start()
        self.pool, self._addresses = pool, fresh._addresses
        self._draining.clear()

    def drain(self, name: str) -> bool:
        """Takes a server out of traffic until the next reload. False when it is unknown."""
        if name not in self._names():
            return False
        self._draining.add(name)
        self._publish()
        return True

    def placed(self) -> list[Placed]:
        """The servers that traffic may know. A name with several addresses is several servers."""
        return [
            Placed(
                name=name,
                address=address,
                weight=remote.weight,
                in_flight_max=self.pool.in_flight_max or ASGI_IN_FLIGHT_MAX,
                draining=name in self._draining,
                ready=False,
                streams_hold_slots=False,
            )
            for name, address, remote in self._entries()
        ]

    def _entries(self) -> list[tuple[str, str, Remote]]:
        entries: dict[str, tuple[str, str, Remote]] = {}
        for remote in self.pool.addresses:
            addresses = self._addresses.get(remote, [])
            for address in addresses:
                name = str(remote.address) if len(addresses) == 1 else f"{remote.address}#{address}"
                entries.setdefault(name, (name, address, remote))
        return list(entries.values())

    def _names(self) -> list[str]:
        return [name for name, _, _ in self._entries()]

    async def _resolve(self, remote: Remote) -> list[str]:
        at = remote.address
        if at.path is not None:
            return [f"unix:{at.path}"]
        if _is_numeric(remote):
            return [_address(at.host, at.port)]
        return await lookup(at.host, at.port)


def _is_numeric(remote: Remote) -> bool:
    if remote.address.path is not None:
        return True
    try:
        ipaddress.ip_address(remote.address.host)
    except ValueError:
        return False
    return True
