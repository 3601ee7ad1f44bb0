"""A client that says exactly what a test tells it to, byte for byte."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

Message = tuple[bytes, bytes]

_LIMIT_S = 20.0


class Ended(Exception):
    """The other side has closed the connection."""


class Refused(AssertionError):
    """The other side lets nobody in; its error is the argument."""


def message(tag: bytes, contents: bytes = b"") -> bytes:
    """A message with the right length."""
    return tag + struct.pack("!i", len(contents) + 4) + contents


def startup(parameters: dict[str, str], version: int = 3 << 16) -> bytes:
    """A start-up packet."""
    pairs = b"".join(part.encode() + b"\0" for pair in parameters.items() for part in pair)
    return packet(struct.pack("!i", version) + pairs + b"\0")


def packet(contents: bytes) -> bytes:
    """A message without a type, as connections begin with."""
    return struct.pack("!i", len(contents) + 4) + contents


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def query(sql: str) -> bytes:
    return message(b"Q", text(sql))


def parse(name: str, sql: str, types: tuple[int, ...] = ()) -> bytes:
    return message(b"P", text(name) + text(sql) + struct.pack(f"!h{len(types)}i", len(types), *types))


def bind(portal: str, statement: str, *values: bytes) -> bytes:
    given = b"".join(struct.pack("!i", len(value)) + value for value in values)
    return message(b"B", text(portal) + text(statement) + struct.pack("!hh", 0, len(values)) + given + b"\0\0")


def execute(portal: str = "", rows: int = 0) -> bytes:
    return message(b"E", text(portal) + struct.pack("!i", rows))


SYNC, FLUSH, TERMINATE = message(b"S"), message(b"H"), message(b"X")


class Raw:
    """One connection. What comes is checked to consist of whole messages."""

    def __init__(self, dsn: str) -> None:
        self._place = urlsplit(dsn)
        address = (self._place.hostname, self._place.port)
        self.socket = socket.create_connection(address, timeout=_LIMIT_S)
        self._arrived = b""

    def send(self, data: bytes) -> None:
        """Send it; that the other side has closed already is found out by reading."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def receive(self) -> Message:
        """The next message. Raises Ended; an end within a message is a failure."""
        head = self._take(5)
        length = struct.unpack("!i", head[1:])[0]
        assert length >= 4, f"malformed message: {head!r}"
        return head[:1], self._take(length - 4)

    def _take(self, count: int) -> bytes:
        while len(self._arrived) < count:
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                assert not self._arrived, f"the connection ended within a message: {self._arrived[:80]!r}"
                raise Ended
            self._arrived += more
        taken, self._arrived = self._arrived[:count], self._arrived[count:]
        return taken

    def until_ready(self) -> list[Message]:
        """Everything up to ReadyForQuery."""
        found = [self.receive()]
        while found[-1][0] != b"Z":
            found.append(self.receive())
        return found

    def until_ready_or_end(self) -> list[Message]:
        """Everything up to ReadyForQuery or the end of the connection."""
        found: list[Message] = []
        try:
            while not found or found[-1][0] != b"Z":
                found.append(self.receive())
        except Ended:
            pass
        return found

    def until_end(self) -> list[Message]:
        """Everything up to the end of the connection."""
        found: list[Message] = []
        try:
            while True:
                found.append(self.receive())
        except Ended:
            return found

    def ask(self, sql: str) -> list[Message]:
        self.send(query(sql))
        return self.until_ready()

    def log_in(self, version: int = 3 << 16, **parameters: str) -> list[Message]:
        """Start-up and SCRAM; everything that comes after AuthenticationOk up to ReadyForQuery."""
        self.begin(version, **parameters)
        return self.until_ready()

    def begin(self, version: int = 3 << 16, **parameters: str) -> None:
        """The same up to AuthenticationOk."""
        user, password = self._place.username or "", unquote(self._place.password or "")
        self.send(startup({"user": user, "database": self._place.path[1:], **parameters}, version))
        self.prove(password)

    def encrypt(self, context: ssl.SSLContext, name: str) -> None:
        """TLS, asked for by an SSLRequest."""
        self.send(packet(struct.pack("!i", 80877103)))
        assert self.socket.recv(1) == b"S"
        self.socket = context.wrap_socket(self.socket, server_hostname=name)

    def prove(self, password: str) -> None:
        """SCRAM-SHA-256 up to its end (RFC 5802)."""
        tag, contents = self.receive()
        if tag == b"v":
            tag, contents = self.receive()
        if tag == b"E":
            raise Refused(contents)
        assert (tag, contents[:4]) == (b"R", struct.pack("!i", 10)), contents
        bare = b"n=,r=fyko+d2lbbFgONRv9qkxdawL"
        first = b"n,," + bare
        self.send(message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first))
        tag, contents = self.receive()
        server_first = contents[4:]
        given = dict(part.split(b"=", 1) for part in server_first.split(b","))
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(given[b"s"]), int(given[b"i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = b"c=biws,r=" + given[b"r"]
        signed = b",".join((bare, server_first, without_proof))
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        self.send(message(b"p", without_proof + b",p=" + base64.b64encode(proof)))
        while True:
            tag, contents = self.receive()
            if tag == b"R" and contents[:4] == struct.pack("!i", 0):
                return
            if tag == b"E":
                raise Refused(contents)
            assert tag == b"R", (tag, contents)

    def close(self) -> None:
        self.socket.close()


@contextmanager
def connected(dsn: str) -> Iterator[Raw]:
    """A connection before its start-up packet."""
    raw = Raw(dsn)
    try:
        yield raw
    finally:
        raw.close()


@contextmanager
def session(dsn: str, version: int = 3 << 16, **parameters: str) -> Iterator[Raw]:
    """A connection that has logged in."""
    with connected(dsn) as raw:
        raw.log_in(version, **parameters)
        yield raw


def tags(messages: list[Message]) -> str:
    """Their kinds, a letter each."""
    return b"".join(tag for tag, _ in messages).decode()


def fields(report: bytes) -> dict[str, str]:
    """The fields of an error or a notice, by their letters."""
    return {part[:1].decode(): part[1:].decode() for part in report.split(b"\0") if part}


def errors(messages: list[Message]) -> list[str]:
    """The SQLSTATEs of all errors."""
    return [fields(contents)["C"] for tag, contents in messages if tag == b"E"]


def rows(messages: list[Message]) -> list[tuple[str | None, ...]]:
    """The rows, as text."""
    found = []
    for tag, contents in messages:
        if tag == b"D":
            found.append(_row(contents))
    return found


def _row(contents: bytes) -> tuple[str | None, ...]:
    count, at, values = struct.unpack("!h", contents[:2])[0], 2, []
    for _ in range(count):
        length = struct.unpack("!i", contents[at : at + 4])[0]
        at += 4
        values.append(None if length < 0 else contents[at : at + length].decode())
        at += max(length, 0)
    return tuple(values)
