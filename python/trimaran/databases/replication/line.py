"""Connections to a node, and questions over them, that never make their asker wait longer than it wants to."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

import psycopg

T = TypeVar("T")
Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_CLOSE_S = 0.1


class Unanswered(Exception):
    """The node did not answer; the text says how that looked."""


class Line:
    """A kept connection that is opened again when it has broken. Autocommit; for one user at a time."""

    def __init__(self, conninfo: Callable[[], str]) -> None:
        self._conninfo = conninfo
        self._connection: Connection | None = None

    async def connection(self) -> Connection:
        """The connection, opened when there is none that works. Raises psycopg.OperationalError."""
        if self._connection is None or self._connection.closed:
            self._connection = None
            self._connection = await psycopg.AsyncConnection.connect(self._conninfo(), autocommit=True)
        return self._connection

    def drop(self) -> None:
        """Cuts the connection off; whoever waits for an answer on it gets an error at once."""
        connection, self._connection = self._connection, None
        if connection is None or connection.closed:
            return
        # libpq owns the descriptor, so a copy of it is shut down. Closing alone would leave a waiter waiting.
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)


class Question(Generic[T]):
    """Something asked of a node. While it is open it is not asked again; the asker may go on without the answer."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._ask = ask
        self._task: asyncio.Task[T] | None = None
        self.since_s = 0.0
        """When it was asked, on the monotonic clock."""

    @property
    def is_open(self) -> bool:
        return self._task is not None and not self._task.done()

    def begin(self) -> None:
        """Asks, unless it is open."""
        if not self.is_open:
            self._task = asyncio.create_task(self._ask())
            self._task.add_done_callback(looked_at)
            self.since_s = time.monotonic()

    def result(self) -> T | None:
        """The answer to what was asked last; None when nothing was. Raises what the asking raised."""
        return None if self._task is None else self._task.result()

    async def fresh(self, timeout_s: float) -> T:
        """An answer to a question that is asked now. Raises Unanswered when it does not come in time.

        The late answer to an earlier question is thrown away: positions of before must not decide who is ahead.
        """
        deadline = time.monotonic() + timeout_s
        if self.is_open and not await self._done_by(deadline):
            raise Unanswered(f"has not answered for {time.monotonic() - self.since_s:.1f} s")
        self.begin()
        assert self._task is not None
        if not await self._done_by(deadline):
            raise Unanswered(f"does not answer within {timeout_s * 1000:.0f} ms")
        try:
            return self._task.result()
        except psycopg.Error as error:
            raise Unanswered(
                f"answers by an error: {str(error).strip().splitlines()[0] or type(error).__name__}"
            ) from error
        except OSError as error:
            raise Unanswered(f"cannot be reached: {error}") from error

    async def drop(self) -> None:
        """Gives the answer up. The connection it comes over is to be cut off first."""
        task, self._task = self._task, None
        if task is None:
            return
        if not task.done():
            await asyncio.wait({task}, timeout=_CLOSE_S)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CLOSE_S)

    async def _done_by(self, deadline: float) -> bool:
        assert self._task is not None
        done, _ = await asyncio.wait({self._task}, timeout=max(deadline - time.monotonic(), 0))
        return bool(done)


def looked_at(task: asyncio.Task[Any]) -> None:
    """An answer that nobody takes any more may be an error; asyncio would complain of it."""
    if not task.cancelled():
        task.exception()


async def row(connection: Connection, statement: str, parameters: tuple[object, ...] = ()) -> tuple[Any, ...]:
    """The one row that a statement answers. Raises psycopg.Error."""
    cursor = await connection.execute(statement.encode(), parameters or None)
    found = await cursor.fetchone()
    assert found is not None
    return found
