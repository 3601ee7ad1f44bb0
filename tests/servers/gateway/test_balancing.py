"""Which server gets a request, through the running gateway. The exact distributions are tested beside the policies, in Rust."""

from __future__ import annotations

import pytest

from tests.support.gate import Gate
from tests.support.waiting import eventually
from tests.support.wire import respond

from .conftest import Gateway, Serve, Start

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def _served(gateway: Gateway) -> list[int]:
    return [server.requests_total for server in gateway.pool().servers]


@pytest.mark.parametrize(
    "policy", ["random", "round_robin", "least_requests", "power_of_two", "peak_ewma", "prequal", "hash", "first"]
)
def test_every_policy_serves(serve: Serve, start: Start, policy: str) -> None:
    settings = {"name": policy} | ({"bound": 1.25} if policy == "hash" else {})
    gateway = start(*(serve(respond()) for _ in range(3)), policy=settings)
    with gateway.connect() as client:
        assert [client.send(GET).message().status for _ in range(60)] == [200] * 60
    assert sum(_served(gateway)) == 60
    if policy not in ("hash", "first"):
        assert min(_served(gateway)) > 0


def test_round_robin_keeps_to_the_weights(serve: Serve, start: Start) -> None:
    gateway = start(serve(respond()), serve(respond()), weights=[3, 1])
    with gateway.connect() as client:
        for _ in range(40):
            client.send(GET).message()
    assert _served(gateway) == [30, 10]


def test_first_fills_one_server_before_the_next(serve: Serve, start: Start) -> None:
    gate = Gate()
    gateway = start(serve(gate), serve(gate), policy={"name": "first"}, each={"in_flight_max": 2})
    clients = [gateway.connect().send(GET)]
    for total in (1, 2):
        eventually(lambda total=total: _served(gateway) == [total, 0], f"{total} requests on the first")
        clients.append(gateway.connect().send(GET))
    eventually(lambda: _served(gateway) == [2, 1], "the third is on the second server")
    gate.open()
    assert [client.message().status for client in clients] == [200] * 3


def test_least_requests_avoids_the_busy_server(serve: Serve, start: Start) -> None:
    gate = Gate()
    gateway = start(serve(gate), serve(respond()), policy={"name": "least_requests"})
    held = []
    while gateway.server(1).in_flight == 0:
        held.append(gateway.connect().send(GET))
        eventually(lambda: sum(_served(gateway)) == len(held), "the request has been placed")
    before = gateway.server(2).requests_total
    assert [gateway.ask().status for _ in range(10)] == [200] * 10
    assert (gateway.server(1).in_flight, gateway.server(2).requests_total) == (1, before + 10)
    gate.open()


@pytest.mark.parametrize(
    ("by", "request_of"),
    [
        ("header:X-Tenant", b"GET / HTTP/1.1\r\nHost: a\r\nX-Tenant: %d\r\n\r\n"),
        ("cookie:who", b"GET / HTTP/1.1\r\nHost: a\r\nCookie: b=1; who=%d; c=2\r\n\r\n"),
        ("path", b"GET /%d?q=1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ],
)
def test_hash_keeps_a_key_on_its_server(serve: Serve, start: Start, by: str, request_of: bytes) -> None:
    servers = [serve(respond(str(number).encode())) for number in range(4)]
    gateway = start(*servers, policy={"name": "hash", "bound": 2.0}, hash_by=by)
    first = [gateway.ask(request_of % key).body for key in range(30)]
    again = [gateway.ask(request_of % key).body for key in range(30)]
    assert first == again
    assert len(set(first)) == 4


def test_hash_by_client_keeps_a_client_on_its_server(serve: Serve, start: Start) -> None:
    gateway = start(*(serve(respond()) for _ in range(4)), policy={"name": "hash", "bound": 10.0})
    for _ in range(8):
        gateway.ask()
    assert sorted(_served(gateway)) == [0, 0, 0, 8]


def test_a_key_moves_on_only_from_a_server_that_is_gone(serve: Serve, start: Start) -> None:
    peers = [serve(respond(str(number).encode())) for number in range(4)]
    request = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    gateway = start(
        *peers,
        policy={"name": "hash", "bound": 10.0},
        hash_by="path",
        passive={"failures": 1, "base_ms": 60_000, "max_ms": 60_000},
    )
    before = [gateway.ask(request % key).body for key in range(40)]
    peers[0].close()
    after = [gateway.ask(request % key).body for key in range(40)]
    assert b"0" in before
    assert b"0" not in after
    assert all(new == old for old, new in zip(before, after, strict=True) if old != b"0")
