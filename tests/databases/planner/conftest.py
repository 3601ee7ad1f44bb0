"""A real PostgreSQL whose catalogues are read."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from trimaran.databases.catalogue import Catalogue, load
from trimaran.databases.postgres import EmbeddedNode

from tests.databases.planner.schema import EVENT_TRIGGER, SCHEMA
from tests.support.gateways import remove, start_node, superuser


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNode]:
    state = tmp_path_factory.mktemp("planner")
    started = start_node(state)
    yield started
    started.stop()
    remove(state)


def make_database(node: EmbeddedNode, name: str, ddl: str) -> str:
    """A new database with these objects; its superuser's address."""
    with psycopg.connect(superuser(node), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    made = superuser(node).rpartition("/")[0] + f"/{name}"
    with psycopg.connect(made, autocommit=True) as connection:
        connection.execute(ddl)
    return made


@pytest.fixture(scope="session")
def database(node: EmbeddedNode) -> str:
    """A database with the objects of `schema`."""
    return make_database(node, "reached", SCHEMA)


@pytest.fixture(scope="session")
def catalogue(database: str) -> Catalogue:
    with psycopg.connect(database, autocommit=True) as connection:
        return load(connection)


@pytest.fixture(scope="session")
def catalogue_with_event_trigger(node: EmbeddedNode) -> Catalogue:
    made = make_database(node, "watched", SCHEMA + EVENT_TRIGGER)
    with psycopg.connect(made, autocommit=True) as connection:
        return load(connection)


@pytest.fixture(scope="session")
def generated(node: EmbeddedNode) -> str:
    """A database whose objects each test makes anew."""
    return make_database(node, "generated", "SELECT 1")
