"""HTTP/2 from clients: each stream is a request like any other, and abuse ends the connection."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import httpx
import pytest

from tests.support.certificates import Authority, tls
from tests.support.gate import Gate
from tests.support.snapshots import pool, server, snapshot
from tests.support.waiting import eventually
from tests.support.wire import Peer, Wire, answering, respond

from .conftest import Gateway, Serve, Start

HOST = "shop.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def shop(authority: Authority) -> dict[str, str]:
    return authority.issue("shop", HOST, "localhost")


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    context = authority.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@dataclass
class Answer:
    """What came back on one stream."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    informational: list[str] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(dict(self.fields).get(":status", "0"))


class Http2:
    """One connection of a client that says every frame by itself."""

    def __init__(self, connection: ssl.SSLSocket, *, reads: bool = True) -> None:
        self._socket = connection
        self._reads = reads
        # What a careless or hostile client would send must not be stopped here.
        config = h2.config.H2Configuration(
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=True,
        )
        self.state = h2.connection.H2Connection(config)
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None
        self.closed = False
        self.state.initiate_connection()
        self.flush()

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendall(self.state.data_to_send())

    def request(self, path: str = "/", method: str = "GET", *, end: bool = True, **fields: str) -> int:
        stream = self.state.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":authority", HOST), (":path", path)]
        head += [(name.replace("_", "-"), value) for name, value in fields.items()]
        self.state.send_headers(stream, head, end_stream=end)
        self.answers[stream] = Answer()
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Sends as the gateway's windows allow."""
        while True:
            room = min(self.state.local_flow_control_window(stream), self.state.max_outbound_frame_size)
            if not data or room > 0:
                part, data = data[:room], data[room:]
                self.state.send_data(stream, part, end_stream=end and not data)
                self.flush()
                if not data:
                    return
            else:
                self.read()

    def answer(self, stream: int) -> Answer:
        """The whole answer, or what there was when the stream or the connection ended."""
        answer = self.answers[stream]
        while not (answer.ended or answer.reset is not None or self.closed):
            self.read()
        return answer

    def read(self) -> None:
        try:
            data = self._socket.recv(65_536)
        except (ConnectionError, ssl.SSLError):
            data = b""
        if not data:
            self.closed = True
            return
        try:
            events = self.state.receive_data(data)
        except h2.exceptions.ProtocolError:
            # The library takes the first GOAWAY for the end and wonders at the PING behind it, which asks whether it arrived.
            assert self.state.state_machine.state is h2.connection.ConnectionState.CLOSED
            return
        for event in events:
            self._take(event)
        self.flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event.error_code
            return
        answer = self.answers.get(getattr(event, "stream_id", 0) or 0)
        if answer is None:
            return
        match event:
            case h2.events.ResponseReceived():
                answer.fields = [(str(name), str(value)) for name, value in event.headers]
            case h2.events.InformationalResponseReceived():
                answer.informational.append(str(dict(event.headers)[":status"]))
            case h2.events.DataReceived():
                answer.body += event.data
                if self._reads:
                    self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.TrailersReceived():
                answer.trailers = [(str(name), str(value)) for name, value in event.headers]
            case h2.events.StreamEnded():
                answer.ended = True
            case h2.events.StreamReset():
                answer.reset = event.error_code


@contextlib.contextmanager
def _connected(gateway: Gateway, context: ssl.SSLContext, *, reads: bool = True) -> Iterator[Http2]:
    host, _, port = gateway.plane.addresses()[-1].rpartition(":")
    raw = socket.create_connection((host, int(port)), timeout=20)
    with context.wrap_socket(raw, server_hostname=HOST) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        yield Http2(connection, reads=reads)


def test_a_request(serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str]) -> None:
    backend = serve(respond(b"page", Content_Type="text/plain", Set_Cookie="a=1", Connection="close"))
    gateway = start(backend, rest={"tls": tls(shop)})
    with _connected(gateway, context) as client:
        answer = client.answer(client.request("/a?b=c", x_own="1"))
    assert (answer.status, answer.body) == (200, b"page")
    names = [name for name, _ in answer.fields]
    assert "connection" not in names
    assert dict(answer.fields)["set-cookie"] == "a=1"
    [seen] = backend.requests
    assert (seen.start, seen.get("host"), seen.get("x-own")) == ("GET /a?b=c HTTP/1.1", HOST, "1")
    assert (seen.get("x-forwarded-proto"), seen.get("x-forwarded-for")) == ("https", "127.0.0.1")


