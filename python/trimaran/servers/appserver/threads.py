"""WSGI apps on an ASGI server: a fixed number of threads runs the app, the server's event loop reads and writes.

A connection holds no thread; a request does, from the moment its body is there (or is larger than `_BODY_AT_ONCE`)
until the app has closed its response.
"""

from __future__ import annotations

import asyncio
import io
import logging
import queue
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import IO, Any, TypeVar

from .environ import environ_of
from .interfaces import Environ, Receive, Scope, Send, WSGIApp

_BODY_AT_ONCE = 262_144
"""Request bodies up to this size are read before a thread is taken; larger ones are read as the app asks for them."""

_FILE_BLOCK = 262_144

_HOP_BY_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
_BODILESS = frozenset((204, 304))

T = TypeVar("T")

logger = logging.getLogger("trimaran.appserver")


class ClientGone(OSError):
    """The client went away before its request was complete."""


class ThreadedWSGI:
    """An ASGI app that runs a WSGI app in `threads` threads. HTTP only."""

    def __init__(self, app: WSGIApp, threads: int) -> None:
        self._app = app
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"request-{number}", daemon=True)
            for number in range(1, threads + 1)
        ]
        for thread in self._threads:
            thread.start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        environ = environ_of(scope)
        environ["wsgi.file_wrapper"] = FileBlocks
        body = _Body(receive, asyncio.get_running_loop())
        try:
            environ["wsgi.input"] = await body.opened(environ)
        except ClientGone:
            return
        request = _Request(environ, body, send)
        self._requests.put(request)
        await request.answer()

    def stop(self) -> None:
        """End the threads once the last request is closed."""
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            request.run(self._app)
            # While waiting for the next one, nothing of this one is kept alive.
            del request


class FileBlocks:
    """wsgi.file_wrapper: a file in blocks large enough that handing them over costs little."""

    def __init__(self, file: IO[bytes], _size_hint: int = 0) -> None:
        self._file = file
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> FileBlocks:
        return self

    def __next__(self) -> bytes:
        block = self._file.read(_FILE_BLOCK)
        if not block:
            raise StopIteration
        return block


