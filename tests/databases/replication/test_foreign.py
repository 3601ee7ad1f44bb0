"""Nodes that others run, reached by DSN: followed by default, promoted where that is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from trimaran.config.model import Database
from trimaran.databases.group import DatabaseGroup
from trimaran.databases.postgres import EmbeddedNode
from trimaran.errors import DatabaseError
from trimaran.journal import Journal

from tests.databases.replication.conftest import Watched, Writers, running

pytestmark = pytest.mark.timeout(240)


class Others:
    """Somebody else's primary and replica."""

    def __init__(self, state: Path, login: str) -> None:
        secrets = state / "databases" / "their-1" / "secrets.json"
        self.primary = EmbeddedNode("their-1", state, secrets=secrets)
        self.replica = EmbeddedNode("their-2", state, secrets=secrets)
        self._login = login

    def dsn(self, node: EmbeddedNode) -> str:
        if self._login == "app":
            return node.dsn
        return f"postgresql://trimaran:{node.passwords.superuser}@{node.address}/app"

    async def start(self) -> None:
        await self.primary.bring_up(_quiet)
        replication = self.primary.passwords.replication
        superuser = f"postgresql://trimaran:{self.primary.passwords.superuser}@{self.primary.address}/app"
        async with await psycopg.AsyncConnection.connect(superuser, autocommit=True) as connection:
            await connection.execute(f"CREATE ROLE trimaran_replication LOGIN REPLICATION PASSWORD '{replication}'")
            await connection.execute("SELECT pg_create_physical_replication_slot('their_2', true)")
        await self.replica.follow("their-2", self.primary.upstream, _quiet)

    async def stop(self) -> None:
        await asyncio.gather(self.primary.shut_down(), self.replica.shut_down())


@asynccontextmanager
async def others(state: Path, login: str = "trimaran", **settings: Any) -> AsyncIterator[tuple[Others, Watched]]:
    """A group on somebody else's nodes. The replica is named first: roles are found out, not told."""
    theirs = Others(state, login)
    await theirs.start()
    try:
        dsns = (theirs.dsn(theirs.replica), theirs.dsn(theirs.primary))
        async with running(state / "ours", nodes=dsns, **settings) as watched:
            yield theirs, watched
    finally:
        await theirs.stop()


def _quiet(line: str) -> None:
    """What the nodes of others report is not ours to show."""


def test_roles_are_found_and_a_promotion_by_others_is_followed(empty: Path) -> None:
    async def run() -> None:
        async with others(empty) as (theirs, watched):
            assert watched.group.writable == "main-2"
            await watched.until(lambda: watched.names("replica") == ["main-1"], "the replica is seen as one")
            await watched.until(lambda: watched.state("main-1").lag_bytes == 0, "lag is seen")
            await theirs.primary.kill()
            await watched.until(lambda: watched.group.writable is None, "writes are held")
            assert any("waiting for whoever manages these nodes" in line for line in watched.decisions())
            await watched.execute("SELECT pg_promote()", theirs.dsn(theirs.replica))
            await watched.until(lambda: watched.group.writable == "main-1", "the new primary is followed")
            await watched.execute("CREATE TABLE t (x int)")
            with pytest.raises(DatabaseError, match="run by others"):
                await watched.group.add_replica()

    asyncio.run(run())


def test_an_app_login_without_rights_is_enough_to_follow(empty: Path) -> None:
    async def run() -> None:
        async with others(empty, login="app") as (_, watched):
            assert watched.group.writable == "main-2"
            await watched.until(lambda: watched.names("replica") == ["main-1"], "the replica is seen as one")

    asyncio.run(run())


def test_failover_where_it_is_allowed_loses_no_commit(empty: Path) -> None:
    async def run() -> None:
        async with others(empty, failover=True) as (theirs, watched):
            await watched.whole(replicas=1)
            async with Writers(watched) as writers:
                await theirs.primary.kill()
                await watched.until(lambda: watched.group.writable == "main-1", "the replica is promoted")
                await writers.more(20)
            assert await writers.lost() == set()
            await theirs.primary.bring_up(_quiet)
            await watched.until(
                lambda: watched.state("main-2").reason.startswith("a primary on timeline 1"), "it is back"
            )
            assert watched.group.writable == "main-1", "an old primary is not used again"
            assert watched.names("replica") == []

    asyncio.run(run())


def test_no_primary_is_said_with_what_each_node_answers(empty: Path) -> None:
    async def run() -> None:
        dsns = ("postgresql://app@127.0.0.1:1/app", "postgresql://app@127.0.0.1:2/app")
        group = DatabaseGroup("main", Database(nodes=dsns), empty, Journal())
        with pytest.raises(DatabaseError, match=r"main-1 .*refused.*main-2 .*refused"):
            await group.start(_quiet)

    asyncio.run(run())
