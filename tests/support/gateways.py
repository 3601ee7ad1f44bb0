"""A PostgreSQL node with a gateway before it, for tests and for other projects' suites."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
from trimaran._core import DataPlane
from trimaran.databases.planning import Planning
from trimaran.databases.postgres import EmbeddedNode
from trimaran.databases.postgres.passwords import SUPERUSER

from tests.support.snapshots import database, node, pool, server, snapshot, user

BUILDER, BUILDER_PASSWORD = "builder", "one who makes databases"
"""A role that may create databases, as test runners of frameworks need it; nothing more."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway and the node behind it."""

    plane: DataPlane
    settings: dict[str, Any]
    node: EmbeddedNode
    _planning: Planning = field(repr=False)
    rest: dict[str, Any] = field(default_factory=dict, repr=False)
    """What the snapshot has beside the database."""

    @property
    def direct(self) -> str:
        """The app's address of the node itself."""
        return self.node.dsn

    @property
    def port(self) -> int:
        return int(self.plane.addresses()[-1].rpartition(":")[2])

    @property
    def dsn(self) -> str:
        """The same through the gateway."""
        return self.through(self.direct)

    def through(self, dsn: str) -> str:
        """The gateway's address for what `dsn` is the node's."""
        place = urlsplit(dsn)
        return dsn.replace(f"{place.hostname}:{place.port}", f"127.0.0.1:{self.port}")

    def apply(self, **changes: Any) -> None:
        """Another snapshot, with these of the database's settings changed."""
        self.plane.apply(_snapshot({**self.settings, **changes}, self.rest))

    def counts(self) -> dict[str, int]:
        """The counters of the database."""
        return dict(json.loads(self.plane.facts())["databases"][0]["counts"])

    def connections(self) -> int:
        """How many server connections there are."""
        return sum(int(node["connections"]) for node in json.loads(self.plane.facts())["databases"][0]["nodes"])

    def stop(self) -> None:
        self.plane.stop(0)
        assert self._planning.stop()


def _snapshot(settings: dict[str, Any], rest: dict[str, Any]) -> str:
    return snapshot(pool(server("none", "127.0.0.1:1")), databases=[settings], **rest)


def start_gateway(primary: EmbeddedNode, *, rest: dict[str, Any] | None = None, **changes: Any) -> Gateway:
    """A gateway before `primary`, with these of its settings changed; `rest` is what else the snapshot has."""
    app = urlsplit(primary.dsn)
    users = [
        user(app.username or "", app.password or "", operator=True),
        user(SUPERUSER, primary.passwords.superuser),
        user(BUILDER, BUILDER_PASSWORD),
    ]
    monitor = {"user": app.username or "", "password": app.password or "", "database": app.path[1:]}
    settings = database(node("main-1", primary.address), users=users, monitor=monitor, **changes)
    plane = DataPlane(_snapshot(settings, rest or {}))

    def connect(group: str, name: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            f"{superuser(primary).rpartition('/')[0]}/{quote(name)}", connect_timeout=2, autocommit=True
        )

    planning = Planning(plane, connect)
    planning.start()
    return Gateway(plane, settings, primary, planning, rest or {})


def superuser(of: EmbeddedNode) -> str:
    """The superuser's address of a node."""
    return f"postgresql://{SUPERUSER}:{of.passwords.superuser}@{of.address}/postgres"


def remove(state: Path) -> None:
    """What a node leaves behind: under root its data is not in the state directory."""
    for record in state.glob("databases/*/node.json"):
        if home := json.loads(record.read_text())["home"]:
            shutil.rmtree(Path(home).parent)


def start_node(state: Path) -> EmbeddedNode:
    """A new PostgreSQL, with the role that makes databases."""
    started = EmbeddedNode("main", state)
    started.start(lambda message: None)
    with psycopg.connect(superuser(started), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {BUILDER} LOGIN CREATEDB PASSWORD '{BUILDER_PASSWORD}'")
    return started


def builder_of(of: EmbeddedNode) -> str:
    """The address of a node for the role that makes databases."""
    return f"postgresql://{BUILDER}:{quote(BUILDER_PASSWORD)}@{of.address}/postgres"


def empty_database(dsn: str, name: str) -> str:
    """Makes a database with a second schema, as SQLAlchemy's suite wants it, and tells its address."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    made = dsn.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(made, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA test_schema")
    return made
