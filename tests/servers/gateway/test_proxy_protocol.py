"""A trusted balancer introduces its clients by a PROXY header; nobody else can."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from tests.support.certificates import Authority, tls
from tests.support.waiting import eventually
from tests.support.wire import Wire, respond

from .conftest import Serve, Start

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LINE = b"PROXY TCP4 203.0.113.9 10.0.0.1 40000 80\r\n"
BINARY = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes([203, 0, 113, 9, 10, 0, 0, 1, 0x9C, 0x40, 0, 80])
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"
TRUSTED = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.1"]}


@pytest.mark.parametrize(("header", "client"), [(LINE, "203.0.113.9"), (BINARY, "203.0.113.9"), (LOCAL, "127.0.0.1")])
def test_the_client_is_who_the_balancer_says(serve: Serve, start: Start, header: bytes, client: str) -> None:
    backend = serve(respond())
    gateway = start(backend, http=TRUSTED)
    with gateway.connect() as wire:
        # In pieces, and with the first request in the same packet as the end of the header.
        for at in range(len(header)):
            wire.send(header[at : at + 1])
        assert [wire.send(GET).message().status for _ in range(2)] == [200, 200]
    with gateway.connect() as wire:
        assert wire.send(header + GET).message().status == 200
    assert [request.get("x-forwarded-for") for request in backend.requests] == [client] * 3


def test_what_the_client_claims_is_not_believed(serve: Serve, start: Start) -> None:
    backend = serve(respond())
    claim = GET[:-2] + b"X-Forwarded-For: 6.6.6.6\r\n\r\n"
    assert start(backend, http=TRUSTED).ask(LINE + claim).status == 200
    assert backend.requests[0].get("x-forwarded-for") == "203.0.113.9"


@pytest.mark.parametrize("bytes_", [GET, b"PROXY nonsense\r\n" + GET, BINARY[:13] + b"\x99" * 30])
def test_a_balancer_must_use_it(serve: Serve, start: Start, bytes_: bytes) -> None:
    backend = serve(respond())
    gateway = start(backend, http=TRUSTED)
    with gateway.connect() as wire:
        assert wire.send(bytes_).read_to_end() == b""
    assert backend.requests == []
    assert gateway.facts().refused_total["proxy_protocol"] == 1


def test_a_header_that_does_not_come_is_not_waited_for_for_ever(serve: Serve, start: Start) -> None:
    gateway = start(serve(respond()), http={**TRUSTED, "head_timeout_ms": 100})
    with gateway.connect() as wire:
        assert wire.send(LINE[:20]).read_to_end() == b""
    eventually(lambda: gateway.facts().connections == 0, "the connection is gone")


def test_from_elsewhere_it_is_no_request(serve: Serve, start: Start) -> None:
    gateway = start(serve(respond()), http={**TRUSTED, "trusted_proxies": ["10.0.0.0/8"]})
    assert gateway.ask().status == 200
    assert gateway.ask(LINE + GET).status in (400, 505)


def test_in_front_of_tls(serve: Serve, start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    backend = serve(respond())
    gateway = start(backend, http=TRUSTED, rest={"tls": tls(authority.issue("shop", "shop.example"))})
    host, _, port = gateway.plane.addresses()[-1].rpartition(":")
    raw = socket.create_connection((host, int(port)), timeout=20)
    raw.sendall(BINARY)
    context: ssl.SSLContext = authority.client()
    with Wire(context.wrap_socket(raw, server_hostname="shop.example")) as wire:
        assert wire.send(GET).message().status == 200
    seen = backend.requests[0]
    assert (seen.get("x-forwarded-for"), seen.get("x-forwarded-proto")) == ("203.0.113.9", "https")
