"""Compressed responses: when, how, and what the fields then say."""

from __future__ import annotations

import random
import socket
import threading
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import zstandard

from tests.support.wire import Message, Peer, Wire, respond

from .conftest import Gateway, Serve, Start

TYPES = ["text/*", "application/json"]
TEXT = b"".join(b"%d bottles of beer on the wall. " % number for number in range(2_000))
NOISE = random.Random(1).randbytes(300_000)

DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: zlib.decompress(data, wbits=31),
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


@pytest.fixture
def compressing(start: Start) -> Callable[..., Gateway]:
    def begin(*peers: Peer, encodings: tuple[str, ...] = ("zstd", "br", "gzip"), **rest: Any) -> Gateway:
        rules = {"encodings": encodings, "types": TYPES, "min_bytes": 100}
        return start(*peers, http={"compression": rules}, **rest)

    return begin


Compressing = Callable[..., Gateway]


def get(accepts: str = "gzip", method: str = "GET", version: str = "1.1", **fields: str) -> bytes:
    lines = [f"{method} / HTTP/{version}", "Host: a", f"Accept-Encoding: {accepts}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def decoded(response: Message) -> bytes:
    return DECODERS[response.get("content-encoding") or ""](response.body)


@pytest.mark.parametrize("coding", DECODERS)
@pytest.mark.parametrize("body", [TEXT, NOISE, TEXT[:100]], ids=["text", "noise", "short"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_every_encoding_of_every_framing(
    serve: Serve, compressing: Compressing, coding: str, body: bytes, framing: str
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
    if framing == "length":
        answer = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    elif framing == "chunked":
        pieces = [body[at : at + 7_001] for at in range(0, len(body), 7_001)]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        answer = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    else:
        answer = head + b"Connection: close\r\n\r\n" + body

    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(answer)

    backend = serve(behave)
    with compressing(backend).connect() as client:
        for _ in range(2):
            response = client.send(get(coding)).message()
            assert (response.status, response.get("content-encoding")) == (200, coding)
            assert decoded(response) == body
            assert response.get("content-length") is None


def test_trailers_follow_the_compressed_body(serve: Serve, compressing: Compressing) -> None:
    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.send(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")

    with compressing(serve(behave)).connect() as client:
        client.send(get(Connection="close"))
        assert client.read_to_end().endswith(b"\r\n0\r\nX-Sum: 1\r\n\r\n")


def test_what_a_server_sent_is_not_held_back(serve: Serve, compressing: Compressing) -> None:
    go_on = threading.Event()

    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nfirst")
        assert go_on.wait(20)
        wire.send(b"second")

    with compressing(serve(behave)).connect() as client:
        client.send(get())
        client.read_until(b"\r\n\r\n")
        inflate, seen = zlib.decompressobj(wbits=31), b""
        chunks = client.chunks()
        while seen != b"first":
            seen += inflate.decompress(next(chunks))
        go_on.set()
        assert b"".join(inflate.decompress(chunk) for chunk in chunks) == b"second"


def test_the_fields_of_a_compressed_response(serve: Serve, compressing: Compressing) -> None:
    body = respond(TEXT, Content_Type="text/html; charset=utf-8", ETag='"v1"', Accept_Ranges="bytes", Vary="Cookie")
    gateway = compressing(serve(body))
    response = gateway.ask(get("gzip;q=0.5, br;q=0.8"))
    assert (response.get("content-encoding"), response.get("etag")) == ("br", 'W/"v1"')
    assert response.get("accept-ranges") is None
    assert gateway.ask(get("gzip")).start == "HTTP/1.1 200 OK"
    varies = [value for name, value in response.fields if name.lower() == "vary"]
    assert varies == ["Cookie", "Accept-Encoding"]


def test_who_accepts_none_gets_it_as_it_is(serve: Serve, compressing: Compressing) -> None:
    gateway = compressing(serve(respond(TEXT, Content_Type="text/html", ETag='"v1"')))
    for accepts in ("identity", "gzip;q=0", "deflate", "", "br;q=nonsense"):
        response = gateway.ask(get(accepts))
        assert (response.body, response.get("etag"), response.get("content-encoding")) == (TEXT, '"v1"', None)
        assert response.get("vary") == "Accept-Encoding"


@pytest.mark.parametrize(
    "fields",
    [
        {"Content_Type": "image/png"},
        {"Content_Type": "text/event-stream"},
        {"Content_Type": "text/html", "Content_Encoding": "br"},
        {"Content_Type": "text/html", "Content_Range": "bytes 0-1/2"},
        {"Content_Type": "text/html", "Cache_Control": "no-transform"},
        {"Content_Type": "text/html", "Content_Digest": "sha-256=:x:"},
        {},
    ],
    ids=lambda fields: "+".join(fields.values()) or "no type",
)
def test_left_alone(serve: Serve, compressing: Compressing, fields: dict[str, str]) -> None:
    response = compressing(serve(respond(TEXT, ETag='"v1"', **fields))).ask(get("gzip, br, zstd"))
    assert (response.body, response.get("etag")) == (TEXT, '"v1"')
    assert response.get("content-encoding") == fields.get("Content_Encoding")
    assert response.get("vary") is None


def test_too_short_is_left_alone(serve: Serve, compressing: Compressing) -> None:
    response = compressing(serve(respond(b"x" * 99, Content_Type="text/html"))).ask(get())
    assert (response.body, response.get("content-encoding")) == (b"x" * 99, None)


def test_head_gets_the_fields_of_get(serve: Serve, compressing: Compressing) -> None:
    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1000\r\n\r\n")

    with compressing(serve(behave)).connect() as client:
        for _ in range(2):
            response = client.send(get(method="HEAD")).message(bodiless=True)
            assert (response.get("content-encoding"), response.get("transfer-encoding")) == ("gzip", "chunked")
            assert response.get("content-length") is None


def test_http_1_0_gets_it_as_it_is(serve: Serve, compressing: Compressing) -> None:
    response = compressing(serve(respond(TEXT, Content_Type="text/html"))).ask(get(version="1.0"))
    assert (response.body, response.get("content-encoding")) == (TEXT, None)


def test_not_modified_repeats_the_weak_tag(serve: Serve, compressing: Compressing) -> None:
    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\n\r\n')

    gateway = compressing(serve(behave))
    for asked, told in (('W/"v1"', 'W/"v1"'), ('"v1"', '"v1"')):
        with gateway.connect() as client:
            response = client.send(get(If_None_Match=asked)).message(bodiless=True)
        assert (response.status, response.get("etag")) == (304, told)


def test_off_unless_asked_for(serve: Serve, start: Start) -> None:
    response = start(serve(respond(TEXT, Content_Type="text/html"))).ask(get("gzip"))
    assert (response.body, response.get("vary")) == (TEXT, None)


@pytest.mark.parametrize("coding", DECODERS)
def test_a_body_that_breaks_off_is_seen_to(serve: Serve, compressing: Compressing, coding: str) -> None:
    def behave(wire: Wire, peer: Peer) -> None:
        peer.request(wire)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100000\r\n\r\n" + TEXT[:50_000])
        wire.socket.shutdown(socket.SHUT_RDWR)

    with compressing(serve(behave)).connect() as client:
        assert not client.send(get(coding)).read_to_end().endswith(b"0\r\n\r\n")
