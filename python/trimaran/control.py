"""What may be asked of a running Trimaran: the seam between the supervisor and everything that shows or steers it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol

from trimaran.facts import PlanFacts


class Control(Protocol):
    """The running Trimaran. Every method may be called from any thread and answers within seconds.

    The commands answer with a sentence that says what was done, and raise TrimaranError with one that says why not.
    """

    def status(self) -> Status: ...

    def metrics(self) -> str:
        """Everything countable, in Prometheus' text format."""

    def scale(self, pool: str, count: int) -> str:
        """Sets the number of servers of `pool`. Within a range the scaler goes on from there."""

    def drain(self, server: str) -> str:
        """Takes one server out of traffic, lets it finish, and replaces it."""

    def plans(self, database: str) -> list[PlanFacts]:
        """What the gateway of a database knows of statements, the most executed first. The empty name means the only one."""

    def dsn(self, database: str, node: str, *, console: bool) -> str:
        """The app's address of a database, of one node past the gateway, or of the gateway's console, with its password.

        Empty names mean the only database, and no node."""

    def reload(self) -> str:
        """Reads the configuration again and replaces every server by a new one. Returns when traffic has moved over."""

    def promote(self, node: str) -> str:
        """Makes a replica the primary of its database, without losing a commit."""

    def add_replica(self, database: str) -> str:
        """Begins to make one more replica. The empty name means the only database."""

    def remove_replica(self, node: str) -> str:
        """Ends a replica and removes its copy of the data."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server: an own process, or a remote one (without pid)."""

    name: str
    pool: str
    pid: int | None
    address: str
    state: str
    """starting, up, down, ejected, draining, or failed (it does not boot)."""
    reason: str
    in_flight: int
    streams: int
    in_flight_max: int
    requests_total: int
    failures_total: int
    memory_bytes: int | None
    started_at: str | None
    version: int
    """Which reload it belongs to, from 1."""


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """Requests that wait for a server, over all pools."""

    length: int
    oldest_ms: int


@dataclass(frozen=True, slots=True)
class CountStatus:
    """The range of a pool's own servers and how many there are."""

    least: int
    most: int
    current: int


@dataclass(frozen=True, slots=True)
class PoolStatus:
    name: str
    app: str | None
    engine: str
    interface: str
    count: CountStatus
    queue_length: int
    queue_oldest_ms: int
    arrivals_total: int
    completed_total: int
    queued_total: int
    rejected_total: int
    retries_total: int
    requests_per_s: float
    latency_ms: dict[str, float]
    """Quantiles of the last minute or so: p50, p90, p99, p999."""


@dataclass(frozen=True, slots=True)
class DecisionStatus:
    """Something the supervisor decided, and why."""

    at: str
    """ISO 8601 with offset."""
    pool: str
    action: str
    reason: str


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    connections: int
    connections_total: int
    requests_total: int
    responses_total: dict[str, int]
    refused_total: dict[str, int]
    bytes_in_total: int
    bytes_out_total: int


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One PostgreSQL server."""

    name: str
    role: str
    """primary, replica, or out: not to be used."""
    state: str
    """running, stopped, unreachable, or what is being done to it (joining, starting)."""
    reason: str
    address: str
    pid: int | None
    timeline: int
    position: str
    """WAL position like `0/16B3748`: on the primary's disk, or received by a replica."""
    lag_bytes: int | None
    lag_ms: int | None
    """What, and for how long, readers of a replica have not seen of the primary. None for others."""
    synchronous: bool
    """Whether commits wait for this replica, or for another like it."""


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    name: str
    writable: str | None
    """The node that takes writes; None while a failover is under way."""
    nodes: tuple[NodeStatus, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """Everything at one moment."""

    version: str
    started_at: str
    uptime_s: float
    pid: int
    addresses: tuple[str, ...]
    config_file: str | None
    servers: tuple[ServerStatus, ...]
    queue: QueueStatus
    pools: tuple[PoolStatus, ...]
    decisions: tuple[DecisionStatus, ...]
    """The latest fifty, newest last."""
    gateway: GatewayStatus
    databases: tuple[DatabaseStatus, ...]

    def to_json(self) -> dict[str, Any]:
        """The body of `/api/status`."""
        return dataclasses.asdict(self)