def test_who_does_not_want_it_gets_http_1(
    serve: Serve, start: Start, authority: Authority, shop: dict[str, str], context: ssl.SSLContext
) -> None:
    gateway = start(serve(respond()), rest={"tls": tls(shop, http2=False)})
    port = int(gateway.plane.addresses()[-1].rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as raw,
        context.wrap_socket(raw, server_hostname=HOST) as client,
    ):
        assert client.selected_alpn_protocol() == "http/1.1"


def test_another_implementation_agrees(
    serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str]
) -> None:
    gateway = start(serve(answering(lambda request: respond(request.body[::-1]))), rest={"tls": tls(shop)})
    port = gateway.plane.addresses()[-1].rpartition(":")[2]
    with httpx.Client(http2=True, verify=context, timeout=20) as client:
        for size in (0, 1, 100_000, 3_000_000):
            body = bytes(range(250)) * (size // 250) + b"x" * (size % 250)
            answer = client.post(f"https://localhost:{port}/", content=body)
            assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
            assert answer.content == body[::-1]


def test_streams_are_balanced_one_by_one(
    serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str]
) -> None:
    gate = Gate()
    backends = [serve(gate) for _ in range(4)]
    gateway = start(*backends, rest={"tls": tls(shop)}, policy={"name": "least_requests"})
    with _connected(gateway, context) as client:
        streams = [client.request(f"/{number}") for number in range(20)]
        eventually(lambda: [server.in_flight for server in gateway.pool().servers] == [5] * 4, "five on each")
        gate.open()
        assert [client.answer(stream).status for stream in streams] == [200] * 20
    assert gateway.facts().connections_total == 1


def test_a_slow_stream_does_not_hold_up_another(
    serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str]
) -> None:
    def behave(wire: Wire, peer: Peer) -> None:
        while True:
            if peer.request(wire).target == "/slow":
                wire.read(1)
            wire.send(respond(b"quick"))

    gateway = start(serve(behave), rest={"tls": tls(shop)})
    with _connected(gateway, context) as client:
        slow = client.request("/slow")
        assert [client.answer(client.request()).body for _ in range(5)] == [b"quick"] * 5
        assert not client.answers[slow].ended


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("size", [1, 70_000, 3_000_000])
def test_uploads(
    serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str], announced: bool, size: int
) -> None:
    backend = serve(respond())
    gateway = start(backend, rest={"tls": tls(shop)})
    fields = {"content_length": str(size)} if announced else {}
    with _connected(gateway, context) as client:
        stream = client.request(method="POST", end=False, **fields)
        client.send(stream, b"x" * size, end=True)
        assert client.answer(stream).status == 200
    assert backend.requests[0].body == b"x" * size


def test_trailers_both_ways(serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str]) -> None:
    heads: list[bytes] = []

    def behave(wire: Wire, peer: Peer) -> None:
        heads.append(wire.read_until(b"x-up: 1\r\n\r\n"))
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Down: 2\r\n\r\n")

    gateway = start(serve(behave), rest={"tls": tls(shop)})
    with _connected(gateway, context) as client:
        stream = client.request(method="POST", end=False)
        client.send(stream, b"body")
        client.state.send_headers(stream, [("x-up", "1")], end_stream=True)
        client.flush()
        answer = client.answer(stream)
    assert (answer.body, answer.trailers) == (b"abc", [("x-down", "2")])
    assert b"4\r\nbody\r\n0\r\n" in heads[0]


@pytest.mark.parametrize(
    ("response", "method", "status", "body"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "GET", 304, b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD", 200, b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", 200, b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "GET", 200, b"abc"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", "GET", 200, b"until the end"),
    ],
)
def test_every_framing_of_a_response(
    serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str],
    response: bytes, method: str, status: int, body: bytes,
) -> None:  # fmt: skip
    def behave(wire: Wire, peer: Peer) -> None:
        wire.read_until(b"\r\n\r\n")
        wire.send(response)

    gateway = start(serve(behave), rest={"tls": tls(shop)})
    with _connected(gateway, context) as client:
        answer = client.answer(client.request(method=method))
        assert (answer.status, answer.body, answer.ended) == (status, body, True)


