"""Servers of limited strength: each works on a few requests at a time, as a WSGI server with its threads, for a known time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

AT_ONCE = 4
ENDING_S = 30.0
"""Longest wait at the end for requests in progress."""


@contextlib.asynccontextmanager
async def serving(slowness: Sequence[float]) -> AsyncIterator[list[str]]:
    """The addresses of one server for each number.

    A request for `/MICROSECONDS` takes that long, times the number of its server, from when one of `AT_ONCE` places is free.
    """
    writers: set[asyncio.StreamWriter] = set()
    listeners = [await _listen(times, writers) for times in slowness]
    try:
        yield [f"127.0.0.1:{listener.sockets[0].getsockname()[1]}" for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()
        for writer in list(writers):
            writer.transport.abort()
        async with asyncio.timeout(ENDING_S):
            while writers:
                await asyncio.sleep(0.01)


async def _listen(times: float, writers: set[asyncio.StreamWriter]) -> asyncio.Server:
    places = asyncio.Semaphore(AT_ONCE)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                async with places:
                    await asyncio.sleep(int(head.split(b" ", 2)[1].rpartition(b"/")[2]) / 1e6 * times)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writers.discard(writer)
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)
