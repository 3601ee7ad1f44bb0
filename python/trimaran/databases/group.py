"""`DatabaseGroup`: one database of the app, with its primary and replicas, as the supervisor handles it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from trimaran.config.model import Database
from trimaran.databases.postgres import EmbeddedNode
from trimaran.errors import DatabaseError
from trimaran.journal import Journal

from .replication import memory as group_memory
from .replication import operations
from .replication.actions import Actions
from .replication.failover import Promote, Rules
from .replication.loop import Loop
from .replication.memory import Kept
from .replication.nodes import Credentials, ForeignNode, Node, OwnNode
from .replication.observe import Observer
from .replication.topology import Memory, Promotion

_NODES_MAX = 8
_FIRST_SIGHT_S = 10.0
_BRING_UP_S = 900.0
_SWITCHOVER_BYTES_MAX = 64 * 1024 * 1024
"""A replica that is further behind is not promoted on request: writes would have to be held for too long."""

Report = Callable[[str], None]
Role = Literal["primary", "replica", "out"]


@dataclass(frozen=True, slots=True)
class Member:
    """One node as others need to know it."""

    name: str
    role: Role
    """out: not to be used, because it does not run, does not answer, or does not follow the primary."""
    host: str
    """A name or address, or the directory of a Unix socket."""
    port: int
    timeline: int
    dsn: str
    """The app's address of it, with its password."""
    sockets: str = ""
    """The directory of its Unix socket, where the gateway may use it."""
    promotion: Promotion | None = None
    """How it became the primary, where that was seen."""


@dataclass(frozen=True, slots=True)
class MemberState:
    """One node as people see it."""

    name: str
    role: Role
    state: str
    """running, stopped, unreachable, or what is being done to it."""
    reason: str
    address: str
    pid: int | None
    timeline: int
    position: int
    """Bytes of WAL: on a primary on its disk, on a replica received."""
    lag_bytes: int | None
    """What its readers do not see yet. None where it is not known."""
    lag_ms: int | None
    """For how long there has been something that its readers do not see."""
    synchronous: bool
    """Whether commits wait for it, or for another like it."""


async def _nobody() -> None:
    """Nobody wants to know."""


