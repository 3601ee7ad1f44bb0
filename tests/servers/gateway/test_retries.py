"""A request is tried again where that is safe, and only there."""

from __future__ import annotations

import threading

import pytest

from tests.support.closed import closed_address
from tests.support.wire import Peer, Wire, respond

from .conftest import Serve, Start

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
FIRST = {"policy": {"name": "first"}, "passive": {"failures": 0, "base_ms": 1, "max_ms": 1}}


def _hangs_up(wire: Wire, peer: Peer) -> None:
    peer.request(wire)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_an_idempotent_request_is_tried_on_another_server(serve: Serve, start: Start, method: str) -> None:
    broken, sound = serve(_hangs_up), serve(respond())
    gateway = start(broken, sound, **FIRST)
    with gateway.connect() as client:
        head = f"{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()
        assert client.send(head).message(bodiless=method == "HEAD").status == 200
    assert (len(broken.requests), len(sound.requests)) == (1, 1)
    assert gateway.pool().retries_total == 1


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_a_server_may_have_done_is_not_done_twice(serve: Serve, start: Start, method: str) -> None:
    broken, sound = serve(_hangs_up), serve(respond())
    gateway = start(broken, sound, **FIRST)
    assert gateway.ask(POST.replace(b"POST", method.encode())).status == 502
    assert (len(broken.requests), len(sound.requests)) == (1, 0)


@pytest.mark.parametrize("request_", [GET, POST])
def test_a_server_that_cannot_be_reached_has_done_nothing(serve: Serve, start: Start, request_: bytes) -> None:
    sound = serve(respond())
    gateway = start(closed_address(), sound, **FIRST)
    assert gateway.ask(request_).status == 200
    assert len(sound.requests) == 1


def test_no_retry_when_switched_off(serve: Serve, start: Start) -> None:
    sound = serve(respond())
    gateway = start(serve(_hangs_up), sound, retries_max=0, **FIRST)
    assert gateway.ask().status == 502
    assert sound.requests == []


def test_tries_have_an_end(serve: Serve, start: Start) -> None:
    peers = [serve(_hangs_up) for _ in range(5)]
    gateway = start(*peers, retries_max=2, **FIRST)
    assert gateway.ask().status == 502
    assert sum(len(peer.requests) for peer in peers) == 3


@pytest.mark.parametrize("request_", [GET, POST])
def test_a_kept_connection_that_the_server_has_closed_is_not_an_error(
    serve: Serve, start: Start, request_: bytes
) -> None:
    closed = threading.Semaphore(0)

    def answers_once(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(respond())
        wire.close()
        closed.release()

    gateway = start(serve(answers_once), **FIRST)
    for _ in range(20):
        assert gateway.ask(request_).status == 200
        assert closed.acquire(timeout=20)


def test_a_response_that_has_begun_is_not_begun_again(serve: Serve, start: Start) -> None:
    def cut(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly a part")

    sound = serve(respond())
    gateway = start(serve(cut), sound, **FIRST)
    with gateway.connect() as client:
        message = client.send(GET).message()
        assert (message.status, message.body) == (200, b"only a part")
        assert client.read(1) == b"", "the client must see that the response is cut"
    assert sound.requests == []
