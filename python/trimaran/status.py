"""What a running Trimaran looks like from outside: one `Status`, and the same as metrics."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trimaran import __version__, metrics
from trimaran.control import (
    CountStatus,
    DatabaseStatus,
    GatewayStatus,
    NodeStatus,
    PoolStatus,
    QueueStatus,
    ServerStatus,
    Status,
)
from trimaran.facts import PoolFacts, ServerFacts

if TYPE_CHECKING:
    from trimaran.databases.group import MemberState
    from trimaran.supervisor import Supervisor


class Observer:
    """Reads a supervisor; belongs to the event loop's thread."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._facts = supervisor.facts()

    def metrics(self) -> str:
        return metrics.render(self._facts, self.status())

    def status(self) -> Status:
        supervisor, facts = self._supervisor, self._facts
        pools = tuple(self._pool(pool) for pool in facts.pools)
        return Status(
            version=__version__,
            started_at=supervisor.started_at.isoformat(timespec="seconds"),
            uptime_s=round(supervisor.uptime_s, 1),
            pid=os.getpid(),
            addresses=tuple(supervisor.addresses()),
            config_file=str(supervisor.loaded.path) if supervisor.loaded.path else None,
            servers=tuple(server for pool in facts.pools for server in self._servers(pool)),
            queue=QueueStatus(
                length=sum(pool.queue_length for pool in facts.pools),
                oldest_ms=max((pool.queue_oldest_ms for pool in facts.pools), default=0),
            ),
            pools=pools,
            decisions=supervisor.journal.decisions(),
            gateway=GatewayStatus(
                connections=facts.connections,
                connections_total=facts.connections_total,
                requests_total=facts.requests_total,
                responses_total=facts.responses_total,
                refused_total=facts.refused_total,
                bytes_in_total=facts.bytes_in_total,
                bytes_out_total=facts.bytes_out_total,
            ),
            databases=tuple(
                DatabaseStatus(name, group.writable, tuple(_node(state) for state in group.states()))
                for name, group in (supervisor.databases.groups if supervisor.databases else {}).items()
            ),
        )

    def _pool(self, pool: PoolFacts) -> PoolStatus:
        group = self._supervisor.groups.get(pool.name)
        settings = self._supervisor.loaded.config.all_pools()[pool.name]
        up = [server for server in group.servers() if server.state == "up"] if group else []
        return PoolStatus(
            name=pool.name,
            app=settings.app,
            engine=up[0].engine if up else settings.engine,
            interface=up[0].interface if up else settings.interface,
            count=CountStatus(settings.count.least, settings.count.most, group.count)
            if group
            else CountStatus(0, 0, 0),
            queue_length=pool.queue_length,
            queue_oldest_ms=pool.queue_oldest_ms,
            arrivals_total=pool.arrivals_total,
            completed_total=pool.completed_total,
            queued_total=pool.queued_total,
            rejected_total=pool.rejected_total,
            retries_total=pool.retries_total,
            requests_per_s=self._supervisor.rates.get(pool.name, 0.0),
            latency_ms={name: round(us / 1000, 3) for name, us in pool.latency_us.items()},
        )

    def _servers(self, pool: PoolFacts) -> list[ServerStatus]:
        known = {server.name: server for server in pool.servers}
        rows = []
        group = self._supervisor.groups.get(pool.name)
        for server in group.servers() if group else []:
            seen = known.pop(server.name, None)
            from_gateway = seen is not None and server.state == "up"
            rows.append(
                ServerStatus(
                    name=server.name,
                    pool=pool.name,
                    pid=server.pid,
                    address=f"unix:{server.socket}",
                    state=seen.state if seen and from_gateway else server.state,
                    reason=seen.reason if seen and from_gateway else server.reason,
                    memory_bytes=server.process.memory_bytes() if server.process and server.pid else None,
                    started_at=server.started_at,
                    version=server.version,
                    **_counted(seen),
                )
            )
        remotes = self._supervisor.remotes.get(pool.name)
        addresses = {placed.name: placed.address for placed in remotes.placed()} if remotes else {}
        rows += [
            ServerStatus(
                name=name,
                pool=pool.name,
                pid=None,
                address=addresses[name],
                state=seen.state,
                reason=seen.reason,
                memory_bytes=None,
                started_at=None,
                version=1,
                **_counted(seen),
            )
            for name, seen in known.items()
            if name in addresses
        ]
        return rows


def _node(state: MemberState) -> NodeStatus:
    return NodeStatus(
        name=state.name,
        role=state.role,
        state=state.state,
        reason=state.reason,
        address=state.address,
        pid=state.pid,
        timeline=state.timeline,
        position=f"{state.position >> 32:X}/{state.position & 0xFFFFFFFF:X}",
        lag_bytes=state.lag_bytes,
        lag_ms=state.lag_ms,
        synchronous=state.synchronous,
    )


def _counted(seen: ServerFacts | None) -> dict[str, int]:
    """The gateway's figures of a server; zeros while it does not know it."""
    names = ("in_flight", "streams", "in_flight_max", "requests_total", "failures_total")
    return {name: getattr(seen, name) if seen else 0 for name in names}