class _Request:
    """One request: `answer` runs in the event loop, `run` in a thread."""

    __slots__ = (
        "_answered",
        "_body",
        "_environ",
        "_headers",
        "_length",
        "_loop",
        "_send",
        "_started",
        "_status",
        "_watch",
    )

    def __init__(self, environ: Environ, body: _Body, send: Send) -> None:
        self._environ = environ
        self._body = body
        self._send = send
        self._loop = body.loop
        self._answered: asyncio.Future[bytes | None] = body.loop.create_future()
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._length: int | None = None
        self._started = False
        self._watch: asyncio.Task[None] | None = None

    async def answer(self) -> None:
        """Wait for the thread, and send what it left: everything, or only the end. Raises the app's error."""
        try:
            rest = await self._answered
        finally:
            if self._watch is not None:
                self._watch.cancel()
        if rest is None:
            return
        if not self._started:
            await self._send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await self._send({"type": "http.response.body", "body": rest, "more_body": False})

    def run(self, app: WSGIApp) -> None:
        """Call the app, hand its response to the loop, and close it."""
        result: Iterable[bytes] = ()
        try:
            result = app(self._environ, self._start_response)
            chunks = iter(result)
            rest = self._respond(result, chunks)
            self._done(rest)
            if rest is not None:
                # An app may have code after its last chunk.
                for _ in chunks:
                    pass
        except ClientGone:
            self._done(None)
        except BaseException as error:
            self._fail(error)
        finally:
            close: Callable[[], object] | None = getattr(result, "close", None)
            if close is not None:
                try:
                    close()
                except Exception:
                    logger.exception("the app failed to close its response to %s", self._environ.get("PATH_INFO"))

    def _respond(self, result: Iterable[bytes], chunks: Iterator[bytes]) -> bytes | None:
        """The last part of the response, when the others are sent. None when nobody wants it any more."""
        if isinstance(result, (list, tuple)) and not self._started:
            body = b"".join(result)
            self._check_started()
            return self._fitted(body)
        length = 0
        for chunk in chunks:
            self._check_started()
            if not chunk:
                continue
            length += len(chunk)
            if not self._started and length == self._length:
                # All of it: the usual response of a framework, sent in one go.
                return self._fitted(chunk)
            if not self._stream(chunk):
                return None
        self._check_started()
        return b""

    def _check_started(self) -> None:
        if not self._status:
            raise AssertionError("the app returned its response without a call of start_response")

    def _fitted(self, body: bytes) -> bytes:
        return b"" if self._status in _BODILESS else body

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        try:
            if self._started and exc_info is not None:
                raise exc_info[1].with_traceback(exc_info[2])
            if self._status and exc_info is None:
                raise AssertionError("start_response was called twice without exc_info")
        finally:
            exc_info = None
        self._status = int(status[:3])
        self._length = None
        encoded = []
        for name, value in headers:
            lower = name.lower()
            if lower in _HOP_BY_HOP:
                continue
            if lower == "content-length":
                if self._status in _BODILESS:
                    continue
                self._length = int(value)
            encoded.append((lower.encode("latin-1"), value.encode("latin-1")))
        self._headers = encoded
        return self._write

    def _write(self, data: bytes) -> None:
        """The function that start_response returns (PEP 3333, "The write() Callable")."""
        if data and not self._stream(data):
            raise ClientGone("the client has gone")

    def _stream(self, chunk: bytes) -> bool:
        """Send a part that is not the last. False when the client has gone. Waits while the client is slow."""
        return self._body.in_loop(self._send_part(self._fitted(chunk)))

    async def _send_part(self, chunk: bytes) -> bool:
        if not self._started:
            self._started = True
            await self._send({"type": "http.response.start", "status": self._status, "headers": self._headers})
            self._watch = self._loop.create_task(self._body.watch())
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        return not self._body.gone

    def _done(self, rest: bytes | None) -> None:
        self._loop.call_soon_threadsafe(self._settle, rest, None)

    def _fail(self, error: BaseException) -> None:
        # The loop thread adds its own frames to the traceback; the app's are in there already.
        self._loop.call_soon_threadsafe(self._settle, None, error)

    def _settle(self, rest: bytes | None, error: BaseException | None) -> None:
        if self._answered.done():
            if error is not None:
                logger.error("the app failed after the end of its response", exc_info=error)
            return
        if error is None:
            self._answered.set_result(rest)
        elif isinstance(error, Exception) and not isinstance(error, StopIteration):
            self._answered.set_exception(error)
        else:
            # A future cannot carry StopIteration, and SystemExit would end the event loop.
            failure = RuntimeError(f"the app raised {type(error).__name__}: {error}")
            failure.__cause__ = error
            self._answered.set_exception(failure)


class _Body(io.RawIOBase):
    """The request body, read from a thread while it arrives in the event loop."""

    def __init__(self, receive: Receive, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.gone = False
        """The client went away."""
        self._receive = receive
        self._ended = False
        self._rest = memoryview(b"")

    async def opened(self, environ: Environ) -> Any:
        """wsgi.input: the whole body in memory when it is small, else this stream, buffered."""
        length = environ.get("CONTENT_LENGTH")
        if length is None and "HTTP_TRANSFER_ENCODING" not in environ:
            self._ended = True
            return io.BytesIO()
        if length is None or not length.isdecimal() or int(length) > _BODY_AT_ONCE:
            return io.BufferedReader(self, 65_536)
        parts = []
        while not self._ended and not self.gone:
            parts.append(await self._next())
        return io.BytesIO(b"".join(parts))

    async def watch(self) -> None:
        """Notice that the client goes away, once the body is read; before that, the reader notices it."""
        while self._ended and not self.gone:
            await self._next()

    def in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the event loop and wait for it, in a thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest and not self._ended:
            self._rest = memoryview(self.in_loop(self._next()))
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            if not self._ended:
                raise ClientGone("the client went away before its request body was complete")
            return b""
        self._ended = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body
