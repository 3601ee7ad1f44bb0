"""Clients that ask for too much are told so, and others do not notice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.snapshots import pool, server, snapshot
from tests.support.waiting import eventually
from tests.support.wire import respond

from .conftest import Gateway, Serve, Start

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def _limit(**changes: Any) -> dict[str, Any]:
    # Slow enough that no token comes back while a test runs.
    return {"path": "/", "by": "client", "requests_per_s": 0.01, "burst": 3, **changes}


def _statuses(gateway: Gateway, count: int, request: bytes = GET) -> list[int]:
    return [gateway.ask(request).status for _ in range(count)]


def test_too_many_requests_are_refused_and_the_connection_goes_on(serve: Serve, start: Start) -> None:
    backend = serve(respond())
    gateway = start(backend, http={"rate_limits": [_limit(burst=2)]})
    with gateway.connect() as client:
        answers = [client.send(GET).message() for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    assert 90 <= int(answers[2].get("retry-after") or 0) <= 100
    assert len(backend.requests) == 2
    assert gateway.facts().refused_total["rate_limit"] == 2


def test_tokens_come_back(serve: Serve, start: Start) -> None:
    gateway = start(serve(respond()), http={"rate_limits": [_limit(requests_per_s=20, burst=1)]})
    assert gateway.ask().status == 200
    eventually(lambda: gateway.ask().status == 200, "a token has come back")


def test_a_refused_body_is_not_taken_for_a_request(serve: Serve, start: Start) -> None:
    gateway = start(serve(respond()), http={"rate_limits": [_limit(burst=1)]})
    gateway.ask()
    with gateway.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 27\r\n\r\n" + GET)
        answer = client.message()
        assert (answer.status, answer.get("connection")) == (429, "close")
        assert client.read_to_end() == b""


def test_a_limit_on_a_path(serve: Serve, start: Start) -> None:
    gateway = start(serve(respond()), http={"rate_limits": [_limit(path="/login", burst=1), _limit(burst=5)]})
    login = GET.replace(b" / ", b" /login ")
    assert _statuses(gateway, 2, login) == [200, 429]
    assert _statuses(gateway, 2, GET.replace(b" / ", b" /%6cogin?x ")) == [429, 429]
    # The first refusal has not cost a token of the second limit.
    assert _statuses(gateway, 5) == [200, 200, 200, 200, 429]


def test_a_limit_by_a_field(serve: Serve, start: Start) -> None:
    gateway = start(serve(respond()), http={"rate_limits": [_limit(by="header:X-Key", burst=1)]})
    for key in (b"a", b"b"):
        assert _statuses(gateway, 2, GET[:-2] + b"x-key: " + key + b"\r\n\r\n") == [200, 429]
    assert _statuses(gateway, 2) == [200, 429]


def test_clients_behind_a_trusted_proxy_are_told_apart(serve: Serve, start: Start) -> None:
    http = {"rate_limits": [_limit(burst=1)], "trusted_proxies": ["127.0.0.1"]}
    gateway = start(serve(respond()), http=http)
    for client in (b"203.0.113.1", b"203.0.113.2"):
        request = GET[:-2] + b"X-Forwarded-For: " + client + b"\r\n\r\n"
        assert _statuses(gateway, 2, request) == [200, 429]


def test_a_new_snapshot_forgets_nothing(serve: Serve, start: Start) -> None:
    backend = serve(respond())
    http = {"rate_limits": [_limit(burst=1)]}
    gateway = start(backend, http=http)
    assert gateway.ask().status == 200
    gateway.plane.apply(snapshot(pool(server("s1", backend.address), server("s2", backend.address)), http=http))
    assert gateway.ask().status == 429
    gateway.plane.apply(snapshot(pool(server("s1", backend.address))))
    assert gateway.ask().status == 200


@pytest.mark.parametrize("trusted", [[], ["127.0.0.1"]])
def test_connections_of_one_client(serve: Serve, start: Start, trusted: list[str]) -> None:
    gateway = start(serve(respond()), http={"connections_per_client_max": 2, "trusted_proxies": trusted})
    with gateway.connect() as first, gateway.connect() as second:
        assert [client.send(GET).message().status for client in (first, second)] == [200, 200]
        if trusted:
            assert gateway.ask().status == 200
            return
        with gateway.connect() as third:
            assert third.read_to_end() == b""
        assert gateway.facts().refused_total["connections_per_client"] == 1
        first.close()
        eventually(lambda: gateway.facts().connections == 1, "one is left")
        assert gateway.ask().status == 200
