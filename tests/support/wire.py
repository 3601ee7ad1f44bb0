"""HTTP on bare sockets: a client that sees every byte, and a server that answers with exactly the bytes it is told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

TIMEOUT_S = 20.0


class Wire:
    """One connection, read as bytes, heads and messages. Any wait ends with TimeoutError after 20 s."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(TIMEOUT_S)
        self.socket = connection
        self._arrived = b""

    @classmethod
    def to(cls, address: str) -> Wire:
        host, _, port = address.rpartition(":")
        return cls(socket.create_connection((host, int(port)), timeout=TIMEOUT_S))

    def send(self, data: bytes) -> Wire:
        self.socket.sendall(data)
        return self

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self._arrived += data
        return bool(data)

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes, fewer only at the end."""
        while len(self._arrived) < count and self._more():
            pass
        data, self._arrived = self._arrived[:count], self._arrived[count:]
        return data

    def read_until(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`, or what there was when the other side closed."""
        while mark not in self._arrived and self._more():
            pass
        at = self._arrived.find(mark)
        return self.read(at + len(mark) if at >= 0 else len(self._arrived))

    def read_to_end(self) -> bytes:
        while self._more():
            pass
        return self.read(len(self._arrived))

    def message(self, *, bodiless: bool = False) -> Message:
        """One request or response with its body; a body without length is read to the end."""
        head = self.read_until(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        message = Message(start, fields, head)
        status = int(start.split()[1]) if start.startswith("HTTP/") else 0
        if bodiless or status in (204, 304) or 100 <= status < 200:
            return message
        if message.get("transfer-encoding") == "chunked":
            message.body = b"".join(self.chunks())
        elif (length := message.get("content-length")) is not None:
            message.body = self.read(int(length))
        elif status:
            message.body = self.read_to_end()
        return message

    def chunks(self) -> Iterator[bytes]:
        while size := int(self.read_until(b"\r\n").split(b";")[0], 16):
            yield self.read(size)
            self.read(2)
        while self.read_until(b"\r\n").strip():
            pass

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Message:
    """A request or response as it stood on the wire."""

    start: str
    fields: list[tuple[str, str]]
    raw_head: bytes
    body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.start.split()[1])

    @property
    def target(self) -> str:
        return self.start.split()[1]

    def get(self, name: str) -> str | None:
        """The only value of field `name`; fails when there are several."""
        values = [value for other, value in self.fields if other == name]
        assert len(values) < 2, f"{name} is there {len(values)} times"
        return values[0] if values else None


def respond(body: bytes = b"ok", status: str = "200 OK", **fields: str) -> bytes:
    """A plain response with a length."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


@dataclass
class Peer:
    """A server on a real socket. `behave` gets each connection and speaks for itself until it returns."""

    behave: Callable[[Wire, Peer], None]
    requests: list[Message] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError, AssertionError), Wire(connection) as wire:
            self.behave(wire, self)

    def request(self, wire: Wire) -> Message:
        """Reads the next request and remembers it."""
        message = wire.message()
        if not message.start:
            raise OSError("the gateway closed the connection")
        self.requests.append(message)
        return message

    def close(self) -> None:
        # shutdown wakes the thread that waits in accept; close alone would not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def answering(response: bytes | Callable[[Message], bytes]) -> Callable[[Wire, Peer], None]:
    """Behaviour: answer every request on a kept connection with `response`."""

    def behave(wire: Wire, peer: Peer) -> None:
        while True:
            message = peer.request(wire)
            wire.send(response(message) if callable(response) else response)

    return behave


@contextmanager
def peer(behave: Callable[[Wire, Peer], None] | bytes) -> Iterator[Peer]:
    """A running server that behaves as told, or answers everything with the given bytes."""
    running = Peer(answering(behave) if isinstance(behave, bytes) else behave)
    try:
        yield running
    finally:
        running.close()