def test_events_arrive_as_they_are_made(
    serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str]
) -> None:
    seen = threading.Semaphore(0)

    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            wire.send(b"9\r\ndata: %d\n\n\r\n" % number)
            if not seen.acquire(timeout=20):
                return
        wire.send(b"0\r\n\r\n")

    gateway = start(serve(behave), rest={"tls": tls(shop)})
    with _connected(gateway, context) as client:
        stream = client.request()
        for number in range(3):
            while b"data: %d\n\n" % number not in client.answers[stream].body:
                client.read()
            seen.release()
        assert client.answer(stream).ended


def test_early_hints(serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str]) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    gateway = start(serve(hints + respond(b"page")), rest={"tls": tls(shop)})
    with _connected(gateway, context) as client:
        answer = client.answer(client.request())
    assert (answer.informational, answer.status, answer.body) == (["103"], 200, b"page")


def test_cookies_come_together(serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str]) -> None:
    backend = serve(respond())
    gateway = start(backend, rest={"tls": tls(shop)})
    with _connected(gateway, context) as client:
        stream = client.state.get_next_available_stream_id()
        head = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/")]
        client.state.send_headers(stream, [*head, ("cookie", "a=1"), ("cookie", "b=2")], end_stream=True)
        client.answers[stream] = Answer()
        client.flush()
        assert client.answer(stream).status == 200
    assert backend.requests[0].get("cookie") == "a=1; b=2"


def test_a_response_that_breaks_off_is_a_reset(
    serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str]
) -> None:
    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")

    gateway = start(serve(behave), rest={"tls": tls(shop)})
    with _connected(gateway, context) as client:
        answer = client.answer(client.request())
        assert (answer.ended, answer.reset) == (False, h2.errors.ErrorCodes.INTERNAL_ERROR)


@pytest.mark.parametrize("wsgi", [True, False])
def test_a_reset_reaches_the_server(
    serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str], wsgi: bool
) -> None:
    gone, gate = threading.Event(), Gate()

    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.read(1)
        gone.set()

    backend = serve(gate if wsgi else behave)
    gateway = start(backend, rest={"tls": tls(shop)}, each={"streams_hold_slots": wsgi})
    with _connected(gateway, context) as client:
        stream = client.request()
        eventually(lambda: gateway.server(1).in_flight == 1, "the request is at the server")
        client.state.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        client.flush()
        if wsgi:
            # A thread cannot be interrupted: its slot stays taken until it is done.
            assert client.answer(client.request(host="other.example")).status == 400
            assert gateway.server(1).in_flight == 1
            gate.open()
        else:
            assert gone.wait(20)
        eventually(lambda: gateway.server(1).in_flight == 0, "nothing is in flight")


def test_limits_hold_for_streams(serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str]) -> None:
    limit = {"path": "/", "by": "client", "requests_per_s": 0.01, "burst": 2}
    gateway = start(serve(respond()), rest={"tls": tls(shop)}, http={"rate_limits": [limit], "body_max_bytes": 10})
    with _connected(gateway, context) as client:
        stream = client.request(method="POST", end=False)
        client.send(stream, b"x" * 11, end=True)
        assert client.answer(stream).status == 413
        assert [client.answer(client.request()).status for _ in range(3)] == [200, 429, 429]


@pytest.mark.parametrize(
    ("fields", "path", "outcome"),
    [
        ({"connection": "close"}, "/", "reset"),
        ({"transfer_encoding": "chunked"}, "/", "reset"),
        ({"upgrade": "h2c"}, "/", "reset"),
        ({"X_Upper": "1"}, "/", "reset"),
        ({"content_length": "5"}, "/", "reset"),
        ({"x_bad": "a\nb"}, "/", "reset"),
        ({"x_bad": "a\rX: b"}, "/", "reset"),
        ({"x_bad": "a\0b"}, "/", "reset"),
        ({"host": "other.example"}, "/", 400),
        ({}, "", "reset"),
        ({}, "no-slash", "any"),
        ({}, "/a b", "any"),
        ({}, "/a\r\nX: b", "any"),
        ({"x_long": "x" * 20_000}, "/", 431),
    ],
)
def test_malformed_requests_never_reach_a_server(
    serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str],
    fields: dict[str, str], path: str, outcome: str | int,
) -> None:  # fmt: skip
    backend = serve(respond())
    gateway = start(backend, rest={"tls": tls(shop)})
    with _connected(gateway, context) as client, _connected(gateway, context) as neighbour:
        answer = client.answer(client.request(path, **fields))
        if outcome == "reset":
            assert answer.reset is not None or client.goaway is not None
        elif outcome == "any":
            assert answer.status in (0, 400)
        else:
            assert answer.status == outcome
        assert backend.requests == []
        assert neighbour.answer(neighbour.request()).status == 200


