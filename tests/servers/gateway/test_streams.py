"""Streams in both directions, upgrades, and clients that are slow or gone."""

from __future__ import annotations

import base64
import hashlib
import threading
from contextlib import suppress

import pytest

from tests.support.gate import Gate
from tests.support.waiting import eventually
from tests.support.wire import Message, Peer, Wire, respond

from .conftest import Serve, Start

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def _accept(key: str) -> str:
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def _echo(wire: Wire, peer: Peer) -> None:
    """Accepts an upgrade, then sends back what comes."""
    request = peer.request(wire)
    wire.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        + f"Sec-WebSocket-Accept: {_accept(request.get('sec-websocket-key') or '')}\r\n\r\n".encode()
    )
    while data := wire.read(1):
        wire.send(data)


def test_events_arrive_as_they_are_made(serve: Serve, start: Start) -> None:
    taken = [threading.Event() for _ in range(3)]

    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(EVENTS)
        for number, event in enumerate(taken):
            wire.send(b"9\r\ndata: %d\n\n\r\n" % number)
            if not event.wait(20):
                return
        wire.send(b"0\r\n\r\n")

    gateway = start(serve(behave))
    with gateway.connect() as client:
        head = client.send(GET).read_until(b"\r\n\r\n")
        assert b"text/event-stream" in head
        # The next event is made only when the one before has been seen here.
        for number, event in enumerate(taken):
            assert client.read_until(b"\n\n\r\n").endswith(b"data: %d\n\n\r\n" % number)
            event.set()
        assert client.read_until(b"0\r\n\r\n").endswith(b"0\r\n\r\n")


