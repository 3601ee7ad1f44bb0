"""HTTPS: everything that works in the clear works encrypted, and certificates come and go."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trimaran._core import SnapshotError

from tests.support.certificates import Authority, tls
from tests.support.gate import Gate
from tests.support.snapshots import pool, server, snapshot
from tests.support.waiting import eventually
from tests.support.wire import Message, Peer, Wire, answering, respond

from .conftest import Gateway, Serve, Start
from .test_streams import GET, UPGRADE, _echo

HOST = "shop.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def shop(authority: Authority) -> dict[str, str]:
    return authority.issue("shop", HOST)


@contextlib.contextmanager
def _connected(gateway: Gateway, context: ssl.SSLContext, name: str = HOST) -> Iterator[Wire]:
    host, _, port = gateway.plane.addresses()[-1].rpartition(":")
    raw = socket.create_connection((host, int(port)), timeout=20)
    with Wire(context.wrap_socket(raw, server_hostname=name)) as wire:
        yield wire


def _ask(gateway: Gateway, context: ssl.SSLContext, request: bytes = GET) -> Message:
    with _connected(gateway, context) as client:
        return client.send(request).message()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_request(
    serve: Serve, start: Start, authority: Authority, shop: dict[str, str], version: ssl.TLSVersion
) -> None:
    backend = serve(respond(b"page"))
    gateway = start(backend, rest={"tls": tls(shop)})
    context = authority.client()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["http/1.1"])
    with _connected(gateway, context) as client:
        assert [client.send(GET).message().body for _ in range(3)] == [b"page"] * 3
        assert isinstance(client.socket, ssl.SSLSocket)
        assert client.socket.selected_alpn_protocol() == "http/1.1"
        assert client.socket.version() == version.name.replace("_", ".")

    assert {request.get("x-forwarded-proto") for request in backend.requests} == {"https"}
    assert gateway.ask().status == 200, "the clear listener goes on beside it"
    assert backend.requests[-1].get("x-forwarded-proto") == "http"


def test_old_versions_are_refused(serve: Serve, start: Start, authority: Authority, shop: dict[str, str]) -> None:
    gateway = start(serve(respond()), rest={"tls": tls(shop, version_min="1.3")})
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)version"):
        _ask(gateway, context)
    eventually(lambda: gateway.facts().refused_total["tls_handshake"] == 1, "it is counted")


@pytest.mark.parametrize("size", [1, 16_384, 100_000, 5_000_000])
def test_bodies_of_every_size_go_both_ways(
    serve: Serve, start: Start, authority: Authority, shop: dict[str, str], size: int
) -> None:
    gateway = start(serve(answering(lambda request: respond(request.body))), rest={"tls": tls(shop)})
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    head = f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n".encode()
    with _connected(gateway, authority.client()) as client:
        for _ in range(2):
            assert client.send(head + body).message().body == body


def test_many_requests_in_one_record(serve: Serve, start: Start, authority: Authority, shop: dict[str, str]) -> None:
    gateway = start(serve(answering(lambda request: respond(request.target.encode()))), rest={"tls": tls(shop)})
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (n, b"x" * 900) for n in range(40))
    with _connected(gateway, authority.client()) as client:
        client.send(requests)
        assert [client.message().body for _ in range(40)] == [b"/%d" % n for n in range(40)]


def test_a_slow_reader_gets_everything(serve: Serve, start: Start, authority: Authority, shop: dict[str, str]) -> None:
    body = b"0123456789abcdef" * 250_000
    gateway = start(serve(respond(body)), rest={"tls": tls(shop)}, http={"response_buffer_bytes": 65_536})
    with _connected(gateway, authority.client()) as client:
        client.send(GET).read_until(b"\r\n\r\n")
        got = b""
        while len(got) < len(body):
            got += client.read(min(999, len(body) - len(got)))
        assert got == body


def test_a_websocket(serve: Serve, start: Start, authority: Authority, shop: dict[str, str]) -> None:
    gateway = start(serve(_echo), rest={"tls": tls(shop)})
    with _connected(gateway, authority.client()) as client:
        assert client.send(UPGRADE + b"hi").message().status == 101
        assert client.read(2) == b"hi"
        for size in (1, 1_000, 200_000):
            assert client.send(b"x" * size).read(size) == b"x" * size


def test_a_response_that_ends_by_closing_ends_properly(
    serve: Serve, start: Start, authority: Authority, shop: dict[str, str]
) -> None:
    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(b"HTTP/1.0 200 OK\r\n\r\nold style")

    gateway = start(serve(behave), rest={"tls": tls(shop)})
    with _connected(gateway, authority.client()) as client:
        # Without TLS' own end the client could not tell it from an attack; Python would raise SSLEOFError here.
        client.socket.suppress_ragged_eofs = False  # type: ignore[attr-defined]
        assert client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").message().body == b"old style"


@pytest.mark.parametrize("politely", [True, False])
def test_who_leaves_waits_no_longer(
    serve: Serve, start: Start, authority: Authority, shop: dict[str, str], politely: bool
) -> None:
    gate = Gate()
    gateway = start(serve(gate), rest={"tls": tls(shop)}, each={"in_flight_max": 1})
    held = gateway.connect().send(GET)
    eventually(lambda: gateway.server(1).in_flight == 1, "one is served")
    with _connected(gateway, authority.client()) as client:
        client.send(GET)
        eventually(lambda: gateway.pool().queue_length == 1, "one waits")
        if politely:
            with contextlib.suppress(OSError):
                client.socket.settimeout(0.1)
                client.socket.unwrap()  # type: ignore[attr-defined]
    eventually(lambda: gateway.pool().queue_length == 0, "nobody waits")
    gate.open()
    assert held.message().status == 200


def test_what_is_no_handshake_disturbs_nobody(
    serve: Serve, start: Start, authority: Authority, shop: dict[str, str]
) -> None:
    gateway = start(serve(respond()), rest={"tls": tls(shop)}, http={"head_timeout_ms": 200})
    address = gateway.plane.addresses()[-1]
    with Wire.to(address) as clear, Wire.to(address) as silent, Wire.to(address) as noise:
        clear.send(GET)
        noise.send(b"\x16\x03\x01\xff\xff" + b"\x00" * 1000)
        assert _ask(gateway, authority.client()).status == 200
        assert b"HTTP" not in clear.read_to_end()
        silent.read_to_end()
        noise.read_to_end()
    eventually(lambda: gateway.facts().refused_total["tls_handshake"] == 3, "all are counted")


def _presented(gateway: Gateway, context: ssl.SSLContext, name: str) -> list[str]:
    """The names in the certificate that a client gets when it asks for `name`."""
    with _connected(gateway, context, name) as client:
        found: Any = client.socket.getpeercert()  # type: ignore[attr-defined]
        return [value for kind, value in found["subjectAltName"] if kind == "DNS"]


def test_the_certificate_for_the_name(serve: Serve, start: Start, authority: Authority, shop: dict[str, str]) -> None:
    blog = authority.issue("blog", "blog.example", "*.blog.example")
    gateway = start(serve(respond()), rest={"tls": tls(shop, blog)})
    context = authority.client()
    assert _presented(gateway, context, HOST) == [HOST]
    assert _presented(gateway, context, "SHOP.example") == [HOST]
    assert _presented(gateway, context, "blog.example") == ["blog.example", "*.blog.example"]
    assert _presented(gateway, context, "any.blog.example") == ["blog.example", "*.blog.example"]
    context.check_hostname = False
    assert _presented(gateway, context, "deep.any.blog.example") == [HOST]
    assert _presented(gateway, context, "unknown.example") == [HOST]


def test_a_certificate_is_replaced_without_a_dropped_connection(
    serve: Serve, start: Start, authority: Authority, tmp_path: Path
) -> None:
    backend = serve(respond())
    old = authority.issue("changing", HOST, "old.example")
    gateway = start(backend, rest={"tls": tls(old)})
    context = authority.client()
    with _connected(gateway, context) as before:
        assert before.send(GET).message().status == 200
        new = authority.issue("changing", HOST, "new.example")
        gateway.plane.apply(snapshot(pool(server("s1", backend.address)), tls=tls(new, mark="1")))
        assert _presented(gateway, context, HOST) == [HOST, "old.example"], "the same mark: files are not read"
        gateway.plane.apply(snapshot(pool(server("s1", backend.address)), tls=tls(new, mark="2")))
        assert _presented(gateway, context, HOST) == [HOST, "new.example"]
        assert before.send(GET).message().status == 200


@pytest.mark.parametrize("damage", ["missing", "no certificate", "other key", "no key"])
def test_files_that_cannot_be_used_are_named_and_change_nothing(
    serve: Serve, start: Start, authority: Authority, shop: dict[str, str], tmp_path: Path, damage: str
) -> None:
    backend = serve(respond())
    gateway = start(backend, rest={"tls": tls(shop)})
    junk = tmp_path / "junk.pem"
    junk.write_text("nothing of use")
    bad = {
        "missing": {**shop, "certificate": str(tmp_path / "absent.pem")},
        "no certificate": {**shop, "certificate": str(junk)},
        "other key": {**shop, "key": authority.issue("other", "other.example")["key"]},
        "no key": {**shop, "key": str(junk)},
    }[damage]
    named = bad["certificate"] if damage in ("missing", "no certificate") else bad["key"]
    text = snapshot(pool(server("s1", backend.address)), tls=tls(bad))
    with pytest.raises(SnapshotError, match=named):
        gateway.plane.apply(text)
    assert _ask(gateway, authority.client()).status == 200


def test_clients_must_show_a_certificate(
    serve: Serve, start: Start, authority: Authority, shop: dict[str, str], tmp_path: Path
) -> None:
    gateway = start(serve(respond()), rest={"tls": tls(shop, client_ca=str(authority.file))})
    assert _ask(gateway, authority.client(own=True)).status == 200
    stranger = Authority(tmp_path).client(own=True)
    stranger.load_verify_locations(authority.file)
    for context in (authority.client(), stranger):
        with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):
            _ask(gateway, context)


@pytest.mark.parametrize(
    ("head", "location"),
    [
        (b"GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\n\r\n", "https://shop.example:8443/a?b=c"),
        (b"GET / HTTP/1.1\r\nHost: shop.example:8000\r\n\r\n", "https://shop.example:8443/"),
        (b"GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", "https://[::1]:8443/"),
        (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "https://a:8443/x"),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "https://a:8443/"),
    ],
)
def test_clear_requests_are_sent_to_https(
    serve: Serve, start: Start, shop: dict[str, str], head: bytes, location: str
) -> None:
    backend = serve(respond())
    gateway = start(backend, rest={"tls": tls(shop, redirect_port=8443)})
    answer = gateway.ask(head)
    assert (answer.status, answer.get("location")) == (308, location)
    assert backend.requests == []
    assert gateway.ask(b"GET / HTTP/1.0\r\n\r\n").status == 400, "nowhere to send it, and not to be served either"


def test_an_authority_may_ask_in_the_clear(serve: Serve, start: Start, shop: dict[str, str]) -> None:
    gateway = start(serve(respond(b"proof")), rest={"tls": tls(shop, redirect_port=443)})
    assert gateway.ask(b"GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: a\r\n\r\n").body == b"proof"
    assert gateway.ask().get("location") == "https://a/"


def test_what_a_trusted_proxy_has_encrypted_is_not_redirected(serve: Serve, start: Start, shop: dict[str, str]) -> None:
    gateway = start(
        serve(respond()), rest={"tls": tls(shop, redirect_port=443)}, http={"trusted_proxies": ["127.0.0.1"]}
    )
    assert gateway.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n").status == 200


def test_hsts(serve: Serve, start: Start, authority: Authority, shop: dict[str, str]) -> None:
    own = {"Strict_Transport_Security": "max-age=5; preload"}
    backend = serve(answering(lambda request: respond(**(own if request.target == "/own" else {}))))
    gateway = start(backend, rest={"tls": tls(shop, hsts_max_age_s=3600)})
    context = authority.client()
    assert _ask(gateway, context).get("strict-transport-security") == "max-age=3600"
    said = _ask(gateway, context, GET.replace(b" / ", b" /own "))
    assert said.get("strict-transport-security") == "max-age=5; preload"
    assert gateway.ask().get("strict-transport-security") is None


def test_a_snapshot_with_an_unknown_key(shop: dict[str, str], start: Start, serve: Serve) -> None:
    backend = serve(respond())
    gateway = start(backend)
    with pytest.raises(SnapshotError, match="colour"):
        gateway.plane.apply(json.dumps({**json.loads(snapshot(pool())), "tls": {**tls(shop), "colour": "red"}}))
