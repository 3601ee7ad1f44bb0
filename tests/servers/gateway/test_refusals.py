"""What is malformed, ambiguous or too much is refused by the gateway and never reaches a server."""

from __future__ import annotations

import pytest

from tests.support.wire import respond

from .conftest import Serve, Start

REFUSED = {
    "both lengths": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "duplicate length": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    "list of lengths": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc"),
    "signed length": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc"),
    "huge length": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n"),
    "two codings": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
    "coding twice": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    "coding in 1.0": (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    "bad host": (400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "host with path": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "bare lf": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "one bare lf": (400, b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
    "bare cr": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
    "folded": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
    "space before colon": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n"),
    "nul": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n"),
    "no name": (400, b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    "tls hello": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "bad method": (400, b"G@T[] / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no target": (400, b"GET HTTP/1.1\r\nHost: a\r\n\r\n"),
    "bad target": (400, b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "fragment": (400, b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "user info": (400, b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "version 2": (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    "connect": (405, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    "expectation": (417, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\n"),
    "long head": (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"),
    "endless head": (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000),
    "many fields": (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n"),
    "large body": (413, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000001\r\n\r\n"),
    "bad chunk": (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n"),
    "forbidden trailer": (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: b\r\n\r\n"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_closed_and_kept_from_the_server(serve: Serve, start: Start, name: str) -> None:
    status, request = REFUSED[name]
    backend = serve(respond())
    gateway = start(backend)
    with gateway.connect() as client, gateway.connect() as neighbour:
        answer = client.send(request).message()
        assert answer.status == status
        assert answer.get("connection") == "close"
        # What follows a refused request is never taken for another one.
        assert client.read_to_end() == b""
        assert neighbour.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").message().status == 200
    assert [message.target for message in backend.requests] == ["/"]


def test_a_chunked_body_above_the_limit_is_refused(serve: Serve, start: Start) -> None:
    backend = serve(respond())
    with start(backend, http={"body_max_bytes": 1000}).connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"200\r\n" + b"x" * 512 + b"\r\n200\r\n" + b"x" * 512 + b"\r\n")
        assert client.message().status == 413
    assert backend.requests == []


def test_a_head_that_does_not_arrive_is_timed_out(serve: Serve, start: Start) -> None:
    with start(serve(respond()), http={"head_timeout_ms": 200}).connect() as client:
        assert client.send(b"GET / HTTP/1.1\r\nHost:").message().status == 408
        assert client.read_to_end() == b""


def test_a_body_that_does_not_arrive_is_timed_out(serve: Serve, start: Start) -> None:
    backend = serve(respond())
    with start(backend, http={"body_timeout_ms": 200}).connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert client.message().status == 408
    assert backend.requests == []


def test_an_idle_connection_is_closed_in_silence(serve: Serve, start: Start) -> None:
    with start(serve(respond()), http={"keep_alive_timeout_ms": 100}).connect() as client:
        assert client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").message().status == 200
        assert client.read_to_end() == b""


def test_bodies_that_cannot_be_spooled(serve: Serve, start: Start) -> None:
    with start(serve(respond()), http={"spool_directory": "/nowhere"}).connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
        answer = client.message()
        assert answer.status == 503
        assert b"stored" in answer.body


BROKEN = {
    "not http": b"SSH-2.0-OpenSSH\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "both framings": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nhi",
    "switch unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "bare lf": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_responses_become_502(serve: Serve, start: Start, name: str) -> None:
    with start(serve(BROKEN[name])).connect() as client:
        assert client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").message().status == 502