def test_rapid_resets_end_the_connection(
    serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str]
) -> None:
    gateway = start(serve(respond()), rest={"tls": tls(shop)})
    with _connected(gateway, context) as client:
        for _ in range(2_000):
            stream = client.state.get_next_available_stream_id()
            head = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/")]
            client.state.send_headers(stream, head, end_stream=True)
            client.state.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        client.flush()
        while not client.closed:
            client.read()
        assert client.goaway == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
    assert gateway.ask().status == 200
    eventually(lambda: gateway.server(1).in_flight == 0, "nothing is left of it")


def test_a_window_that_stays_shut_holds_no_server(
    serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str]
) -> None:
    gateway = start(serve(respond(b"x" * 2_000_000)), rest={"tls": tls(shop)}, http={"write_timeout_ms": 200})
    with _connected(gateway, context, reads=False) as client:
        answer = client.answer(client.request())
        assert answer.reset is not None
        assert len(answer.body) < 2_000_000
    eventually(lambda: gateway.server(1).in_flight == 0, "the server is free")


def test_more_streams_than_allowed_are_refused(
    serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str]
) -> None:
    gateway = start(serve(Gate()), rest={"tls": tls(shop)}, each={"in_flight_max": 1000})
    with _connected(gateway, context) as client:
        # The gateway's settings have not been read yet, so the client does not know better.
        streams = [client.request() for _ in range(140)]
        eventually(lambda: gateway.server(1).in_flight == 128, "as many as allowed are served")
        refused = [stream for stream in streams[128:] if client.answer(stream).reset is not None]
        assert len(refused) == 12


def test_an_idle_connection_is_closed(
    serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str]
) -> None:
    gateway = start(serve(respond()), rest={"tls": tls(shop)}, http={"keep_alive_timeout_ms": 100})
    with _connected(gateway, context) as client:
        assert client.answer(client.request()).status == 200
        while not client.closed:
            client.read()
        assert client.state.state_machine.state is h2.connection.ConnectionState.CLOSED, "it was told"


def test_stop_lets_streams_finish(serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str]) -> None:
    gate = Gate()
    gateway = start(serve(gate), rest={"tls": tls(shop)})
    with _connected(gateway, context) as client, ThreadPoolExecutor() as pool_:
        stream = client.request()
        eventually(lambda: gateway.server(1).in_flight == 1, "the request is at the server")
        stopped = pool_.submit(gateway.plane.stop, 10_000)
        gate.open()
        assert client.answer(stream).status == 200
        assert stopped.result(20) is True


def test_a_page_with_all_its_parts(
    serve: Serve, start: Start, context: ssl.SSLContext, shop: dict[str, str], tmp_path: Path
) -> None:
    """Many clients at once, each with many streams, while the servers change."""
    backends = [serve(answering(lambda request: respond(request.target.encode() * 100))) for _ in range(3)]
    gateway = start(*backends, rest={"tls": tls(shop)}, queue_max=2_000)

    def visit(client_number: int) -> list[object]:
        with _connected(gateway, context) as client:
            paths = {client.request(path): path for path in (f"/{client_number}/{n}" for n in range(60))}
            return [
                (path, answer.status, answer.reset, client.goaway)
                for stream, path in paths.items()
                if (answer := client.answer(stream)).body != path.encode() * 100
            ]

    with ThreadPoolExecutor(8) as clients:
        visits = [clients.submit(visit, number) for number in range(24)]
        for count in (1, 2, 3, 1, 3):
            servers = [server(f"s{at}", peer.address) for at, peer in enumerate(backends[:count], start=1)]
            gateway.plane.apply(snapshot(pool(*servers, queue_max=2_000), tls=tls(shop)))
        assert [bad for visit in visits for bad in visit.result(60)] == []
