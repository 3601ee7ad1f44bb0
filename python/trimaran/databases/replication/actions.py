"""Carrying decisions out on the nodes of a group. Each raises DatabaseError when it could not be done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Literal

from trimaran.errors import DatabaseError

from . import operations
from .line import looked_at
from .nodes import ForeignNode, Node, OwnNode, Report, refuse_writes

_LET_GO_S = 2.0
_COURTESY_S = 0.2


class Actions:
    """What can be done to the nodes of one group."""

    def __init__(self, group: str, nodes: Mapping[str, Node], report: Report) -> None:
        """`nodes` may change between actions."""
        self._group = group
        self._nodes = nodes
        self._report = report

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
        # Not cancelled when it hangs: its own limits end it.
        asked.add_done_callback(looked_at)
        # One that does not answer anyway is not waited for: its replicas have let go of it.
        done, _ = await asyncio.wait({asked}, timeout=_COURTESY_S if node.trouble else _LET_GO_S)
        error = asked.exception() if done else None
        if error is not None or not done:
            self._report(f"{name} could not be asked to take no writes: {error or 'it does not answer'}")

    async def refuse_writes(self, name: str) -> None:
        """Have a primary of others, which is none any more, take no writes."""
        await refuse_writes(self._nodes[name], _LET_GO_S)

    async def promote(self, name: str, followers: Iterable[str]) -> int:
        """Make the replica the primary and point the followers to it; its timeline then.

        It waits for the followers from its first commit on: that is set before it can take one.
        """
        node = self._nodes[name]
        others = [self._nodes[follower] for follower in followers]
        async with operations.connected(node.conninfo()) as connection:
            if node.own:
                await operations.keep_slots(connection, self._group, [n for n in self._nodes if n != name])
            await operations.wait_for(connection, [other.stream_name for other in others])
            pointing = asyncio.gather(*(self._point(other, node) for other in others), return_exceptions=True)
            timeline = await operations.promote(connection)
            await pointing  # Whoever could not be pointed there now is pointed by the next decision.
            if not node.own:
                await operations.allow_writes(connection)
        node.timeline = max(node.timeline, timeline)
        return timeline

    async def repoint(self, names: Iterable[str], to: str) -> None:
        """Have running replicas follow another node."""
        await self.keep_slots(to)
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
                await operations.keep_slots(connection, self._group, [n for n in self._nodes if n != primary])

    async def keep_slots(self, primary: str) -> None:
        """Have the primary keep WAL for the nodes of the group, and for no others of its name."""
        node = self._nodes[primary]
        if node.own:
            async with operations.connected(node.conninfo()) as connection:
                await operations.keep_slots(connection, self._group, [n for n in self._nodes if n != primary])

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
        # Slots from when it was a primary would keep its own disk filling.
        async with operations.connected(node.conninfo()) as connection:
            await operations.keep_slots(connection, self._group, [])

    async def _let_go(self, replica: ForeignNode) -> None:
        async with operations.connected(replica.conninfo()) as connection:
            await operations.follow(connection, replica.nowhere_conninfo(), None)
            if not await operations.receives_nothing(connection, _LET_GO_S):
                raise DatabaseError(f"{replica.name}: does not let go of the node that it follows")

    async def _point(self, replica: Node, to: Node) -> None:
        async with operations.connected(replica.conninfo()) as connection:
            await operations.follow(connection, replica.follow_conninfo(to), replica.slot)

    def _own(self, name: str) -> OwnNode:
        node = self._nodes[name]
        if not isinstance(node, OwnNode):
            raise DatabaseError(f"{name}: is run by others; start and stop it with your own tools")
        return node


def _is_replica(node: Node) -> bool:
    return node.sight is not None and not node.trouble and node.sight.in_recovery
