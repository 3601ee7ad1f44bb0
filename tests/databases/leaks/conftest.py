"""One PostgreSQL, its gateway with two server connections, and the same sessions at both doors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from trimaran.databases.postgres import EmbeddedNode

from tests.databases.leaks.engine import Room
from tests.databases.leaks.world import World
from tests.support.gateways import Gateway, remove, start_gateway, start_node

CONNECTIONS = 2


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNode]:
    state = tmp_path_factory.mktemp("leaks")
    started = start_node(state)
    yield started
    started.stop()
    remove(state)


@pytest.fixture(scope="session")
def world(node: EmbeddedNode) -> Iterator[World]:
    world = World(node)
    yield world
    world.close()


@pytest.fixture(scope="session")
def narrow(node: EmbeddedNode, world: World) -> Iterator[Gateway]:
    """A gateway with as few server connections as let sessions meet each other's."""
    started = start_gateway(node, connections_max=CONNECTIONS)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def direct(world: World) -> Iterator[Room]:
    room = Room(world, lambda dsn: dsn)
    yield room
    room.close()


@pytest.fixture(scope="session")
def through(world: World, narrow: Gateway) -> Iterator[Room]:
    room = Room(world, narrow.through)
    yield room
    room.close()