class DatabaseGroup:
    """One primary with its replicas: embedded nodes, or those that others run. Belongs to the main thread's event loop."""

    def __init__(self, name: str, settings: Database, state_directory: Path, journal: Journal) -> None:
        self.name = name
        self.settings = settings
        self.changed: Callable[[], Awaitable[None]] = _nobody
        """Called and awaited when members or `writable` have changed. While `writable` is None, writes are to be held;
        before a planned promotion it may take its time to let transactions end, within a bound of its own."""
        self._state_directory = state_directory
        self._journal = journal
        self._nodes: dict[str, Node] = {}
        self._kept = Kept((), settings.replicas)
        self._loop: Loop | None = None
        self._watch: asyncio.Task[None] | None = None
        self._published: object = None

    # What is known

    @property
    def writable(self) -> str | None:
        """The node that takes writes. None while a failover is under way."""
        return self._loop.writable if self._loop else None

    @property
    def hands_over(self) -> bool:
        """Whether writes are held because a primary that is well gives its role away."""
        return self._loop is not None and self._loop.hands_over

    @property
    def credentials(self) -> Credentials:
        """The logins, the same on all nodes. Only after `start`."""
        return self._nodes[self._memory.primary].credentials

    @property
    def dsn(self) -> str:
        """The app's address of the present primary. Only after `start`."""
        return self._nodes[self._memory.primary].dsn

    @property
    def guard(self) -> frozenset[str] | None:
        """Replicas of which the most advanced has every acknowledged commit. None when none is sure to."""
        return self._memory.guard

    def members(self) -> tuple[Member, ...]:
        """Every node: name, role, where it listens. Changes are told by `changed`."""
        return tuple(
            Member(
                node.name, self._role(node)[0], *node.endpoint, node.timeline, node.dsn, node.sockets, node.promotion
            )
            for node in self._nodes.values()
            if node.endpoint[1]  # One that is being made has no port yet.
        )

    def states(self) -> tuple[MemberState, ...]:
        """Every node with its lag and what is the matter with it."""
        return tuple(self._state(node) for node in self._nodes.values())

    @property
    def _memory(self) -> Memory:
        return self._loop.memory if self._loop else self._kept.memory

    def _role(self, node: Node) -> tuple[Role, str]:
        """What the node is good for, and why for nothing more."""
        memory = self._memory
        if node.name == memory.primary:
            if node.trouble and self.writable is None:
                return "out", node.trouble
            return "primary", node.trouble or node.probe.write_failure
        if node.process == "exited":
            return "out", node.trouble
        if memory.failures.get(node.name, 0) >= self.settings.probe_failures or node.sight is None:
            return "out", node.trouble
        if not node.sight.in_recovery:
            return "out", f"a primary on timeline {node.timeline}, which is not the group's"
        primary = self._nodes[memory.primary]
        known = {stream.application_name for stream in primary.sight.streams} if primary.sight else set()
        if not primary.trouble and node.stream_name not in known and self._sees_streams(primary):
            return "out", "does not get WAL from the primary"
        return "replica", node.trouble

    def _sees_streams(self, primary: Node) -> bool:
        """A role without rights sees no replicas in pg_stat_replication; then nothing follows from their absence."""
        return primary.own or bool(primary.sight and primary.sight.streams)

    def _state(self, node: Node) -> MemberState:
        role, reason = self._role(node)
        sight, observer = node.sight, self._observer if self._loop else None
        host, port = node.endpoint
        behind = sight if sight and observer and role != "primary" and sight.in_recovery else None
        return MemberState(
            name=node.name,
            role=role,
            state=node.busy
            or ("stopped" if node.process == "exited" else "unreachable" if node.trouble else "running"),
            reason=reason,
            address=f"{host}:{port}",
            pid=node.pid,
            timeline=node.timeline,
            position=sight.position if sight else 0,
            lag_bytes=observer.applied.behind_bytes(behind.applied) if observer and behind else None,
            lag_ms=observer.applied.behind_ms(time.monotonic(), behind.applied) if observer and behind else None,
            synchronous=node.name in self._memory.told,
        )

    # Start and end

    async def start(self, report: Report) -> None:
        """Brings the group up; returns when there is a primary that takes writes.

        Replicas that have data start with it; missing ones are made in the background. Raises DatabaseError that says
        what to do; then nothing is left running.
        """
        if self.settings.nodes == "embedded":
            self._remember()
            for name in self._kept.nodes:
                self._nodes[name] = self._own_node(name)
        else:
            for number, dsn in enumerate(self.settings.nodes, start=1):
                name = f"{self.name}-{number}"
                self._nodes[name] = ForeignNode(name, dsn, *self._limits())
        rules = self._rules()
        self._observer = Observer(self._nodes, self.settings.probe_timeout_ms / 1000)
        self._actions = Actions(self.name, self._nodes, report)
        try:
            memory = await (self._start_own(report) if rules.own else self._find_primary())
            self._loop = Loop(
                self.name, self._nodes, rules, self._observer, self._actions, self._journal,
                self._keep, self._publish, memory, self.settings.probe_interval_ms / 1000,
            )  # fmt: skip
            await self._until_writable()
        except BaseException:
            await self.stop()
            raise
        self._watch = asyncio.create_task(self._loop.run())

    async def stop(self) -> None:
        """Ends everything that is ours: the primary first, so that its replicas get all it has."""
        await self.stop_watching()
        if self._loop is not None:
            await self._loop.close()
            self._loop.writable = None
        own = [node for node in self._nodes.values() if isinstance(node, OwnNode)]
        for node in own:
            if node.name == self._memory.primary:
                await node.embedded.shut_down()
        await asyncio.gather(*(node.embedded.shut_down() for node in own))

    async def stop_watching(self) -> None:
        """Nothing more is decided; the nodes go on."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None

    def _rules(self) -> Rules:
        settings = self.settings
        own = settings.nodes == "embedded"
        return Rules(
            synchronous=settings.synchronous,
            failover=own if settings.failover is None else settings.failover,
            own=own,
            failures=settings.probe_failures,
            stall_ms=settings.write_stall_ms,
        )

    def _limits(self) -> tuple[float, float]:
        return self.settings.probe_timeout_ms / 1000, self.settings.write_stall_ms / 1000

    def _own_node(self, name: str) -> OwnNode:
        first = self._directory(name) == self.name
        embedded = EmbeddedNode(
            self._directory(name),
            self._state_directory,
            self.settings.port if first else 0,
            secrets=self._own_directory / "secrets.json",
        )
        return OwnNode(name, embedded, *self._limits(), self.settings.disk_free_min_mb)

    def _directory(self, node: str) -> str:
        """The first node lives where a database without replicas does."""
        return self.name if node == f"{self.name}-1" else node

    @property
    def _own_directory(self) -> Path:
        return self._state_directory.resolve() / "databases" / self.name

    # What is remembered

    def _remember(self) -> None:
        """The nodes of last time; with another number of `replicas`, as many as are wanted now."""
        wanted = [f"{self.name}-{number}" for number in range(1, self.settings.replicas + 2)]
        kept = group_memory.read(self._own_directory / "group.json")
        if kept is None:
            present = [name for name in self._directories() if name not in wanted]
            self._kept = Kept((*wanted, *present), self.settings.replicas, Memory(primary=""))
            return
        nodes = kept.nodes
        if kept.replicas != self.settings.replicas:
            nodes = self._resized(kept, wanted)
        self._kept = replace(kept, nodes=nodes, replicas=self.settings.replicas)

    def _resized(self, kept: Kept, wanted: list[str]) -> tuple[str, ...]:
        """Nodes are added by the lowest free numbers, and the highest leave; the primary never does."""
        count = len(wanted)
        nodes = sorted(kept.nodes, key=lambda name: (name != kept.memory.primary, _number(name)))[:count]
        free = (f"{self.name}-{number}" for number in range(1, _NODES_MAX + 1))
        nodes += [name for name in free if name not in nodes][: count - len(nodes)]
        for left in sorted(set(kept.nodes) - set(nodes)):
            self._journal.decide(
                self.name, f"leave {left} out", f"replicas = {self.settings.replicas}; its data stays where it is"
            )
        return tuple(sorted(nodes, key=_number))

    def _directories(self) -> list[str]:
        """Nodes that have a directory of their own, for when there is no memory."""
        pattern = re.compile(rf"{re.escape(self.name)}-[2-9]")
        parent = self._own_directory.parent
        return sorted(each.name for each in parent.iterdir() if pattern.fullmatch(each.name)) if parent.is_dir() else []

    def _keep(self, memory: Memory) -> None:
        """Writes down what has changed of what lasts."""
        if self.settings.nodes != "embedded":
            return
        kept = Kept(tuple(self._nodes), self._kept.replicas, memory)
        if _lasting(kept) != _lasting(self._kept):
            group_memory.write(self._own_directory / "group.json", kept)
        self._kept = kept

    # The first primary

    async def _start_own(self, report: Report) -> Memory:
        """Starts what has data: the primary, and its replicas beside it."""
        memory = await self._who_was_primary(report)
        primary = self._nodes[memory.primary]
        assert isinstance(primary, OwnNode)
        self._keep(memory)
        trouble: DatabaseError | None = None
        try:
            await primary.embedded.bring_up(report)
            if not memory.promoting:
                await self._actions.settle_primary(primary.name)
        except DatabaseError as error:
            if len(self._nodes) == 1 or memory.timeline == 0:
                raise
            trouble = error
            report(f"{primary.name} does not start: {error}")
        others = [node for node in self._nodes.values() if isinstance(node, OwnNode) and node is not primary]
        await asyncio.gather(*(self._start_replica(node, trouble is None, report) for node in others))
        if trouble is not None and not any(node.process == "running" for node in others):
            raise trouble
        return memory

    async def _start_replica(self, node: OwnNode, follows: bool, report: Report) -> None:
        """Starts a replica with the data it has; the loop makes those that have none, or do not start."""
        try:
            found = await node.embedded.control_data(report)
            if found is None or not found.standby:
                return
            if follows:
                await self._actions.rejoin(node.name, self._memory.primary, "start")
            else:
                await node.embedded.bring_up(report)
        except DatabaseError as error:
            report(f"{node.name} does not start: {error}")

    async def _who_was_primary(self, report: Report) -> Memory:
        """The remembered primary; without memory, the node whose data is a primary's, on the latest timeline.

        A node that was promoted without the memory knowing (by hand) has a later timeline than remembered, and wins.
        """
        memory = self._kept.memory
        primaries = {}
        for node in self._nodes.values():
            assert isinstance(node, OwnNode)
            try:
                found = await node.embedded.control_data(report)
            except DatabaseError as error:
                if node.name == memory.primary or not memory.primary:
                    if len(self._nodes) == 1:
                        raise
                    report(str(error))
                continue
            if found is not None and not found.standby:
                primaries[node.name] = found.timeline
        latest = max(primaries.values(), default=0)
        if memory.primary in self._nodes and (latest <= memory.timeline or primaries.get(memory.primary) == latest):
            return memory
        if memory.primary in self._nodes and memory.promoting:
            return memory
        first = [name for name, timeline in primaries.items() if timeline == latest]
        if len(first) > 1:
            raise DatabaseError(
                f"{self._own_directory}: {' and '.join(first)} both were primary on timeline {latest}, and group.json,"
                " which would say which one counts, is not there. Restore it, or move the directory of the wrong one away"
            )
        if not first:
            return Memory(primary=f"{self.name}-1")
        return Memory(primary=first[0], timeline=latest)

    async def _find_primary(self) -> Memory:
        """Of nodes that others run: the one that is a primary. Raises DatabaseError when there is none."""
        deadline = time.monotonic() + _FIRST_SIGHT_S
        while True:
            facts = await self._observer.round(next(iter(self._nodes)))
            primaries = [fact for fact in facts.values() if fact.reachable and fact.in_recovery is False]
            if primaries:
                best = max(primaries, key=lambda fact: fact.timeline)
                same = [fact.name for fact in primaries if fact.timeline == best.timeline]
                if len(same) > 1:
                    raise DatabaseError(f"databases.{self.name}.nodes: {' and '.join(same)} are both primaries")
                return Memory(primary=best.name, timeline=best.timeline)
            if time.monotonic() > deadline:
                told = "; ".join(f"{node.name} {node.trouble or 'is a replica'}" for node in self._nodes.values())
                raise DatabaseError(f"databases.{self.name}.nodes: no primary answers: {told}")
            await asyncio.sleep(self.settings.probe_interval_ms / 1000)

    async def _until_writable(self) -> None:
        """Steps until there is a primary, or the reason why there is none does not go away."""
        assert self._loop is not None
        deadline = time.monotonic() + _FIRST_SIGHT_S
        while self.writable is None:
            await self._loop.step()
            if any(node.busy for node in self._nodes.values()):
                deadline = max(deadline, time.monotonic() + 1.0)
            if self.writable is None and time.monotonic() > deadline:
                told = "; ".join(f"{node.name} {node.trouble or 'is a replica'}" for node in self._nodes.values())
                raise DatabaseError(f"the database {self.name} has no primary: {told}; what was tried is above")
            if self.writable is None:
                await asyncio.sleep(self.settings.probe_interval_ms / 1000)

    async def _publish(self) -> None:
        """Tells of a change in members or in where to write, once."""
        now = (self.members(), self.writable)
        if now != self._published:
            self._published = now
            await self.changed()

    # Commands

    async def promote(self, name: str) -> str:
        """Makes a replica the primary without losing a commit; what was done. Raises DatabaseError with why not.

        Writes are held, the old primary ends in order, which gives its replicas everything it has, and becomes a
        replica of the new one.
        """
        loop = self._running()
        async with loop.exclusive:
            old = self._nodes[loop.memory.primary]
            if name == old.name:
                raise DatabaseError(f"{name} is the primary already")
            node = self._replica(name)
            if not isinstance(old, OwnNode):
                raise DatabaseError(f"{old.name} is run by others: promote {name} with their tools, and it is followed")
            behind = self._state(node).lag_bytes
            if behind is None or behind > _SWITCHOVER_BYTES_MAX:
                raise DatabaseError(f"{name} is {behind} bytes behind; promote it when it has caught up")
            self._journal.decide(self.name, f"promote {name}", "asked for by hand")
            async with operations.connected(old.conninfo()) as connection:
                await connection.execute("SET statement_timeout = 0")
                await connection.execute("CHECKPOINT")  # Else the old primary writes it while writes are held.
            held_at = time.monotonic()
            await loop.hold()
            await self._end_in_order(old, node)
            others = self._connected(loop) - {name}
            await loop.carry_out(Promote(name, frozenset(others) if self.settings.synchronous else frozenset()))
            await self._publish()
            held_ms = round((time.monotonic() - held_at) * 1000)
        return f"{name} is the primary; {old.name} comes back as a replica. Writes were held for {held_ms} ms"

    async def _end_in_order(self, old: OwnNode, successor: Node) -> None:
        """Raises DatabaseError when the successor lacks something; the loop then brings the old primary back."""
        limit_s = self.settings.switchover_timeout_ms / 1000
        await old.forget()
        if not await old.embedded.shut_down(limit_s):
            raise DatabaseError(
                f"{old.name} has not ended in order within {limit_s:g} s; nothing is promoted by hand now"
            )
        found = await old.embedded.control_data(lambda line: None)
        assert found is not None
        async with operations.connected(successor.conninfo()) as connection:
            if not found.ended_cleanly or not await operations.has_received(connection, found.checkpoint + 1, limit_s):
                raise DatabaseError(f"{successor.name} has not got everything from {old.name} within {limit_s:g} s")

    async def add_replica(self) -> str:
        """Begins to make one more replica; what is being done. Raises DatabaseError."""
        loop = self._running()
        async with loop.exclusive:
            if self.settings.nodes != "embedded":
                raise DatabaseError("the nodes of this database are run by others; add one in `nodes`")
            free = [n for n in range(1, _NODES_MAX + 1) if f"{self.name}-{n}" not in self._nodes]
            if not free:
                raise DatabaseError(f"there are {_NODES_MAX} nodes already")
            name = f"{self.name}-{free[0]}"
            node = self._own_node(name)
            found = await node.embedded.control_data(lambda line: None)
            if found is not None and not found.standby:
                raise DatabaseError(f"{name}: its directory holds the data of an earlier primary; move it away first")
            self._nodes[name] = node
            self._keep(loop.memory)
            self._journal.decide(self.name, f"add {name}", "asked for by hand")
            loop.in_background(
                name, "joining", self._actions.rejoin(name, loop.memory.primary, "copy" if found else "start")
            )
        return f"{name} is being made; `trimaran db status` shows when it has caught up"

    async def remove_replica(self, name: str) -> str:
        """Ends a replica and removes its data, which is a copy; what was done. Raises DatabaseError."""
        loop = self._running()
        async with loop.exclusive:
            if name == loop.memory.primary:
                raise DatabaseError(f"{name} is the primary; promote another node first")
            node = self._known(name)
            if not isinstance(node, OwnNode):
                raise DatabaseError(f"{name} is run by others; take it out of `nodes`")
            if node.busy:
                raise DatabaseError(f"{name} is {node.busy}; try again when it is done")
            self._journal.decide(self.name, f"remove {name}", "asked for by hand")
            left = frozenset(loop.memory.told - {name})
            guard = loop.memory.guard
            loop.memory = replace(loop.memory, told=left, guard=guard if left else None, mark=None)
            self._keep(loop.memory)
            await self._actions.wait_for(loop.memory.primary, left)
            await node.embedded.shut_down()
            await node.forget()
            del self._nodes[name]
            loop.memory = replace(loop.memory, guard=guard - {name} if left and guard else None)
            self._keep(loop.memory)
            await self._actions.keep_slots(loop.memory.primary)
            kept = node.embedded.remove_copy()
            await self._publish()
        return f"{name} has been removed" + (
            f"; its data, which was not a plain copy, is still in {kept}" if kept else ""
        )

    def _running(self) -> Loop:
        if self._loop is None:
            raise DatabaseError(f"the database {self.name} does not run")
        return self._loop

    def _known(self, name: str) -> Node:
        if name not in self._nodes:
            raise DatabaseError(f"there is no node {name}; there are {', '.join(self._nodes)}")
        return self._nodes[name]

    def _replica(self, name: str) -> Node:
        node = self._known(name)
        role, reason = self._role(node)
        if role != "replica" or node.trouble:
            raise DatabaseError(f"{name} is no replica that could take over: {reason or node.busy or 'it is out'}")
        return node

    def _connected(self, loop: Loop) -> set[str]:
        """Replicas that follow the primary now."""
        primary = loop.facts.get(loop.memory.primary)
        return {stream.node for stream in primary.streams} if primary else set()


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _lasting(kept: Kept) -> tuple[object, ...]:
    memory = kept.memory
    return (
        kept.nodes, kept.replicas, memory.primary, memory.timeline, memory.promoting, memory.told, memory.guard,
    )  # fmt: skip
