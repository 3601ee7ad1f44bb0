"""The suite finds leaks where there are some: the control of all others here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from trimaran.databases.postgres import EmbeddedNode

from tests.databases.leaks.conftest import CONNECTIONS
from tests.databases.leaks.engine import Room, differences
from tests.databases.leaks.ways import WAYS
from tests.databases.leaks.world import World
from tests.support.gateways import start_gateway

_EXPECTED = 10


@pytest.fixture
def unaudited(node: EmbeddedNode, world: World) -> Iterator[Room]:
    """A gateway that gives connections back without an audit: needs `"audit": false` of the snapshot's databases."""
    started = start_gateway(node, connections_max=CONNECTIONS, audit=False)
    room = Room(world, started.through)
    yield room
    room.close()
    started.stop()


def test_without_the_audit_leaks_are_found(direct: Room, unaudited: Room) -> None:
    leaking = [way.name for way in WAYS[:60] if differences(way, direct, unaudited, ["simple"])]
    assert len(leaking) >= _EXPECTED, leaking
