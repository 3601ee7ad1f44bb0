"""A real data plane for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from trimaran import facts
from trimaran._core import DataPlane

from tests.support.snapshots import pool, server, snapshot
from tests.support.wire import Message, Peer, Wire, peer


class Gateway:
    """A data plane in front of peers."""

    def __init__(self, plane: DataPlane) -> None:
        self.plane = plane
        self.address = plane.addresses()[0]

    def connect(self) -> Wire:
        return Wire.to(self.address)

    def facts(self) -> facts.Facts:
        return facts.parse(self.plane.facts())

    def pool(self) -> facts.PoolFacts:
        return self.facts().pools[0]

    def server(self, number: int) -> facts.ServerFacts:
        """The facts of the server s1, s2, ..."""
        return self.pool().servers[number - 1]

    def ask(self, request: bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") -> Message:
        """One request on a connection of its own."""
        with self.connect() as client:
            return client.send(request).message()


Start = Callable[..., Gateway]
Serve = Callable[..., Peer]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(stack: ExitStack) -> Serve:
    """Starts a server that behaves as told."""
    return lambda behave: stack.enter_context(peer(behave))


@pytest.fixture
def start(stack: ExitStack) -> Start:
    """Starts a gateway in front of the given peers; `each` changes the servers, other keywords the pool or the rest."""

    def begin(
        *peers: Peer | str,
        http: dict[str, Any] | None = None,
        rest: dict[str, Any] | None = None,
        each: dict[str, Any] | None = None,
        weights: Sequence[float] = (),
        **changes: Any,
    ) -> Gateway:
        addresses = [peer if isinstance(peer, str) else peer.address for peer in peers]
        servers = [server(f"s{at}", address, **(each or {})) for at, address in enumerate(addresses, start=1)]
        for own, weight in zip(servers, weights, strict=False):
            own["weight"] = weight
        plane = DataPlane(snapshot(pool(*servers, **changes), http=http, **(rest or {})))
        stack.callback(plane.stop, 0)
        return Gateway(plane)

    return begin