def test_an_event_stream_holds_no_slot(serve: Serve, start: Start) -> None:
    def behave(wire: Wire, peer: Peer) -> None:
        while True:
            if peer.request(wire).target == "/events":
                wire.send(EVENTS)
                wire.read(1)
            else:
                wire.send(respond())

    gateway = start(serve(behave), each={"in_flight_max": 1})
    with gateway.connect() as client:
        client.send(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").read_until(b"\r\n\r\n")
        eventually(lambda: (gateway.server(1).in_flight, gateway.server(1).streams) == (0, 1), "one stream, no slot")
        assert gateway.ask().status == 200


def test_a_websocket(serve: Serve, start: Start) -> None:
    gateway = start(serve(_echo))
    with gateway.connect() as client:
        # The first frame may come together with the head of the request.
        answer = client.send(UPGRADE + b"\x81\x02hi").message()
        assert (answer.status, answer.get("upgrade")) == (101, "websocket")
        assert answer.get("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert client.read(4) == b"\x81\x02hi"
        for size in (1, 1000, 100_000):
            assert client.send(b"x" * size).read(size) == b"x" * size
        eventually(lambda: gateway.server(1).streams == 1, "it is counted as a stream")
    eventually(lambda: gateway.server(1).streams == 0, "the server sees the end")


def test_a_refused_upgrade_is_an_ordinary_response(serve: Serve, start: Start) -> None:
    gateway = start(serve(respond(b"no", "403 Forbidden")))
    with gateway.connect() as client:
        answer = client.send(UPGRADE).message()
        assert (answer.status, answer.body) == (403, b"no")
        assert client.send(GET).message().status == 403


def test_an_upgrade_nobody_asked_for_is_refused(serve: Serve, start: Start) -> None:
    gateway = start(serve(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"))
    assert gateway.ask().status == 502


def test_a_silent_stream_ends(serve: Serve, start: Start) -> None:
    gateway = start(serve(_echo), http={"stream_idle_timeout_ms": 100})
    with gateway.connect() as client:
        client.send(UPGRADE).read_until(b"\r\n\r\n")
        assert client.read_to_end() == b""


def test_an_upload_is_streamed_when_buffering_is_off(serve: Serve, start: Start) -> None:
    arrived: list[bytes] = []

    def behave(wire: Wire, peer: Peer) -> None:
        wire.read_until(b"\r\n\r\n")
        for _ in range(2):
            arrived.append(wire.read(5))
        wire.send(respond())

    gateway = start(serve(behave), http={"request_buffering": "off"})
    with gateway.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst")
        eventually(lambda: arrived == [b"first"], "the first half is at the server")
        assert client.send(b"later").message().status == 200
    assert arrived == [b"first", b"later"]


def test_an_early_response_leaves_nothing_of_the_body_behind(serve: Serve, start: Start) -> None:
    """The server answers before it has the body, whose rest looks like a request to whoever forgets what it belongs to."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

    def behave(wire: Wire, peer: Peer) -> None:
        while (head := wire.read_until(b"\r\n\r\n")).endswith(b"\r\n\r\n"):
            lines = head.decode().split("\r\n")
            peer.requests.append(Message(lines[0], [], head))
            wire.send(respond(lines[0].split()[1].encode(), "413 Content Too Large"))

    backend = serve(behave)
    gateway = start(backend, http={"request_buffering": "off"})
    for framing, rest in (
        (b"Content-Length: %d" % (5 + len(smuggled)), smuggled),
        (b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(smuggled), smuggled)),
    ):
        first = b"first" if framing.startswith(b"C") else b"5\r\nfirst\r\n"
        with gateway.connect() as client:
            client.send(b"POST /early HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n" + first)
            assert client.message().body == b"/early"
            with suppress(ConnectionError):
                client.send(rest + smuggled)
            assert client.read_to_end() == b""
        assert gateway.ask(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n").body == b"/next"
    assert [request.target for request in backend.requests] == ["/early", "/next", "/early", "/next"]


def test_a_slow_upload_holds_no_server(serve: Serve, start: Start) -> None:
    backend = serve(respond())
    gateway = start(backend, each={"in_flight_max": 1})
    with gateway.connect() as slow:
        slow.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst")
        assert [gateway.ask().status for _ in range(3)] == [200] * 3
        assert len(backend.requests) == 3
        assert slow.send(b"later").message().status == 200
    assert backend.requests[-1].body == b"firstlater"


def test_a_slow_reader_holds_no_server(serve: Serve, start: Start) -> None:
    body = b"x" * 200_000
    gateway = start(serve(respond(body)), each={"in_flight_max": 1})
    with gateway.connect() as slow:
        slow.send(GET)
        eventually(
            lambda: gateway.pool().completed_total == 1 and gateway.server(1).in_flight == 0, "the server is free"
        )
        assert slow.message().body == body


def test_read_ahead_is_bounded(serve: Serve, start: Start) -> None:
    """A client that does not read stops the server, instead of filling the gateway's memory."""
    sent = [0]

    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            wire.send(b"x" * 65_536)
            sent[0] += 65_536

    gateway = start(serve(behave), http={"write_timeout_ms": 300})
    with gateway.connect() as client:
        client.send(GET)
        eventually(lambda: gateway.server(1).in_flight == 0 and sent[0] > 0, "the client is given up")
    # Socket buffers of three connections and the read-ahead: tens of megabytes, not a thousand.
    assert sent[0] < 100_000_000


@pytest.mark.parametrize("path", ["stream", "wait"])
def test_when_the_client_leaves_the_server_is_told(serve: Serve, start: Start, path: str) -> None:
    told = threading.Event()

    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        if path == "stream":
            wire.send(EVENTS)
        wire.read(1)
        told.set()

    gateway = start(serve(behave))
    client = gateway.connect().send(GET)
    eventually(lambda: gateway.server(1).requests_total == 1, "the request is at the server")
    client.close()
    assert told.wait(20)
    eventually(lambda: (gateway.server(1).in_flight, gateway.server(1).streams) == (0, 0), "nothing is in flight")


def test_a_wsgi_server_stays_taken_until_it_is_done(serve: Serve, start: Start) -> None:
    """A thread cannot be interrupted: without its client it still works, and must not get the next request."""
    gate = Gate()
    backend = serve(gate)
    gateway = start(backend, each={"in_flight_max": 1, "streams_hold_slots": True})
    client = gateway.connect().send(GET)
    eventually(lambda: gateway.server(1).in_flight == 1, "the request is at the server")
    client.close()
    second = gateway.connect().send(GET)
    eventually(lambda: gateway.pool().queue_length == 1, "the next one waits")
    assert len(backend.requests) == 1
    gate.open()
    assert second.message().status == 200


def test_a_message_is_what_it_was(serve: Serve, start: Start) -> None:
    """Early hints go on at once and are not taken for the response."""

    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" + respond(b"page"))

    gateway = start(serve(behave))
    with gateway.connect() as client:
        hints: Message = client.send(GET).message()
        assert (hints.status, hints.get("link")) == (103, "</style.css>; rel=preload")
        assert client.message().body == b"page"
