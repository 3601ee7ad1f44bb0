"""A response as a WSGI app gives it (PEP 3333), put on the connection."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any

from ..interfaces import Environ
from .request import Request
from .wire import Wire

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
_BODILESS = ("204", "304")


class BadResponse(Exception):
    """What the app returned cannot be sent as a response."""


class Response:
    """One response. `start` is the app's start_response; nothing is sent before there is a body, or its end."""

    __slots__ = (
        "_bare",
        "_chunked",
        "_headers",
        "_length",
        "_modern",
        "_request",
        "_sent",
        "_status",
        "_wire",
        "last",
        "started",
    )

    def __init__(self, wire: Wire, request: Request, environ: Environ) -> None:
        self._wire = wire
        self._request = request
        self._bare = environ["REQUEST_METHOD"] == "HEAD"
        self._modern = environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        self._status = ""
        self._headers: list[tuple[str, str]] = []
        self._length: int | None = None
        self._chunked = False
        self._sent = 0
        self.started = False
        self.last = False
        """Whether the connection ends after it."""

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        try:
            if self.started and exc_info is not None:
                raise exc_info[1].with_traceback(exc_info[2])
            if self._status and exc_info is None:
                raise AssertionError("start_response was called twice without exc_info")
        finally:
            exc_info = None
        if not (status[:3].isdecimal() and "200" <= status[:3] <= "999"):
            raise BadResponse(f"the app gave the status {status!r}")
        self._status = status
        self._headers = headers
        return self._write

    def send(self, result: Iterable[bytes]) -> None:
        """Send what the app returned, to its end. Raises PeerGone, BadResponse and whatever the app raises."""
        if isinstance(result, (list, tuple)) and not self.started:
            self._send_whole(result[0] if len(result) == 1 else b"".join(result))
            return
        chunks = iter(result)
        for chunk in chunks:
            if not chunk:
                continue
            if not self.started:
                self._find_length()
                if len(chunk) == self._length:
                    # All of it: the usual response of a framework, sent in one go.
                    self._send_whole(chunk)
                    # An app may have code after its last chunk.
                    for more in chunks:
                        if more:
                            self._send_part(more)
                    return
            self._send_part(chunk)
        if not self.started:
            self._send_whole(b"")
            return
        self._end()

    def fail(self) -> bool:
        """Answer with 500 for an app that raised. False when it is too late for that: the response must break off."""
        if self.started:
            return False
        self._status, self._headers = "500 Internal Server Error", [("Content-Type", "text/plain")]
        self._length, self._chunked = None, False
        self._send_whole(b"Internal Server Error")
        return True

    def _send_whole(self, body: bytes) -> None:
        self._find_length()
        if self._bare or self._status[:3] in _BODILESS:
            body = b""
        elif self._length is None:
            self._length = len(body)
            self._headers = [*self._headers, ("Content-Length", str(len(body)))]
        elif self._length != len(body):
            raise BadResponse(f"the response has {len(body)} bytes, but its Content-Length is {self._length}")
        head = self._head()
        self.started = True
        self._sent = len(body)
        self._wire.send(head, body)

    def _send_part(self, chunk: bytes) -> None:
        head = b""
        if not self.started:
            self._find_length()
            bodiless = self._bare or self._status[:3] in _BODILESS
            self._chunked = self._length is None and self._modern and not bodiless
            self.last = self._length is None and not self._modern and not bodiless
            head = self._head()
            self.started = True
        self._sent += len(chunk)
        if self._bare or self._status[:3] in _BODILESS:
            chunk = b""
        elif self._length is not None and self._sent > self._length:
            raise BadResponse(f"the response is longer than its Content-Length of {self._length}")
        elif self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(chunk), chunk)
        if head or chunk:
            self._wire.send(head, chunk) if head else self._wire.send(chunk)

    def _end(self) -> None:
        if self._chunked:
            self._wire.send(b"0\r\n\r\n")
        elif self._length is not None and self._sent < self._length and not self._bare:
            raise BadResponse(f"the response has {self._sent} bytes, but its Content-Length is {self._length}")

    def _write(self, data: bytes) -> None:
        """The function that start_response returns (PEP 3333, "The write() Callable")."""
        if data:
            self._send_part(data)

    def _find_length(self) -> None:
        if not self._status:
            raise BadResponse("the app returned its response without a call of start_response")
        for name, value in self._headers:
            if len(name) == 14 and name.lower() == "content-length":
                self._length = int(value)

    def _head(self) -> bytes:
        lines = [f"HTTP/1.1 {self._status}"]
        dated = False
        for name, value in self._headers:
            lower = name.lower()
            if lower in _HOP_BY_HOP or (lower == "content-length" and self._status[:3] in _BODILESS):
                continue
            dated = dated or lower == "date"
            lines.append(f"{name}: {value}")
        if not dated:
            lines.append(_date(int(time.time())))
        if self._chunked:
            lines.append("Transfer-Encoding: chunked")
        self.last = self.last or self._request.is_last()
        if self.last:
            lines.append("Connection: close")
        head = "\r\n".join(lines)
        # A line break inside of a field would begin another one.
        if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1 or "\0" in head:
            raise BadResponse("the app put a control character into its status or a header")
        return head.encode("latin-1") + b"\r\n\r\n"


class FileBlocks:
    """wsgi.file_wrapper: a file in blocks large enough that handing them over costs little."""

    def __init__(self, file: Any, _size_hint: int = 0) -> None:
        self._file = file
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> FileBlocks:
        return self

    def __next__(self) -> bytes:
        block: bytes = self._file.read(_FILE_BLOCK)
        if not block:
            raise StopIteration
        return block


@functools.lru_cache(maxsize=2)
def _date(second: int) -> str:
    return "Date: " + formatdate(second, usegmt=True)
