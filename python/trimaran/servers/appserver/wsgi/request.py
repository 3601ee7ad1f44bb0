"""A request as it is parsed: its WSGI environ (PEP 3333), and as much of its body as has arrived."""

from __future__ import annotations

import functools
import io
import sys
from collections import deque
from typing import IO, Any
from urllib.parse import unquote_to_bytes

import httptools

from ..interfaces import Environ
from .wire import RECEIVE, Wire

_BODY_AT_ONCE = 262_144
"""Request bodies up to this size are read before the app is called; larger ones are read as the app asks for them."""

_BODY_UNREAD = 1_048_576
"""What an app leaves of a body is read for the sake of the connection, up to this size."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_CONSTANT: Environ = {
    "SCRIPT_NAME": "",
    "wsgi.version": (1, 0),
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,
}


class Request:
    """The next request of a connection; `feed` is given bytes until `environ` is there.

    Values in the environ are bytes in the guise of Latin-1, as PEP 3333 wants them. Names with an underscore are
    dropped, because they would be confused with their twins with dashes. Raises httptools.HttpParserError.
    """

    __slots__ = ("_fields", "_left", "_parser", "_target", "_wire", "body", "complete", "environ", "last")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._parser = httptools.HttpRequestParser(self)
        self._fields: Environ = {}
        self._target = b""
        self._left = 0
        """Bytes of the body that have not arrived; not more than 0 where its length was not told."""
        self.environ: Environ | None = None
        """Everything but wsgi.input and what `forwarded` adds; None until the whole head has arrived."""
        self.body: deque[bytes] = deque()
        self.complete = False
        self.last = False
        """Whether the connection must end after it."""

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # WSGI knows no other protocol. The request is answered as if it had not asked, and is the last.
            self.complete = self.last = True

    def input(self) -> IO[bytes]:
        """wsgi.input: the whole body in memory when it is small, else a stream that reads on. Raises PeerGone."""
        if self.complete:
            return io.BytesIO(b"".join(self.body) if self.body else b"")
        assert self.environ is not None
        if self.environ.get("HTTP_EXPECT", "").lower() == "100-continue":
            self._wire.send(_CONTINUE)
        if not 0 < self._left <= _BODY_AT_ONCE:
            return io.BufferedReader(_Stream(self), 65_536)
        while not self.complete:
            self._receive()
        return io.BytesIO(b"".join(self.body))

    def next_part(self) -> bytes:
        """More of the body, empty at its end. Raises PeerGone."""
        while not self.body and not self.complete:
            self._receive()
        return self.body.popleft() if self.body else b""

    def is_last(self) -> bool:
        """Whether the connection ends after it: so it was said, or too much is left of the body.

        Of a body in chunks nothing may be left, because the next request may follow at once, and where it begins is
        not known before.
        """
        return self.last or not (self.complete or 0 < self._left <= _BODY_UNREAD)

    def finish(self) -> None:
        """Read what the app has left of the body, and be ready for the next request. Raises PeerGone."""
        while not self.complete:
            self.body.clear()
            self._receive()
        self._fields = {}
        self.environ = None
        self.body.clear()
        self.complete = False

    def _receive(self) -> None:
        """More of the body, and nothing of what comes after it, as far as that is known."""
        self.feed(self._wire.receive(min(RECEIVE, self._left) if self._left > 0 else RECEIVE))

    def on_message_begin(self) -> None:
        # A request that was sent without waiting for the response: this one ends the connection, and it is sent again.
        if self.complete:
            self.last = True

    def on_url(self, part: bytes) -> None:
        if not self.complete:
            self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        key = _key(name)
        if key is None or self.complete:
            return
        text = value.decode("latin-1")
        fields = self._fields
        if key in fields:
            # Cookie is the one field whose values are not joined by commas (RFC 9113, section 8.2.3).
            text = fields[key] + ("; " if key == "HTTP_COOKIE" else ",") + text
        fields[key] = text

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        path, _, query = self._target.partition(b"?")
        self._target = b""
        parser = self._parser
        environ = self._fields
        environ.update(_CONSTANT)
        environ["REQUEST_METHOD"] = parser.get_method().decode("latin-1")
        environ["PATH_INFO"] = (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1")
        environ["QUERY_STRING"] = query.decode("latin-1")
        environ["SERVER_PROTOCOL"] = "HTTP/" + parser.get_http_version()
        environ["wsgi.errors"] = sys.stderr
        self.last = not parser.should_keep_alive()
        self._left = int(environ.get("CONTENT_LENGTH", 0))
        self.environ = environ

    def on_body(self, part: bytes) -> None:
        if not self.complete:
            self.body.append(part)
            self._left -= len(part)

    def on_message_complete(self) -> None:
        self.complete = True


class _Stream(io.RawIOBase):
    """The body of a request, read from the connection as the app asks for it."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(self._request.next_part())
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


@functools.lru_cache(maxsize=512)
def _key(name: bytes) -> str | None:
    if b"_" in name:
        return None
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key
