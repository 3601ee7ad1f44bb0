"""What reaches a server and what comes back: heads, bodies, framing, connections."""

from __future__ import annotations

import pytest

from tests.support.wire import Message, Peer, Wire, answering, respond

from .conftest import Serve, Start

GET = b"GET /hello?a=1 HTTP/1.1\r\nHost: example.com\r\n\r\n"


def test_a_request_and_its_response(serve: Serve, start: Start) -> None:
    backend = serve(respond(b"hello", X_App="yes"))
    with start(backend).connect() as client:
        response = client.send(GET).message()
    assert (response.status, response.body, response.get("x-app")) == (200, b"hello", "yes")
    request = backend.requests[0]
    assert request.start == "GET /hello?a=1 HTTP/1.1"
    assert request.get("host") == "example.com"
    assert request.get("x-forwarded-for") == "127.0.0.1"
    assert request.get("x-forwarded-proto") == "http"
    assert request.get("x-forwarded-host") == "example.com"
    assert len(request.get("x-request-id") or "") == 32


def test_both_sides_keep_their_connections(serve: Serve, start: Start) -> None:
    backend = serve(respond())
    with start(backend).connect() as client:
        for _ in range(5):
            assert client.send(GET).message().status == 200
    assert backend.connections == 1


def test_pipelined_requests_are_answered_in_order(serve: Serve, start: Start) -> None:
    backend = serve(answering(lambda request: respond(request.target.encode())))
    with start(backend).connect() as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(20)))
        assert [client.message().body for _ in range(20)] == [b"/%d" % n for n in range(20)]


def test_a_head_may_arrive_byte_by_byte(serve: Serve, start: Start) -> None:
    with start(serve(respond())).connect() as client:
        for byte in GET:
            client.send(bytes([byte]))
        assert client.message().status == 200


def test_hop_by_hop_fields_and_claims_do_not_pass(serve: Serve, start: Start) -> None:
    backend = serve(respond(b"", Connection="x-private", Keep_Alive="timeout=5", X_Private="1", X_Public="2"))
    with start(backend).connect() as client:
        client.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 1\r\nTE: trailers\r\n"
            b"Proxy: http://evil/\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 6.6.6.6\r\n"
            b"Forwarded: for=6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nX-Request-Id: mine\r\ntraceparent: 00-ab-cd-01\r\n\r\n"
        )
        response = client.message()
    names = {name for name, _ in backend.requests[0].fields}
    assert names == {"host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id", "traceparent"}
    assert backend.requests[0].get("x-forwarded-for") == "127.0.0.1"
    assert backend.requests[0].get("x-forwarded-proto") == "http"
    assert backend.requests[0].get("x-request-id") != "mine"
    assert {name for name, _ in response.fields} == {"content-length", "x-public"}


def test_a_trusted_proxy_is_believed(serve: Serve, start: Start) -> None:
    backend = serve(respond())
    gateway = start(backend, http={"trusted_proxies": ["127.0.0.0/8"], "forwarded": "both"})
    with gateway.connect() as client:
        client.send(
            b"GET / HTTP/1.1\r\nHost: inner\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.7\r\nX-Forwarded-Proto: https\r\n"
            b"X-Forwarded-Host: outer\r\nX-Request-Id: theirs-1\r\n\r\n"
        ).message()
    request = backend.requests[0]
    assert request.get("x-forwarded-for") == "203.0.113.7, 127.0.0.1"
    assert request.get("x-forwarded-proto") == "https"
    assert request.get("x-forwarded-host") == "outer"
    assert request.get("forwarded") == 'for=203.0.113.7;host="outer";proto=https, for=127.0.0.1'
    assert request.get("x-request-id") == "theirs-1"


