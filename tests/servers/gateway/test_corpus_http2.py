"""The HTTP/2 corpus: frames as data, with the answer that each case must get.

`corpus_http2/*.toml` hold cases. A case sends its `frames` after the preface: HEADERS and CONTINUATION with `fields` (encoded
without a table), DATA with `data`, or any type by number with a hexadecimal `payload` and a `tail` that is repeated
`tail_repeat` times; `repeat` sends one so many times, and STREAMS sends `each` frame on so many new streams. `start` may stand
for preface and settings. `expect` names what may come back: a `status`, a `reset` of the stream or a `goaway`, each with its
codes (PROTOCOL_ERROR may stand for a narrower one; RFC 9113, section 5.4). A case that `ends` may see any of them, but a goaway
at last; after a goaway the connection must end. Whatever happens, a neighbour's request is served, and a server gets nothing
but the request that was answered by 200 (where there are `many`: those that were not yet taken back), with `body` and
`forwarded_for`, and without what it `lacks`.
"""

from __future__ import annotations

import struct
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from h2.errors import ErrorCodes
from hpack import Decoder
from hpack.hpack import encode_integer
from trimaran._core import DataPlane

from tests.support.snapshots import pool, server, snapshot
from tests.support.wire import Peer, Wire, answering, respond

from .conftest import Gateway

CASES: dict[str, dict[str, Any]] = {
    f"{file.stem}: {case['name']}": case
    for file in sorted((Path(__file__).parent / "corpus_http2").glob("*.toml"))
    for case in tomllib.loads(file.read_text())["case"]
}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, CONTINUATION = 0, 1, 3, 4, 7, 9
FLAGS = {"END_STREAM": 1, "END_HEADERS": 4}


@pytest.fixture(scope="module")
def backend() -> Iterator[Peer]:
    peer = Peer(answering(respond(b"ok")))
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def gateway(backend: Peer) -> Iterator[Gateway]:
    plane = DataPlane(snapshot(pool(server("s1", backend.address)), http={"http2": True}))
    yield Gateway(plane)
    plane.stop(0)


@pytest.mark.parametrize("name", CASES)
def test_corpus(gateway: Gateway, backend: Peer, name: str) -> None:
    case = CASES[name]
    expect = case["expect"]
    backend.requests.clear()
    with gateway.connect() as neighbour, gateway.connect() as client:
        neighbour.send(b"GET /neighbour HTTP/1.1\r\n")
        client.send(bytes.fromhex(case["start"]) if "start" in case else PREFACE + frame(SETTINGS))
        try:
            client.send(b"".join(frames(case["frames"])))
        except ConnectionError:
            assert "goaway" in expect, "it was refused before it was sent whole"
        outcome = read_outcome(client, patient=case.get("ends", False))
        if outcome is None:
            # The client was still sending when the connection ended, so that its end was a reset.
            assert "goaway" in expect
        else:
            kind, value = outcome
            allowed = expect[kind]
            assert value in (allowed if isinstance(allowed, list) else [allowed])
        if outcome is None or outcome[0] == "goaway":
            assert client.read_to_end() is not None
        assert neighbour.send(b"Host: a\r\n\r\n").message().status == 200
    if case.get("many"):
        assert {request.target for request in backend.requests} <= {"/", "/neighbour"}
        return
    assert backend.requests.pop().target == "/neighbour"
    if outcome == ("status", 200):
        check_meaning(expect, backend)
    else:
        assert backend.requests == []


def check_meaning(expect: dict[str, Any], backend: Peer) -> None:
    (seen,) = backend.requests
    assert seen.target in ("/", "*")
    assert seen.body == expect.get("body", "").encode()
    if "forwarded_for" in expect:
        assert seen.get("x-forwarded-for") == expect["forwarded_for"]
    names = [name for name, _ in seen.fields]
    assert [name for name in expect.get("lacks", []) if name in names] == []


def frames(told: list[dict[str, Any]]) -> Iterator[bytes]:
    for each in told:
        repeat = each.get("repeat", 1)
        if each["type"] == "STREAMS":
            for at in range(repeat):
                yield from (one_frame({**inner, "stream": 2 * at + 1}) for inner in each["each"])
        else:
            yield one_frame(each) * repeat


def one_frame(told: dict[str, Any]) -> bytes:
    flags = told.get("flags_byte", 0) + sum(FLAGS[flag] for flag in told.get("flags", []))
    match told["type"]:
        case "HEADERS" | "CONTINUATION" as name:
            return frame(HEADERS if name == "HEADERS" else CONTINUATION, fields(told["fields"]), told["stream"], flags)
        case "DATA":
            return frame(DATA, told["data"].encode() * told.get("data_repeat", 1), told["stream"], flags)
        case number:
            payload = bytes.fromhex(told["payload"] + told.get("tail", "") * told.get("tail_repeat", 0))
            return frame(number, payload, told["stream"], flags)


def frame(kind: int, payload: bytes = b"", stream: int = 0, flags: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def fields(told: list[list[str]]) -> bytes:
    """Literals without indexing: the decoder's state does not matter."""
    return b"".join(b"\0" + text(name) + text(value) for name, value in told)


def text(value: str) -> bytes:
    return bytes(encode_integer(len(value), 7)) + value.encode("latin-1")


def read_outcome(client: Wire, *, patient: bool) -> tuple[str, int | str] | None:
    """The first final status, reset or goaway (a patient one waits for goaway); None when the connection ends without one."""
    decoder = Decoder()
    while len(head := client.read(9)) == 9:
        payload = client.read(int.from_bytes(head[:3], "big"))
        kind = head[3]
        if kind == HEADERS:
            status = int(dict(decoder.decode(payload))[":status"])
            if status >= 200 and not patient:
                return "status", status
        elif kind == RST_STREAM and not patient:
            return "reset", ErrorCodes(int.from_bytes(payload, "big")).name
        elif kind == GOAWAY:
            return "goaway", ErrorCodes(int.from_bytes(payload[4:8], "big")).name
    return None
