"""Requests at moments that are fixed in advance, whether or not earlier ones have been answered.

How long one takes is counted from the moment when it was due, not from when it was sent: a generator that waits for slow
answers before it sends more would leave out just the requests that suffer (coordinated omission).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

GIVE_UP_S = 30.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request to come."""

    due_s: float
    """From the beginning of the run; ascending."""
    target: str = "/"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an arrival."""

    arrival: Arrival
    status: int
    """0: the connection broke, or there was no answer within `GIVE_UP_S`."""
    took_s: float


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def send(port: int, arrivals: Iterable[Arrival]) -> list[Outcome]:
    """Send them all over kept connections, as many as it takes; the outcomes in the order of their ends."""
    idle: list[Connection] = []
    outcomes: list[Outcome] = []

    async def one(arrival: Arrival, due: float) -> None:
        try:
            reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
            status = await asyncio.wait_for(ask((reader, writer), arrival.target), GIVE_UP_S)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            outcomes.append(Outcome(arrival, 0, time.monotonic() - due))
            return
        outcomes.append(Outcome(arrival, status, time.monotonic() - due))
        # Proxies may close after an answer of their own.
        writer.close() if status != 200 else idle.append((reader, writer))

    began = time.monotonic()
    tasks = []
    for arrival in arrivals:
        due = began + arrival.due_s
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        tasks.append(asyncio.create_task(one(arrival, due)))
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    return outcomes


async def ask(connection: Connection, target: str = "/") -> int:
    """One request; its status."""
    reader, writer = connection
    writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length or 0))
    return int(head.split(b" ", 2)[1])
