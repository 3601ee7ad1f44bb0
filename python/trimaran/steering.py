"""`Control` for other threads: each call is carried out by the supervisor's event loop, and waited for."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from trimaran.control import Status
from trimaran.errors import TrimaranError
from trimaran.facts import PlanFacts

if TYPE_CHECKING:
    from trimaran.databases.service import DatabaseService
    from trimaran.supervisor import Supervisor

T = TypeVar("T")
_ANSWER_S = 5.0
_COMMAND_S = 120.0
"""Reload and drain wait for new servers to boot."""


class Steering:
    """Implements `trimaran.control.Control`."""

    def __init__(self, supervisor: Supervisor, loop: asyncio.AbstractEventLoop) -> None:
        self._supervisor = supervisor
        self._loop = loop

    def status(self) -> Status:
        return self._ask(lambda: self._supervisor.observer().status())

    def metrics(self) -> str:
        return self._ask(lambda: self._supervisor.observer().metrics())

    def scale(self, pool: str, count: int) -> str:
        return self._wait(self._supervisor.scale(pool, count), _COMMAND_S)

    def drain(self, server: str) -> str:
        return self._wait(self._supervisor.drain(server), _COMMAND_S)

    def reload(self) -> str:
        return self._wait(self._supervisor.reload(), _COMMAND_S)

    def promote(self, node: str) -> str:
        return self._wait(self._databases().promote(node), _COMMAND_S)

    def add_replica(self, database: str) -> str:
        return self._wait(self._databases().add_replica(database), _COMMAND_S)

    def remove_replica(self, node: str) -> str:
        return self._wait(self._databases().remove_replica(node), _COMMAND_S)

    def plans(self, database: str) -> list[PlanFacts]:
        return self._ask(lambda: self._databases().plans(database))

    def dsn(self, database: str, node: str, *, console: bool) -> str:
        return self._ask(lambda: self._databases().dsn(database, node, console=console))

    def _databases(self) -> DatabaseService:
        return self._supervisor.database_service()

    def _ask(self, question: Callable[[], T]) -> T:
        async def answer() -> T:
            return question()

        return self._wait(answer(), _ANSWER_S)

    def _wait(self, work: Coroutine[Any, Any, T], limit_s: float) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(limit_s)
        except concurrent.futures.TimeoutError:
            raise TrimaranError(f"no answer within {limit_s:g} s; it may still be done") from None
