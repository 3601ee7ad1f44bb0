"""What the data plane reports: counters that only grow, and gauges of this moment.

Parsed once from the JSON of `DataPlane.facts()`; the other side is `crates/dataplane/src/metrics.rs`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One server as the gateway sees it."""

    name: str
    state: str
    """starting, up, down, ejected or draining."""
    reason: str
    in_flight: int
    """Requests being served now."""
    streams: int
    """Upgraded connections and event streams that hold no slot."""
    in_flight_max: int
    requests_total: int
    failures_total: int
    """Connect failures, resets, time-outs and 5xx answers of the gateway's making."""
    service_us_total: int
    """Sum of times from dispatch to the end of the response."""


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """One pool: its queue, its totals, and its latency."""

    name: str
    queue_length: int
    queue_oldest_ms: int
    queue_max: int
    arrivals_total: int
    completed_total: int
    """Requests that a server answered."""
    service_us_total: int
    queued_total: int
    """Requests that had to wait."""
    queue_wait_us_total: int
    rejected_total: int
    """503 because the queue was full, timed out or no server was usable."""
    retries_total: int
    latency_us: dict[str, float]
    """Quantiles over the last minute or so: keys p50, p90, p99, p999."""
    servers: tuple[ServerFacts, ...]


@dataclass(frozen=True, slots=True)
class DatabaseNodeFacts:
    """One PostgreSQL node as its gateway sees it."""

    name: str
    reachable: bool
    position: int
    """Bytes of WAL: written on the primary, replayed on a replica."""
    lag_bytes: int
    lag_ms: int | None
    """None where a replica has replayed no transaction yet."""
    connections: int
    in_use: int
    """Connections that serve a client now."""
    waiting: int
    """Clients that wait for a connection."""
    requests_total: int


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """One database's gateway."""

    name: str
    clients: int
    counts: dict[str, int]
    """Totals by name: requests_total, replica_reads_total, repeated_total, held_total, outcome_unknown_total, ..."""
    nodes: tuple[DatabaseNodeFacts, ...]


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What a database's gateway knows of one distinct statement."""

    database: str
    """The database of PostgreSQL that it is run in."""
    statement: str
    executions: int
    goes_to: str
    """primary or replica."""
    learnt: bool
    """A replica has refused it: it writes, or reads an unlogged table."""
    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the data plane counts."""

    at_ms: int
    """Monotonic milliseconds of the data plane."""
    connections: int
    """Open client connections."""
    connections_total: int
    requests_total: int
    responses_total: dict[str, int]
    """By class: 1xx, 2xx, 3xx, 4xx, 5xx."""
    refused_total: dict[str, int]
    """Requests refused by the gateway itself, by cause: bad_request, head_too_large, body_too_large, timeout, no_route, ..."""
    bytes_in_total: int
    bytes_out_total: int
    pools: tuple[PoolFacts, ...]
    databases: tuple[DatabaseFacts, ...] = ()


def parse(text: str) -> Facts:
    """Facts from the data plane's JSON. Raises KeyError or TypeError when the two sides disagree."""
    raw = json.loads(text)
    pools = tuple(
        PoolFacts(**{**pool, "servers": tuple(ServerFacts(**server) for server in pool["servers"])})
        for pool in raw.pop("pools")
    )
    databases = tuple(
        DatabaseFacts(**{**each, "nodes": tuple(DatabaseNodeFacts(**node) for node in each["nodes"])})
        for each in raw.pop("databases")
    )
    return Facts(pools=pools, databases=databases, **raw)


def parse_plans(text: str) -> list[PlanFacts]:
    """Plans from the JSON of `DataPlane.plans`."""
    return [PlanFacts(**plan) for plan in json.loads(text)]
