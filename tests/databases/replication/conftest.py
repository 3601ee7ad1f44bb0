"""Groups of real nodes, and clients that remember what was acknowledged to them."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from trimaran.config.model import Database
from trimaran.databases.group import DatabaseGroup, MemberState
from trimaran.journal import Journal

WITHIN_S = 90.0


@dataclass
class Watched:
    """A running group, what it decided, and every state that it published."""

    group: DatabaseGroup
    journal: Journal
    reports: list[str]
    published: list[str | None] = field(default_factory=list)

    def state(self, name: str) -> MemberState:
        return next(state for state in self.group.states() if state.name == name)

    def names(self, role: str) -> list[str]:
        return [state.name for state in self.group.states() if state.role == role]

    @property
    def primary(self) -> MemberState:
        return self.state(self.names("primary")[0])

    def decisions(self) -> list[str]:
        return [f"{decision.action}: {decision.reason}" for decision in self.journal.decisions()]

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {WITHIN_S:g} s: {what}; {self.group.states()}; {self.decisions()}")
            await asyncio.sleep(0.01)

    async def whole(self, replicas: int) -> None:
        """Returns when that many replicas follow and, of a synchronous group, are waited for and guard every commit."""

        def is_whole() -> bool:
            names = self.names("replica")
            enough = len(names) == replicas and len(self.group.states()) == replicas + 1
            return (
                enough
                and self.group.writable is not None
                and (not self.group.settings.synchronous or self.guards(names))
            )

        await self.until(is_whole, f"{replicas} replicas")

    def guards(self, names: list[str]) -> bool:
        return self.group.guard == frozenset(names)

    async def execute(self, statement: str, dsn: str = "") -> list[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(dsn or self.group.dsn, autocommit=True) as connection:
            cursor = await connection.execute(statement.encode())
            return await cursor.fetchall() if cursor.description else []

    def dsn_of(self, name: str) -> str:
        return next(member.dsn for member in self.group.members() if member.name == name)


@asynccontextmanager
async def running(state: Path, **settings: Any) -> AsyncIterator[Watched]:
    """A group with these settings on a state directory."""
    journal, reports = Journal(), []
    group = DatabaseGroup("main", Database(**settings), state, journal)
    watched = Watched(group, journal, reports)

    async def changed() -> None:
        watched.published.append(group.writable)

    group.changed = changed
    await group.start(reports.append)
    try:
        yield watched
    finally:
        await group.stop()


def data_of(state: Path, directory: str) -> Path:
    """The data directory of the node in `databases/DIRECTORY`; under root it is elsewhere."""
    own = state / "databases" / directory
    return Path(json.loads((own / "node.json").read_text())["home"] or own) / "data"


def remove_homes(state: Path) -> None:
    """Under root the data is elsewhere."""
    for record in state.glob("databases/*/node.json"):
        if home := json.loads(record.read_text())["home"]:
            shutil.rmtree(Path(home).parent, ignore_errors=True)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    """A state directory of its own."""
    directory = tmp_path / "state"
    yield directory
    remove_homes(directory)


class Writers:
    """Clients that each insert numbers one after another, and note those that were acknowledged."""

    def __init__(self, watched: Watched, count: int = 4) -> None:
        self._watched = watched
        self._count = count
        self._tasks: list[asyncio.Task[None]] = []
        self.acknowledged: set[int] = set()
        self.failures = 0
        self._next = 0
        self._over = False

    async def __aenter__(self) -> Writers:
        await self._watched.execute("CREATE TABLE IF NOT EXISTS written (number bigint PRIMARY KEY)")
        self._next = (await self._watched.execute("SELECT coalesce(max(number), 0) FROM written"))[0][0]
        self._tasks = [asyncio.create_task(self._run()) for _ in range(self._count)]
        await self.more(20)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await asyncio.wait(self._tasks, timeout=WITHIN_S)

    async def more(self, count: int) -> None:
        """Returns when so many further writes have been acknowledged."""
        goal = len(self.acknowledged) + count
        await self._watched.until(lambda: len(self.acknowledged) >= goal, f"{count} more writes")

    async def lost(self) -> set[int]:
        """What was acknowledged and is not there."""
        rows = await self._watched.execute("SELECT number FROM written")
        return self.acknowledged - {row[0] for row in rows}

    async def _run(self) -> None:
        while not self._over:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    self._watched.group.dsn, autocommit=True, connect_timeout=2
                )
                async with connection:
                    while not self._over:
                        self._next += 1
                        number = self._next
                        async with asyncio.timeout(2):
                            await connection.execute("INSERT INTO written VALUES (%s)", (number,))
                        self.acknowledged.add(number)
            except (psycopg.Error, OSError, TimeoutError):
                self.failures += 1
                await asyncio.sleep(0.02)
