"""Which pool a request goes to, and what goes with it."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from trimaran._core import DataPlane

from tests.support.snapshots import pool, server, snapshot
from tests.support.wire import Message, Wire, respond

from .conftest import Gateway, Serve, Start

ROUTES = [
    {"host": "*", "path": "/", "pool": "any"},
    {"host": "*", "path": "/api", "pool": "api"},
    {"host": "shop.example", "path": "/", "pool": "shop"},
    {"host": "*.example", "path": "/", "pool": "examples"},
]


@pytest.fixture
def routed(stack: ExitStack, serve: Serve) -> Gateway:
    pools = [
        pool(server(f"{name}-1", serve(respond(name.encode())).address), name=name)
        for name in ("any", "api", "shop", "examples")
    ]
    plane = DataPlane(snapshot(*pools, routes=ROUTES))
    stack.callback(plane.stop, 0)
    return Gateway(plane)


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("else.where", "/", "any"),
        ("else.where", "/api", "api"),
        ("else.where", "/api/users", "api"),
        ("else.where", "/api?x=/", "api"),
        ("else.where", "/apiary", "any"),
        ("shop.example", "/", "shop"),
        ("SHOP.example:8000", "/x", "shop"),
        ("blog.example", "/", "examples"),
        ("example", "/", "any"),
    ],
)
def test_the_longest_prefix_of_the_most_exact_host_wins(routed: Gateway, host: str, path: str, expected: str) -> None:
    assert routed.ask(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).body == expected.encode()


def test_without_a_route_it_is_not_found(stack: ExitStack, serve: Serve) -> None:
    plane = DataPlane(
        snapshot(pool(server("s1", serve(respond()).address)), routes=[{"host": "a", "path": "/", "pool": "app"}])
    )
    stack.callback(plane.stop, 0)
    gateway = Gateway(plane)
    assert gateway.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
    assert gateway.ask(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n").status == 404
    assert gateway.facts().refused_total["no_route"] == 1


def _seen(serve: Serve, start: Start, fields: bytes, **http: object) -> Message:
    backend = serve(respond())
    start(backend, http=http).ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
    return backend.requests[0]


def test_every_request_gets_an_id(serve: Serve, start: Start) -> None:
    backend = serve(respond())
    gateway = start(backend)
    for _ in range(3):
        gateway.ask()
    ids = [request.get("x-request-id") or "" for request in backend.requests]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
    assert len(set(ids)) == 3


def test_a_request_id_of_a_stranger_is_replaced(serve: Serve, start: Start) -> None:
    assert _seen(serve, start, b"X-Request-Id: mine\r\n").get("x-request-id") != "mine"


def test_a_request_id_of_a_trusted_proxy_is_kept(serve: Serve, start: Start) -> None:
    seen = _seen(serve, start, b"X-Request-Id: mine\r\n", trusted_proxies=["127.0.0.0/8"])
    assert seen.get("x-request-id") == "mine"


def test_trace_context_is_passed_on(serve: Serve, start: Start) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    seen = _seen(serve, start, f"traceparent: {trace}\r\ntracestate: a=1\r\n".encode())
    assert (seen.get("traceparent"), seen.get("tracestate")) == (trace, "a=1")


def test_forwarded_as_in_rfc_7239(serve: Serve, start: Start) -> None:
    seen = _seen(serve, start, b"Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\n", forwarded="both")
    assert (seen.get("forwarded") or "").replace('"', "") == "for=127.0.0.1;host=a;proto=http"
    assert seen.get("x-forwarded-for") == "127.0.0.1"


def test_a_unix_socket_to_listen_on_and_one_to_send_to(stack: ExitStack, serve: Serve, tmp_path: Path) -> None:
    inner = DataPlane(
        snapshot(pool(server("s1", serve(respond(b"deep")).address)), listeners=[f"unix:{tmp_path}/inner"])
    )
    stack.callback(inner.stop, 0)
    outer = DataPlane(snapshot(pool(server("s1", f"unix:{tmp_path}/inner"))))
    stack.callback(outer.stop, 0)
    assert Gateway(outer).ask().body == b"deep"
    raw = socket.socket(socket.AF_UNIX)
    raw.connect(f"{tmp_path}/inner")
    with Wire(raw) as client:
        assert client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").message().body == b"deep"
