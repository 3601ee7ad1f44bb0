"""A primary and two replicas that somebody else runs, each behind a path that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from trimaran.databases.postgres import EmbeddedNode
from trimaran.databases.postgres.standby import Upstream

from .cable import Cable
from .homes import remove_homes

COUNT = 3


def _quiet(line: str) -> None:
    """What the nodes of others report is not ours to show."""


class Others:
    """A primary and two replicas that somebody else runs. They see each other, and are seen, over cables."""

    def __init__(self, state: Path) -> None:
        secrets = state / "databases" / "their-1" / "secrets.json"
        self.nodes = [EmbeddedNode(f"their-{number}", state, secrets=secrets) for number in range(1, COUNT + 1)]
        self.cables: list[Cable] = []

    def start(self) -> None:
        first = self.nodes[0]
        first.start(_quiet)
        self.cables.append(Cable(first.port))
        with self.superuser(0) as connection:
            login = f"CREATE ROLE trimaran_replication LOGIN REPLICATION PASSWORD '{first.passwords.replication}'"
            connection.execute(login.encode())
            self._keep_slots(connection)
        for node in self.nodes[1:]:
            asyncio.run(node.follow(node.name, self._upstream(0), _quiet))
            self.cables.append(Cable(node.port))
            with self.superuser(len(self.cables) - 1) as connection:
                self._keep_slots(connection)

    def stop(self) -> None:
        for cable in self.cables:
            cable.close()
        for node in self.nodes:
            node.stop()

    def dsns(self) -> tuple[str, ...]:
        password = self.nodes[0].passwords.superuser
        return tuple(f"postgresql://trimaran:{password}@127.0.0.1:{cable.port}/app" for cable in self.cables)

    def superuser(self, index: int) -> psycopg.Connection:
        """Not over its cable."""
        node = self.nodes[index]
        dsn = f"postgresql://trimaran:{node.passwords.superuser}@{node.address}/app"
        return psycopg.connect(dsn, autocommit=True)

    def rejoin(self, index: int, primary: int) -> None:
        """What a person does with a primary that was replaced: it is rewound and follows."""
        node = self.nodes[index]
        asyncio.run(node.kill())
        asyncio.run(node.follow(node.name, self._upstream(primary), _quiet, diverged=True))
        with self.superuser(index) as connection:
            self._keep_slots(connection)

    def _upstream(self, index: int) -> Upstream:
        return Upstream("127.0.0.1", self.cables[index].port)

    def _keep_slots(self, connection: psycopg.Connection) -> None:
        """Each may have to serve all the others one day."""
        for node in self.nodes:
            slot = node.name.replace("-", "_")
            connection.execute(
                "SELECT pg_create_physical_replication_slot(%s)"
                " WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %s)",
                (slot, slot),
            )


@contextmanager
def others(state: Path) -> Iterator[Others]:
    state.chmod(0o755)
    theirs = Others(state)
    try:
        theirs.start()
        yield theirs
    finally:
        theirs.stop()
        remove_homes(state)
