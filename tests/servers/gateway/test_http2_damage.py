"""Generated HTTP/2: frames in any order, with any flags, and bytes changed at random.

Whatever comes: what the gateway says is HTTP/2, what reaches the server was asked for by a client's own stream, nothing hidden in
a field or a body becomes a request, and a neighbour is served. DAMAGE_EXAMPLES explores with so many random connections.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hpack import Decoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trimaran._core import DataPlane

from tests.support.snapshots import pool, server, snapshot
from tests.support.wire import Peer, answering, respond

from .conftest import Gateway
from .test_corpus_http2 import CONTINUATION, DATA, HEADERS, PREFACE, SETTINGS, fields, frame

PING, GOAWAY, RST_STREAM, WINDOW_UPDATE = 6, 7, 3, 8
LAST = b"the last"
SMUGGLED = "1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
EXAMPLES = int(os.environ.get("DAMAGE_EXAMPLES", "0"))
SILENCE_S = 0.3
"""When damage has made a frame longer, the gateway rightly waits for the rest of it."""

_FINE = (["x-a", "1"], ["cookie", "a=b"], ["cookie", "c=d"], ["te", "trailers"], ["accept", "*/*"], ["host", "a"])
_BAD = (
    ["content-length", "3"],
    ["transfer-encoding", "chunked"],
    ["connection", "close"],
    ["x-a", SMUGGLED],
    [SMUGGLED, "1"],
    ["host", "b"],
    [":path", "/asked"],
    ["X-Upper", "1"],
    ["x-long", "y" * 3000],
    ["expect", "100-continue"],
)
_BODIES = (b"", b"abc", b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", b"z" * 9000)
_NUMBERS = tuple(struct.pack(">I", number) for number in (0, 1, 8, 100, 0x7FFFFFFF, 0xFFFFFFFF))
_FAIR = (
    (SETTINGS, b"", 0),
    (SETTINGS, b"\0\4\0\0\0\0", 0),
    (SETTINGS, b"\0\4\0\1\0\0", 0),
    (PING, b"12345678", 0),
    (WINDOW_UPDATE, b"\0\0\0\1", 0),
    (2, bytes(5), 9),
    (99, b"garbage", 3),
)


@st.composite
def _request(draw: st.DrawFn, stream: int) -> list[bytes]:
    """The frames of one request, good as a rule."""
    method = draw(st.sampled_from(("GET", "HEAD", "POST", "PUT", "OPTIONS")))
    path = draw(st.sampled_from(("/asked", "/asked?a=b", "/asked/%0d%0a")))
    told = draw(st.lists(st.sampled_from(_FINE), max_size=3, unique_by=tuple))
    if draw(st.integers(0, 5)) == 0:
        told.append(draw(st.sampled_from(_BAD)))
    block = fields([[":method", method], [":scheme", "http"], [":authority", "a"], [":path", path], *told])
    body = draw(st.sampled_from(_BODIES))
    ends = 0 if body else 1
    cut = draw(st.integers(0, len(block)))
    if draw(st.booleans()):
        frames = [frame(HEADERS, block, stream, 4 | ends)]
    else:
        # One frame for whoever shuffles: nothing may come between the two.
        frames = [frame(HEADERS, block[:cut], stream, ends) + frame(CONTINUATION, block[cut:], stream, 4)]
    if body:
        middle = draw(st.integers(0, len(body)))
        trailers = [frame(HEADERS, fields([["x-sum", "1"]]), stream, 5)] if draw(st.booleans()) else []
        frames += [
            frame(DATA, body[:middle], stream),
            frame(DATA, body[middle:], stream, 0 if trailers else 1),
            *trailers,
        ]
    return frames


@st.composite
def connections(draw: st.DrawFn) -> bytes:
    """Frames after the preface: a few requests side by side, some frames between them, and some bytes changed."""
    waiting = [draw(_request(stream)) for stream in range(1, 2 * draw(st.integers(1, 4)), 2)]
    frames: list[bytes] = []
    begun = 0
    while any(waiting):
        # Streams begin in their order.
        at = draw(st.sampled_from([at for at, left in enumerate(waiting[: begun + 1]) if left]))
        begun = max(begun, at + 1)
        frames.append(waiting[at].pop(0))
        if draw(st.integers(0, 3)) == 0:
            kind, payload, stream = draw(st.sampled_from(_FAIR))
            frames.append(frame(kind, payload, stream))
        if draw(st.integers(0, 12)) == 0:
            kind = draw(st.sampled_from((DATA, RST_STREAM, WINDOW_UPDATE, SETTINGS, PING, GOAWAY, CONTINUATION, 2, 5)))
            flags = draw(st.sampled_from((0, 1, 4, 5, 8, 32, 255)))
            frames.append(frame(kind, draw(st.sampled_from(_NUMBERS)), draw(st.integers(0, 7)), flags))
    sent = b"".join(frames)
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        at = draw(st.integers(0, len(sent)))
        end = at + draw(st.sampled_from((0, 1, 1, 4)))
        sent = sent[:at] + draw(st.binary(max_size=4)) + sent[end:]
    return sent


@pytest.fixture(scope="module")
def backend() -> Iterator[Peer]:
    peer = Peer(answering(lambda request: respond(b"" if request.start.startswith("HEAD") else b"ok")))
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def gateway(backend: Peer) -> Iterator[Gateway]:
    # The server is not given up, whatever happens on connections to it.
    only = pool(server("s1", backend.address), passive={"failures": 1_000_000, "base_ms": 1, "max_ms": 1})
    plane = DataPlane(snapshot(only, http={"http2": True}))
    yield Gateway(plane)
    plane.stop(0)


@settings(
    max_examples=EXAMPLES or 250,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sent=connections())
def test_nothing_comes_of_damage(gateway: Gateway, backend: Peer, sent: bytes) -> None:
    backend.requests.clear()
    with gateway.connect() as client:
        client.socket.settimeout(SILENCE_S)
        # It may be refused before it was sent whole.
        with suppress(ConnectionError):
            client.send(PREFACE + frame(SETTINGS) + sent + frame(PING, LAST))
        _check_answers(iter(lambda: client.read(9), b""), client.read)
    assert gateway.ask(b"GET /neighbour HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
    targets = [request.target for request in backend.requests]
    assert "/neighbour" in targets
    # What a connection asked for last may arrive while the next one is checked.
    assert {target for target in targets if "smuggled" in target} == set()
    starts = {request.start for request in backend.requests}
    assert all(re.fullmatch(r"[!#-+.-Z^-z|~-]+ [!-~]+ HTTP/1\.1", start) for start in starts), starts


def _check_answers(heads: Iterator[bytes], read: Callable[[int], bytes]) -> None:
    """Every frame is one that a server may send, until the last ping is answered or the connection ends."""
    decoder = Decoder()
    try:
        for head in heads:
            if len(head) < 9:
                return
            size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            stream = int.from_bytes(head[5:9], "big")
            payload = read(size)
            assert size <= 16384, "larger than allowed"
            assert kind in (DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION)
            assert (stream == 0) == (kind in (SETTINGS, PING, GOAWAY)) or kind == WINDOW_UPDATE
            if kind == HEADERS:
                assert flags & 4, "no answer here is long"
                assert dict(decoder.decode(payload))[":status"].isdigit()
            if kind == PING and payload == LAST:
                return
    except TimeoutError:
        return
