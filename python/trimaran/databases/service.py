"""All databases of a running Trimaran: their groups, their gateways, and the planner that both need.

The supervisor starts it before anything of the app, because the app's own preparations use it, and ends it last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from trimaran import facts
from trimaran._core import DataPlane
from trimaran.config.model import Database
from trimaran.errors import TrimaranError
from trimaran.journal import Journal

from .gateway import CONSOLE, REFRESH_S, DatabaseGateway, login_of
from .group import DatabaseGroup
from .planning import Planning

_DRAIN_S = 2.0
"""How long transactions on a primary that hands over may take to end."""
_DRAIN_FAILING_S = 0.2
"""The same for one that fails and still answers, as with a full disk: meanwhile nobody else can write."""
_NODES_WAIT_S = 1.0
"""How long another thread waits for the event loop to say where the nodes are."""


class DatabaseService:
    """Belongs to the main thread's event loop. `publish` sends a new snapshot down."""

    def __init__(
        self, settings: dict[str, Database], state_directory: Path, journal: Journal, publish: Callable[[], None]
    ) -> None:
        self.groups = {name: DatabaseGroup(name, each, state_directory, journal) for name, each in settings.items()}
        self._journal = journal
        self._publish = publish
        self._gateways: dict[str, DatabaseGateway] = {}
        self._plane: DataPlane | None = None
        self._planning: Planning | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Starts embedded nodes and finds those of others. Raises DatabaseError."""
        self._loop = asyncio.get_running_loop()
        for name, group in self.groups.items():
            await group.start(lambda message: self._journal.say("postgres", message))
            if group.settings.gateway:
                gateway = DatabaseGateway(group)
                await gateway.refresh_users()
                self._gateways[name] = gateway
                group.changed = self._on_change

    def environment(self) -> dict[str, str]:
        """The variables by which the app finds its databases."""
        return {group.settings.environment: self.dsn(name, "") for name, group in self.groups.items()}

    def snapshot(self) -> list[dict[str, Any]]:
        """Every gateway, for the data plane."""
        return [gateway.snapshot() for gateway in self._gateways.values()]

    def open(self, plane: DataPlane) -> None:
        """The data plane has the gateways now: from here on it gets plans for statements."""
        self._plane = plane
        if self._gateways:
            self._planning = Planning(plane, self.connect)
            self._planning.start()

    def connect(self, group: str, database: str) -> psycopg.Connection[Any]:
        """A connection to a database of a group, to read its catalogue: on the primary, or on a replica when there is none.

        For threads other than the event loop's. Raises psycopg.Error, OSError or TimeoutError within a few seconds.
        """
        assert self._loop is not None

        async def find() -> str:
            found = {member.role: member for member in self._group(group).members()}
            if node := found.get("primary") or found.get("replica"):
                return login_of(node, self._group(group).credentials, database)
            raise OSError(f"no node of {group} answers")

        return psycopg.connect(
            asyncio.run_coroutine_threadsafe(find(), self._loop).result(_NODES_WAIT_S), autocommit=True
        )

    async def watch_users(self) -> None:
        """Takes over roles and passwords as they are on the primaries, for ever."""
        while self._gateways:
            await asyncio.sleep(REFRESH_S)
            changed = [await gateway.refresh_users() for gateway in self._gateways.values()]
            if any(changed):
                self._publish()

    async def stop(self) -> None:
        """Ends everything that is ours."""
        if self._planning is not None:
            await asyncio.to_thread(self._planning.stop)
        await asyncio.gather(*(group.stop() for group in self.groups.values()))

    # Changes of roles

    async def _on_change(self) -> None:
        """Tells the data plane. Where writes are held, what is under way on the old primary may end first."""
        self._publish()
        is_planned = any(group.hands_over for group in self.groups.values())
        deadline = time.monotonic() + (_DRAIN_S if is_planned else _DRAIN_FAILING_S)
        while time.monotonic() < deadline and any(self._held_and_in_use()):
            await asyncio.sleep(0.01)

    def _held_and_in_use(self) -> Iterator[str]:
        """Primaries that get no more statements, and still have some."""
        if self._plane is None:
            return
        for seen in facts.parse(self._plane.facts()).databases:
            group = self.groups[seen.name]
            held = {member.name for member in group.members() if member.role == "primary" and group.writable is None}
            yield from (node.name for node in seen.nodes if node.in_use and node.name in held)

    # Asked for by hand

    async def promote(self, node: str) -> str:
        """Makes a replica the primary of its database."""
        return await self._of_node(node).promote(node)

    async def add_replica(self, database: str) -> str:
        """Begins to make one more replica of a database; the empty name means the only one."""
        return await self._group(database).add_replica()

    async def remove_replica(self, node: str) -> str:
        """Ends a replica and removes its copy of the data."""
        return await self._of_node(node).remove_replica(node)

    def plans(self, database: str) -> list[facts.PlanFacts]:
        """What the gateway of a database knows of statements; the empty name means the only one."""
        name = self._group(database).name
        told = self._plane.plans(name) if self._plane else None
        if told is None:
            raise TrimaranError(f"the database {name} has no gateway (gateway = false)")
        return facts.parse_plans(told)

    def dsn(self, database: str, node: str, *, console: bool = False) -> str:
        """The address that the app has of a database, or its address of one node, past the gateway, or of the console.

        The empty name of a database means the only one. A node says by itself which database it is of. The address has
        the password.
        """
        if node:
            group = self._of_node(node)
            if database not in ("", group.name):
                raise TrimaranError(f"{node} is a node of {group.name}, not of {database}")
            return next(member.dsn for member in group.members() if member.name == node)
        group = self._group(database)
        gateway = self._gateways.get(group.name)
        if console and gateway is None:
            raise TrimaranError(f"the database {group.name} has no gateway (gateway = false), so no console")
        return gateway.dsn(CONSOLE if console else None) if gateway else group.dsn

    def _group(self, name: str) -> DatabaseGroup:
        if not name and len(self.groups) == 1:
            return next(iter(self.groups.values()))
        if name not in self.groups:
            raise TrimaranError(f"there is no database {name!r}; there are {', '.join(self.groups)}")
        return self.groups[name]

    def _of_node(self, node: str) -> DatabaseGroup:
        for group in self.groups.values():
            if any(state.name == node for state in group.states()):
                return group
        known = [state.name for group in self.groups.values() for state in group.states()]
        raise TrimaranError(f"there is no node {node}; there are {', '.join(known)}")
