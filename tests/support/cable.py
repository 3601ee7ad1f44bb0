"""A TCP path to a port that can be cut: what is sent then arrives nowhere, nothing is closed, and nobody is told."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

_PIECE = 65536


class Cable:
    """Forwards from `port` to another port of the loopback, until it is closed."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._loop = asyncio.new_event_loop()
        self._whole = asyncio.Event()
        self._whole.set()
        self._fuse: tuple[bytes, bool] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._whole.clear)

    def cut_at(self, word: bytes, *, delivered: bool) -> None:
        """It is cut as soon as somebody sends these bytes in one piece to the port; whether that piece still arrives."""
        self._loop.call_soon_threadsafe(setattr, self, "_fuse", (word, delivered))

    @property
    def is_whole(self) -> bool:
        return self._whole.is_set()

    def mend(self) -> None:
        """What was on its way arrives now, as after a network has come back."""
        self._loop.call_soon_threadsafe(self._whole.set)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._join, "127.0.0.1", 0)

    async def _end(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._whole.wait()
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            self._tasks.discard(task)
            return
        ways = [
            asyncio.create_task(self._pump(reader, inner_writer, watched=True)),
            asyncio.create_task(self._pump(inner_reader, writer, watched=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            await self._whole.wait()
        except asyncio.CancelledError:
            # The end of the test. Passed on, it would be told as an error of this server's (Python 3.11).
            pass
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for each in (writer, inner_writer):
                each.close()
            self._tasks.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, watched: bool) -> None:
        with suppress(OSError):
            while piece := await source.read(_PIECE):
                if watched and self._fuse is not None and self._fuse[0] in piece:
                    _, delivered = self._fuse
                    self._fuse = None
                    self._whole.clear()
                    if delivered:
                        sink.write(piece)
                        await sink.drain()
                        continue
                await self._whole.wait()
                sink.write(piece)
                await sink.drain()
