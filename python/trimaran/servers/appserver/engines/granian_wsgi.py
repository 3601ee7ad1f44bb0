"""granian for WSGI apps, with what PEP 3333 asks for and granian 2.8 lacks, as far as that can be added from outside.

Added here: `readline`, `readlines` and `read(-1)` of the request body, `write()`, and an error instead of a hung
connection when the body is not as long as its Content-Length. What cannot be added is in docs/app-servers.md.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, cast

from ..interfaces import App, Environ, WSGIApp
from ..logs import to_stderr
from . import Site, granian_worker

ExcInfo = tuple[type[BaseException], BaseException, TracebackType]


def serve(app: App, site: Site) -> None:
    """See `engines.Serve`."""
    to_stderr("_granian")
    stopping = granian_worker.native.WorkerSignal()
    stopped = threading.Event()
    stopping.add_cb(stopped.set)
    signal.signal(signal.SIGTERM, lambda _signal, _frame: stopping.set())
    worker = granian_worker.native.WSGIWorker(
        1,
        (None, granian_worker.holder(site.listener)),
        None,
        threads=granian_worker.IO_THREADS,
        blocking_threads=granian_worker.BLOCKING_IO_THREADS,
        py_threads=site.threads,
        py_threads_idle_timeout=granian_worker.THREAD_IDLE_S,
        backpressure=granian_worker.CONNECTIONS_MAX,
        http_mode="1",
        http1_opts=granian_worker.http1_settings(),
    )
    # The scheduler wants a loop, even though nothing of a WSGI app ever runs on it.
    loop = asyncio.new_event_loop()
    scheduler = granian_worker.futures._new_cbscheduler(loop, _handler(cast(WSGIApp, app)), impl_asyncio=True)
    worker.serve_mtr_uds(scheduler, loop, stopping)
    site.ready()
    stopped.wait()
    loop.close()


def _handler(app: WSGIApp) -> Callable[[Any, Environ], None]:
    """What granian calls in one of its threads for each request."""

    def handle(protocol: Any, environ: Environ) -> None:
        response = _Response()
        environ["wsgi.version"] = (1, 0)
        environ["wsgi.errors"] = sys.stderr
        environ["wsgi.run_once"] = False
        environ["wsgi.input_terminated"] = True
        environ["wsgi.input"] = io.BufferedReader(_Body(environ["wsgi.input"]))
        environ["SCRIPT_NAME"] = ""
        result = app(environ, response.start)
        if isinstance(result, list) and not response.written:
            body = b"".join(result)
            response.check_length(len(body), environ["REQUEST_METHOD"])
            protocol.response_bytes(response.status, response.headers, body)
        else:
            chunks = _Chunks(result, response)
            protocol.response_iter(response.status, response.headers, chunks)

    return handle


class _Response:
    """What the app says with `start_response` and `write`."""

    __slots__ = ("headers", "status", "written")

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.written: list[bytes] = []

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        if self.status and exc_info is None:
            raise AssertionError("start_response was called twice without exc_info")
        self.status = int(status[:3])
        self.headers = headers
        return self.written.append

    def check_length(self, length: int, method: str) -> None:
        if method == "HEAD" or self.status in (204, 304):
            return
        for name, value in self.headers:
            if name.lower() == "content-length" and int(value) != length:
                raise ValueError(f"the response has {length} bytes, but its Content-Length is {value}")


class _Chunks:
    """The response body as an iterator with the `close` of the app's own.

    The first chunk is fetched at once, because the app may call `start_response` as late as that.
    """

    def __init__(self, result: Iterable[bytes], response: _Response) -> None:
        self._close: Callable[[], object] | None = getattr(result, "close", None)
        try:
            chunks = iter(result)
            first = [] if response.status else list(itertools.islice(chunks, 1))
        except BaseException:
            self.close()
            raise
        if not response.status:
            self.close()
            raise AssertionError("the app did not call start_response")
        self._chunks = itertools.chain(response.written, first, chunks)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """Close the app's iterable once; granian calls this twice when the client goes away."""
        close, self._close = self._close, None
        if close is not None:
            close()


class _Body(io.RawIOBase):
    """granian's request body as raw input; buffering and lines are the standard library's."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._body.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
