"""The corpus: malformed, ambiguous and hostile input as data, with the answer that each must get.

`corpus/*.toml` hold cases. Characters of `send` are bytes (Latin-1); a list is sent piece by piece. `answers` are the
statuses that come back, in order; after one of 400 and above the connection must end. Exactly as many requests as have been
answered by 200 reach the server. What else a case may say: `body` (of the last request at the server), `host` and
`forwarded_for` there, field names that it `lacks` there, and `closes`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trimaran._core import DataPlane

from tests.support.snapshots import pool, server, snapshot
from tests.support.wire import Peer, Wire, answering, respond

from .conftest import Gateway

CASES: dict[str, dict[str, Any]] = {
    f"{file.stem}: {case['name']}": case
    for file in sorted((Path(__file__).parent / "corpus").glob("*.toml"))
    for case in tomllib.loads(file.read_text())["case"]
}


@pytest.fixture(scope="module")
def backend() -> Iterator[Peer]:
    peer = Peer(answering(lambda request: respond(b"" if request.start.startswith("HEAD") else b"ok")))
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def gateway(backend: Peer) -> Iterator[Gateway]:
    plane = DataPlane(snapshot(pool(server("s1", backend.address))))
    yield Gateway(plane)
    plane.stop(0)


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 200


@pytest.mark.parametrize("name", CASES)
def test_corpus(gateway: Gateway, backend: Peer, name: str) -> None:
    case = CASES[name]
    backend.requests.clear()
    with gateway.connect() as neighbour, gateway.connect() as client:
        neighbour.send(b"GET /neighbour HTTP/1.1\r\n")
        _send(client, case["send"])
        statuses = []
        for at in range(len(case["answers"])):
            answer = client.message(bodiless=at == 0 and case.get("first_is_head", False))
            statuses.append(answer.status if answer.start else 0)
        assert statuses == case["answers"]
        if statuses[-1] >= 400 or case.get("closes"):
            assert client.read_to_end() == b"", "the connection goes on"
        assert neighbour.send(b"Host: a\r\n\r\n").message().status == 200
    assert backend.requests.pop().target == "/neighbour"
    assert len(backend.requests) == statuses.count(200)
    if backend.requests:
        _check_meaning(case, backend)


def _send(client: Wire, pieces: str | list[str]) -> None:
    for piece in [pieces] if isinstance(pieces, str) else pieces:
        try:
            client.send(piece.encode("latin-1"))
        except ConnectionError:
            # It was refused before it was sent whole.
            return


def _check_meaning(case: dict[str, Any], backend: Peer) -> None:
    seen = backend.requests[-1]
    names = [name for name, _ in seen.fields]
    if "body" in case:
        assert backend.requests[0].body == case["body"].encode("latin-1")
    if "host" in case:
        assert seen.get("host") == case["host"]
    if "forwarded_for" in case:
        assert seen.get("x-forwarded-for") == case["forwarded_for"]
    assert [name for name in case.get("lacks", []) if name in names] == []
