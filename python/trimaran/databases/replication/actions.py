"""Carrying decisions out on the nodes of a group. Each raises DatabaseError when it could not be done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Literal

from trimaran.errors import DatabaseError

from . import operations
from .line import looked_at
from .nodes import ForeignNode, Node, OwnNode, Report, refuse_writes
from .topology import Promotion

_LET_GO_S = 2.0


class Actions:
    """What can be done to the nodes of one group."""

    def __init__(self, group: str, nodes: Mapping[str, Node], report: Report) -> None:
        """`nodes` may change between actions."""
        self._group = group
        self._nodes = nodes
        self._report = report
        self._pointing: asyncio.Task[None] | None = None
        self._asked: tuple[str, asyncio.Task[None]] | None = None
        """The last request to take no writes, which may arrive when nobody needs it any more."""
        self._under_way: set[asyncio.Task[None]] = set()
        """What is not waited for and not cancelled: its own limits end it."""

    async def fence(self, name: str) -> None:
        """Make sure that the node acknowledges nothing more.

        Ours is killed, children and all. From one of others its replicas are taken away: while commits wait for a
        replica, none can be acknowledged then. It is asked to take no writes as well, if it still listens.
        """
        node = self._nodes[name]
        if isinstance(node, OwnNode):
            if not await node.embedded.kill():
                raise DatabaseError(f"{name}: its processes cannot be ended")
            await node.forget()
            return
        replicas = [n for n in self._nodes.values() if isinstance(n, ForeignNode) and n is not node and _is_replica(n)]
        asked = asyncio.create_task(refuse_writes(node, _LET_GO_S))
        await asyncio.gather(*(self._let_go(replica) for replica in replicas))
        self._keep_under_way(asked)
        self._asked = (name, asked)
        # One that does not answer anyway is not waited for: its replicas have let go of it.
        done, _ = await asyncio.wait({asked}, timeout=0 if node.trouble else _LET_GO_S)
        error = asked.exception() if done else None
        if error is not None or not done:
            self._report(f"{name} could not be asked to take no writes: {error or 'it does not answer'}")

    async def refuse_writes(self, name: str) -> None:
        """Have a primary of others, which is none any more, take no writes."""
        await refuse_writes(self._nodes[name], _LET_GO_S)

    async def promote(self, name: str, followers: Iterable[str]) -> int:
        """Make the replica the primary and begin to point the followers to it (`followed`); its timeline then.

        It waits for the followers from its first commit on: that is set before it can take one.
        """
        node = self._nodes[name]
        others = [self._nodes[follower] for follower in followers]
        # At the same time: to be promoted and to be told of another primary each take a while on a slow disk.
        self._pointing = asyncio.create_task(self._have_follow(others, node))
        try:
            async with operations.connected(node.conninfo()) as connection:
                await operations.wait_for(connection, [other.stream_name for other in others])
                seen_xid, former = await operations.next_xid_when_replayed(connection), node.timeline
                timeline = await operations.promote(connection)
                if seen_xid is not None:
                    node.promotion = Promotion(former, seen_xid, await operations.next_xid(connection))
                if not node.own:
                    await operations.allow_writes(connection)
        finally:
            self._keep_under_way(self._pointing)
        node.timeline = max(node.timeline, timeline)
        return timeline

    async def followed(self, within_s: float) -> None:
        """Returns when the followers of the last promotion have been pointed to it, or cannot be, or it takes long."""
        if self._pointing is not None:
            await asyncio.wait({self._pointing}, timeout=within_s)

    async def _have_follow(self, replicas: Iterable[Node], to: Node) -> None:
        """Slots for all, then each is pointed there. Whoever could not be is pointed by the next decision."""
        await self.keep_slots(to.name, reserve=False)
        await asyncio.gather(*(self._point(replica, to) for replica in replicas), return_exceptions=True)

    async def repoint(self, names: Iterable[str], to: str) -> None:
        """Have running replicas follow another node, a primary.

        One of others that was fenced and is well again before it was replaced is the primary still: it takes writes again.
        """
        await self.keep_slots(to)
        if self._asked is not None and self._asked[0] == to:
            await asyncio.wait({self._asked[1]}, timeout=_LET_GO_S)
            self._asked = None
            async with operations.connected(self._nodes[to].conninfo()) as connection:
                await operations.allow_writes(connection)
        await asyncio.gather(*(self._point(self._nodes[name], self._nodes[to]) for name in names))

    async def wait_for(self, primary: str, names: Iterable[str]) -> None:
        """Have the primary wait, with each commit, for any one of these replicas; for none when there are none."""
        async with operations.connected(self._nodes[primary].conninfo()) as connection:
            await operations.wait_for(connection, [self._nodes[name].stream_name for name in names])

    async def settle_primary(self, primary: str) -> None:
        """What a primary of ours needs so that replicas can follow: their role and their slots."""
        node = self._nodes[primary]
        if isinstance(node, OwnNode):
            async with operations.connected(node.conninfo()) as connection:
                await operations.keep_role(connection, node.embedded.passwords.replication)
                await operations.keep_slots(connection, self._group, self._others(primary))

    async def keep_slots(self, primary: str, *, reserve: bool = True) -> None:
        """Have the primary keep WAL for the nodes of the group, and for no others of its name."""
        node = self._nodes[primary]
        if node.own:
            async with operations.connected(node.conninfo()) as connection:
                await operations.keep_slots(connection, self._group, self._others(primary), reserve=reserve)

    async def restart(self, name: str) -> None:
        """Start a node of ours where it was."""
        node = self._own(name)
        await node.forget()
        await node.embedded.kill()
        await node.embedded.bring_up(self._report)

    async def rejoin(self, name: str, primary: str, how: Literal["start", "rewind", "copy"]) -> None:
        """Have a node of ours follow the primary, whatever it was before. `start` rewinds only a former primary."""
        node, upstream = self._own(name), self._own(primary)
        if node.process == "running":
            await node.embedded.shut_down()
        await node.embedded.kill()
        await node.forget()
        await self.keep_slots(primary)
        await node.embedded.follow(
            name, upstream.embedded.upstream, self._report, diverged=how == "rewind", copy=how == "copy"
        )
        async with operations.connected(node.conninfo()) as connection:
            await operations.prepare_slots(connection, self._group, self._others(name))

    def _keep_under_way(self, task: asyncio.Task[None]) -> None:
        self._under_way.add(task)
        task.add_done_callback(looked_at)
        task.add_done_callback(self._under_way.discard)

    async def _let_go(self, replica: ForeignNode) -> None:
        async with operations.connected(replica.conninfo()) as connection:
            await operations.follow(connection, replica.nowhere_conninfo(), None)
            if not await operations.receives_nothing(connection, _LET_GO_S):
                raise DatabaseError(f"{replica.name}: does not let go of the node that it follows")

    async def _point(self, replica: Node, to: Node) -> None:
        async with operations.connected(replica.conninfo()) as connection:
            await operations.follow(connection, replica.follow_conninfo(to), replica.slot)

    def _others(self, name: str) -> list[str]:
        return [other for other in self._nodes if other != name]

    def _own(self, name: str) -> OwnNode:
        node = self._nodes[name]
        if not isinstance(node, OwnNode):
            raise DatabaseError(f"{name}: is run by others; start and stop it with your own tools")
        return node


def _is_replica(node: Node) -> bool:
    return node.sight is not None and not node.trouble and node.sight.in_recovery
