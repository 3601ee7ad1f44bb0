"""What is malformed, ambiguous or too much is refused by the gateway and never reaches a server."""

from __future__ import annotations

import pytest

from tests.support.wire import respond

from .conftest import Serve, Start


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
