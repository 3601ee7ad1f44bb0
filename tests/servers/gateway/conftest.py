"""A real data plane for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from trimaran import facts
from trimaran._core import DataPlane

from tests.support.snapshots import pool, server, snapshot
from tests.support.wire import Peer, Wire, peer


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
    """Starts a gateway in front of the given peers; keywords change the pool, `http` the client side."""

    def begin(
        *peers: Peer, http: dict[str, Any] | None = None, each: dict[str, Any] | None = None, **changes: Any
    ) -> Gateway:
        servers = [server(f"s{at}", peer.address, **(each or {})) for at, peer in enumerate(peers, start=1)]
        plane = DataPlane(snapshot(pool(*servers, **changes), http=http))
        stack.callback(plane.stop, 0)
        return Gateway(plane)

    return begin