@pytest.mark.parametrize(
    ("response", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n",
            b"hello world",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: x\r\n\r\n", b""),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
    ],
    ids=["chunked", "until close", "1.0", "empty", "204", "304", "103", "100"],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_every_framing_of_a_response(serve: Serve, start: Start, response: bytes, body: bytes, version: str) -> None:
    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(response)

    with start(serve(behave)).connect() as client:
        client.send(b"GET / HTTP/%s\r\nHost: a\r\n\r\n" % version.encode())
        answer = client.message()
        if answer.status == 103:
            assert version == "1.1"
            answer = client.message()
        assert answer.body == body
        if version == "1.0":
            assert answer.get("transfer-encoding") is None
            assert client.read_to_end() == b""


def test_a_response_to_head_has_fields_and_no_body(serve: Serve, start: Start) -> None:
    backend = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
    with start(backend).connect() as client:
        for _ in range(2):
            answer = client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").message(bodiless=True)
            assert (answer.status, answer.get("content-length")) == (200, "1234")


def test_a_length_that_is_there_twice_is_told_once(serve: Serve, start: Start) -> None:
    backend = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\ncontent-length: 2\r\n\r\nok")
    with start(backend).connect() as client:
        for _ in range(2):
            answer = client.send(GET).message()
            assert (answer.body, answer.get("content-length")) == (b"ok", "2")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("announced", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_a_body_that_cannot_be_is_not_taken_for_the_next_response(
    serve: Serve, start: Start, method: str, announced: str
) -> None:
    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(f"HTTP/1.1 204 No Content\r\n{announced}\r\n\r\n".encode())
        # It comes when the gateway is done with the response.
        peer.request(wire)
        wire.send(respond(b"another's"))

    backend = serve(behave)
    with start(backend).connect() as client:
        for _ in range(2):
            answer = client.send(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode()).message(bodiless=True)
            assert answer.status == 204
            assert answer.get("content-length") is None
            assert answer.get("transfer-encoding") is None
    assert backend.connections == 2


def test_http_1_0_keep_alive_is_kept_when_asked_for(serve: Serve, start: Start) -> None:
    with start(serve(respond())).connect() as client:
        for _ in range(2):
            answer = client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").message()
            assert answer.get("connection") == "keep-alive"


def test_connection_close_is_honoured(serve: Serve, start: Start) -> None:
    with start(serve(respond())).connect() as client:
        answer = client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").message()
        assert (answer.body, answer.get("connection")) == (b"ok", "close")
        assert client.read_to_end() == b""


def echo(message: Message) -> bytes:
    return respond(
        message.body, X_Length=message.get("content-length") or "-", X_Te=message.get("transfer-encoding") or "-"
    )


@pytest.mark.parametrize("buffering", ["full", "off"])
@pytest.mark.parametrize("size", [0, 1, 5_000, 65_536, 65_537, 3_000_000])
def test_request_bodies_with_a_length(serve: Serve, start: Start, buffering: str, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    gateway = start(serve(answering(echo)), http={"request_buffering": buffering})
    with gateway.connect() as client:
        for _ in range(2):
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + body)
            answer = client.message()
            assert answer.body == body
            assert answer.get("x-length") == str(size)


@pytest.mark.parametrize("buffering", ["full", "off"])
@pytest.mark.parametrize("count", [0, 3, 400])
def test_chunked_request_bodies(serve: Serve, start: Start, buffering: str, count: int) -> None:
    pieces = [b"%05d" % n * 100 for n in range(count)]
    gateway = start(serve(answering(echo)), http={"request_buffering": buffering})
    with gateway.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            client.send(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece))
        answer = client.send(b"0\r\n\r\n").message()
        assert answer.body == b"".join(pieces)
        expected = (str(len(answer.body)), "-") if buffering == "full" else ("-", "chunked")
        assert (answer.get("x-length"), answer.get("x-te")) == expected


@pytest.mark.parametrize("buffering", ["full", "off"])
@pytest.mark.parametrize("size", [10, 100_000])
def test_trailers_reach_the_server(serve: Serve, start: Start, buffering: str, size: int) -> None:
    seen: list[bytes] = []

    def behave(wire: Wire, peer: Peer) -> None:
        wire.read_until(b"\r\n\r\n")
        seen.append(wire.read_until(b"Checksum: abc\r\n\r\n"))
        wire.send(respond())

    with start(serve(behave), http={"request_buffering": buffering}).connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTrailer: Checksum\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"%x\r\n%s\r\n0\r\nChecksum: abc\r\n\r\n" % (size, b"x" * size))
        assert client.message().status == 200
    assert seen[0].count(b"x") == size
    assert seen[0].endswith(b"\r\n0\r\nChecksum: abc\r\n\r\n")


def test_trailers_reach_the_client(serve: Serve, start: Start) -> None:
    backend = serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nChecksum: abc\r\n\r\n")
    with start(backend).connect() as client:
        client.send(GET).read_until(b"\r\n\r\n")
        assert client.read_until(b"abc\r\n\r\n") == b"2\r\nhi\r\n0\r\nChecksum: abc\r\n\r\n"


def test_expect_continue_is_answered_by_the_gateway(serve: Serve, start: Start) -> None:
    backend = serve(answering(echo))
    with start(backend).connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert client.message().status == 100
        assert client.send(b"hello").message().body == b"hello"
    assert backend.requests[0].get("expect") is None


def test_large_responses_arrive_whole(serve: Serve, start: Start) -> None:
    body = bytes(range(256)) * 20_000
    with start(serve(respond(body))).connect() as client:
        for _ in range(2):
            assert client.send(GET).message().body == body


def test_absolute_form_targets(serve: Serve, start: Start) -> None:
    backend = serve(respond())
    with start(backend).connect() as client:
        client.send(b"GET http://real.example/a?b HTTP/1.1\r\nHost: other\r\n\r\n").message()
        client.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").message()
    assert [request.target for request in backend.requests] == ["/a?b", "*"]
    assert backend.requests[0].get("host") == "real.example"
