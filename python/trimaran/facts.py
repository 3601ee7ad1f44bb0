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


def parse(text: str) -> Facts:
    """Facts from the data plane's JSON. Raises KeyError or TypeError when the two sides disagree."""
    raw = json.loads(text)
    pools = tuple(
        PoolFacts(**{**pool, "servers": tuple(ServerFacts(**server) for server in pool["servers"])})
        for pool in raw.pop("pools")
    )
    return Facts(pools=pools, **raw)
