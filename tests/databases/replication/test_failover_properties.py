"""Whatever happens to a group, in whatever order: one primary, no lost commit, and a primary again in the end.

A model of PostgreSQL's replication stands in for the nodes: WAL is a list, a replica's is a prefix of its primary's, a
commit is acknowledged when nobody is waited for or one of those has it. Orders to wait come into force later than they
are given, clients go on writing to whoever takes it, and probes fail for no reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from trimaran.databases.replication.failover import (
    Decision,
    Fence,
    Promote,
    Rejoin,
    Repoint,
    Restart,
    Rules,
    Synchronous,
    decide,
)
from trimaran.databases.replication.topology import Memory, NodeFacts, Stream

NAMES = ("a", "b", "c")
RULES = Rules(synchronous=True, failover=True, own=True, failures=3, stall_ms=3_000)
who = st.sampled_from(("primary", "primary", "first replica", "second replica"))
"""By role, because most of what can go wrong begins with the primary."""


@dataclass
class Server:
    """One PostgreSQL."""

    name: str
    standby: bool
    wal: list[str] = field(default_factory=list)
    alive: bool = True
    suspended: bool = False
    hidden: bool = False
    """Probes fail, everything else goes on."""
    upstream: str = "a"
    ordered: frozenset[str] = frozenset()
    """synchronous_standby_names as set, and below, as its WAL senders know them."""
    in_force: frozenset[str] = frozenset()

    @property
    def runs(self) -> bool:
        return self.alive and not self.suspended

    @property
    def timeline(self) -> int:
        return 1 + sum(entry.startswith("timeline") for entry in self.wal)


class Group(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.servers = {name: Server(name, standby=name != "a") for name in NAMES}
        self.memory = Memory("a", timeline=1)
        self.now_s = 0.0
        self.written = 0
        self.acknowledged: set[str] = set()
        self.waiting: dict[str, list[str]] = {name: [] for name in NAMES}
        self.decision: Decision | None = None

    @initialize(settled=st.sampled_from((True, True, True, False)))
    def begin(self, settled: bool) -> None:
        if settled:
            self.come_to_rest()

    def named(self, role: str) -> Server:
        replicas = [name for name in NAMES if name != self.memory.primary]
        return self.servers[{"primary": self.memory.primary, "first replica": replicas[0]}.get(role, replicas[1])]

    # What the world does

    @rule(role=who, count=st.integers(1, 3))
    def write(self, role: str, count: int) -> None:
        server = self.named(role)
        if not server.runs or server.standby:
            return
        for _ in range(count):
            self.written += 1
            commit = f"commit {self.written}"
            server.wal.append(commit)
            self.waiting[server.name].append(commit)
        self.acknowledge(server)

    @rule(role=who, most=st.integers(1, 4))
    def replicate(self, role: str, most: int) -> None:
        self.pull(self.named(role), most)

    def pull(self, server: Server, most: int) -> None:
        upstream = self.servers[server.upstream]
        if server.runs and server.standby and upstream.runs and upstream is not server and self.fits(server, upstream):
            server.wal += upstream.wal[len(server.wal) : len(server.wal) + most]
            self.acknowledge(upstream)

    @rule(role=who, hidden=st.booleans(), killed=st.booleans())
    def one_gets_ahead(self, role: str, hidden: bool, killed: bool) -> None:
        """The moment that a failover must not get wrong: one replica has what no other has, and is not seen."""
        self.write("primary", 2)
        self.replicate(role, 1_000)
        self.named(role).hidden = hidden
        if killed:
            self.kill("primary")

    @rule(role=who)
    def one_is_given_up(self, role: str) -> None:
        """It fails probes and goes on; the others have everything; the order to do without it is on its way."""
        self.hide(role, True)
        for _ in range(5):
            self.step(0.15)
            for server in self.servers.values():
                if not server.hidden:
                    self.pull(server, 1_000)

    @rule(role=who)
    def kill(self, role: str) -> None:
        self.end(self.named(role))

    def end(self, server: Server) -> None:
        server.alive = False
        self.waiting[server.name].clear()

    @rule(role=who, suspended=st.booleans())
    def suspend(self, role: str, suspended: bool) -> None:
        self.named(role).suspended = suspended

    @rule(role=who, hidden=st.booleans())
    def hide(self, role: str, hidden: bool) -> None:
        self.named(role).hidden = hidden

    @rule(role=who)
    def orders_arrive(self, role: str) -> None:
        self.come_into_force(self.named(role))

    def come_into_force(self, server: Server) -> None:
        server.in_force = server.ordered
        self.acknowledge(server)

    @rule()
    def trimaran_is_killed(self) -> None:
        """Its nodes end with it, and it remembers what is on disk."""
        for server in self.servers.values():
            self.end(server)
        kept = self.memory
        self.memory = Memory(kept.primary, kept.timeline, kept.promoting, kept.told, kept.guard)

    @rule(count=st.integers(1, 6), seconds=st.sampled_from([0.0, 0.15, 7.0, 31.0]), late=st.booleans())
    def steps(self, count: int, seconds: float, late: bool) -> None:
        for _ in range(count):
            self.step(seconds, late)
            self.one_primary()
            self.no_acknowledged_commit_is_lost()

    def step(self, seconds: float, late: bool = False) -> None:
        self.now_s += seconds
        facts = {name: self.facts(server, late) for name, server in self.servers.items()}
        self.decision = decide(self.now_s, facts, self.memory, RULES)
        assert self.decision.reason
        self.memory = self.decision.memory
        self.act(self.decision)

    # How the model works

    def fits(self, server: Server, upstream: Server) -> bool:
        return upstream.wal[: len(server.wal)] == server.wal

    def follows(self, server: Server, upstream: Server) -> bool:
        return server.runs and server.standby and server.upstream == upstream.name and self.fits(server, upstream)

    def acknowledge(self, primary: Server) -> None:
        """Tells clients of commits that are as safe as was asked for."""
        if not primary.runs or primary.standby:
            return
        confirmed = len(primary.wal)
        if primary.in_force:
            held = [len(self.servers[n].wal) for n in primary.in_force if self.follows(self.servers[n], primary)]
            confirmed = max(held, default=0)
        safe = set(primary.wal[:confirmed])
        self.acknowledged |= safe & set(self.waiting[primary.name])
        self.waiting[primary.name] = [commit for commit in self.waiting[primary.name] if commit not in safe]

    def facts(self, server: Server, late: bool) -> NodeFacts:
        answers = server.runs and not server.hidden
        streams = tuple(
            Stream(other.name, self.follows(other, server), other.name in server.in_force, len(other.wal))
            for other in self.servers.values()
            if other.runs and other.standby and other.upstream == server.name and self.fits(other, server)
        )
        return NodeFacts(
            name=server.name,
            process="running" if server.alive else "exited",
            reachable=True if answers else None if late and server.alive else False,
            in_recovery=server.standby,
            timeline=server.timeline,
            position=len(server.wal),
            upstream=server.upstream if server.standby else None,
            streams=() if server.standby else streams,
            fenced=not server.alive,
            trouble="" if answers else "does not answer",
        )

    def act(self, decision: Decision) -> None:
        match decision.action:
            case Fence(name):
                self.end(self.servers[name])
                self.servers[name].suspended = False
            case Promote(name, followers):
                server = self.servers[name]
                assert server.runs
                server.ordered = server.in_force = followers
                if server.standby:
                    server.standby = False
                    server.wal.append(f"timeline {server.timeline + 1}")
                for follower in followers:
                    self.servers[follower].upstream = name
                self.memory = replace(self.memory, promoting=False, timeline=server.timeline)
            case Repoint(names, to):
                for name in names:
                    self.servers[name].upstream = to
            case Rejoin(name, how):
                self.end(self.servers[name])
                server, primary = self.servers[name], self.servers[self.memory.primary]
                together = 0
                while server.wal[: together + 1] == primary.wal[: together + 1] and together < len(server.wal):
                    together += 1
                server.wal = list(primary.wal) if how == "copy" else server.wal[:together]
                server.alive, server.suspended = True, False
                server.standby, server.upstream = True, primary.name
            case Restart(name):
                self.servers[name].alive, self.servers[name].suspended = True, False
                self.servers[name].in_force = self.servers[name].ordered
            case Synchronous(names):
                self.servers[self.memory.primary].ordered = names
            case _:
                pass

    def come_to_rest(self) -> None:
        """Nothing bad happens any more."""
        for server in self.servers.values():
            server.suspended = server.hidden = False
        for _ in range(60):
            self.step(2.0)
            for server in self.servers.values():
                self.come_into_force(server)
                self.pull(server, 1_000)

    # What must hold

    @invariant()
    def one_primary(self) -> None:
        assert len([server for server in self.servers.values() if server.alive and not server.standby]) <= 1

    @invariant()
    def writes_go_to_a_primary(self) -> None:
        if self.decision is not None and self.decision.writable is not None:
            assert not self.servers[self.decision.writable].standby

    @invariant()
    def no_acknowledged_commit_is_lost(self) -> None:
        primary = self.servers[self.memory.primary]
        if not self.memory.promoting:
            assert self.acknowledged <= set(primary.wal)

    def teardown(self) -> None:
        self.come_to_rest()
        self.no_acknowledged_commit_is_lost()
        assert self.decision is not None
        assert self.decision.writable == self.memory.primary
        assert self.memory.guard == set(NAMES) - {self.memory.primary}
        primary = self.servers[self.memory.primary]
        assert all(server.wal == primary.wal for server in self.servers.values())


TestGroup = Group.TestCase
TestGroup.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
