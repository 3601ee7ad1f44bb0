"""A real database group with its gateway, in this process: PostgreSQL nodes, failover loop, data plane, planner."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psycopg
from trimaran import facts
from trimaran._core import DataPlane
from trimaran.config.model import Bind, Database, Reads
from trimaran.databases.group import MemberState
from trimaran.databases.service import DatabaseService
from trimaran.journal import Journal

from .snapshots import pool, snapshot
from .waiting import eventually

T = TypeVar("T")
START_S = 120.0
WITHIN_S = 90.0
NAME = "main"


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """Starts on entry and ends on exit. `changes` are settings of the database, `reads` of its reads."""

    def __init__(self, directory: Path, replicas: int = 2, reads: dict[str, Any] | None = None, **changes: Any) -> None:
        bind = Bind("127.0.0.1", free_port())
        settings = Database(replicas=replicas, bind=bind, reads=replace(Reads(), **(reads or {})))
        self.settings = replace(settings, **changes)
        self.journal = Journal()
        self._replicas = len(self.settings.nodes) - 1 if self.settings.nodes != "embedded" else self.settings.replicas
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.plane: DataPlane | None = None

    def __enter__(self) -> Cluster:
        self._thread.start()
        self.service = DatabaseService({NAME: self.settings}, self._directory, self.journal, self._publish)
        self.call(self.service.start())
        self.plane = DataPlane(self._snapshot())
        self.service.open(self.plane)
        return self

    def __exit__(self, *_: object) -> None:
        if self.plane is not None:
            self.plane.stop(0)
        self.call(self.service.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs something on the group's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_S)

    def _snapshot(self) -> str:
        return snapshot(pool(), databases=self.service.snapshot())

    def _publish(self) -> None:
        if self.plane is not None:
            self.plane.apply(self._snapshot())

    def set_reads(self, **reads: Any) -> None:
        """Other settings of its reads, from now on."""

        async def change() -> None:
            group = self.service.groups[NAME]
            group.settings = replace(group.settings, reads=replace(Reads(), **reads))
            self._publish()

        self.call(change())

    @property
    def dsn(self) -> str:
        """Through the gateway."""
        return next(iter(self.service.environment().values()))

    def direct(self, node: str) -> str:
        """Past the gateway, as the app's role."""
        return next(member.dsn for member in self.service.groups[NAME].members() if member.name == node)

    def superuser(self, node: str) -> psycopg.Connection[Any]:
        """Past the gateway, as the superuser."""
        login = self.service.groups[NAME].credentials
        place = urlsplit(self.direct(node))
        return psycopg.connect(
            host=place.hostname,
            port=place.port,
            user=login.monitor_user,
            password=login.monitor_password,
            dbname=login.database,
            autocommit=True,
        )

    def states(self) -> dict[str, MemberState]:
        return {state.name: state for state in self.service.groups[NAME].states()}

    @property
    def primary(self) -> MemberState:
        """Waits while there is none, in the middle of a failover."""
        return eventually(
            lambda: next((state for state in self.states().values() if state.role == "primary"), None),
            "a primary",
            WITHIN_S,
        )

    def replicas(self) -> list[MemberState]:
        return [state for state in self.states().values() if state.role == "replica"]

    def is_whole(self) -> bool:
        """Whether one node takes writes and all others follow it; of a synchronous group, commits wait for them."""
        group = self.service.groups[NAME]
        replicas = self.replicas()
        names = frozenset(state.name for state in replicas)
        return (
            group.writable is not None
            and len(replicas) == len(self.states()) - 1 == self._replicas
            and (not replicas or not group.settings.synchronous or group.guard == names)
        )

    def whole(self) -> None:
        """Returns when it is."""
        eventually(self.is_whole, f"the group is whole: {self.told()}", WITHIN_S)

    def told(self) -> str:
        """States and decisions, for messages of tests."""
        states = [f"{state.name} {state.role} {state.state} {state.reason}" for state in self.states().values()]
        decisions = [f"{each.at[11:23]} {each.action}: {each.reason}" for each in self.journal.decisions()[-20:]]
        return "\n".join([*states, *decisions])

    def facts(self) -> facts.DatabaseFacts:
        assert self.plane is not None
        return facts.parse(self.plane.facts()).databases[0]

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A client's connection through the gateway."""
        return psycopg.connect(self.dsn, autocommit=True, **options)
