"""Everything countable in Prometheus' text format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trimaran.control import Status
from trimaran.facts import Facts

_QUANTILES = {"p50": "0.5", "p90": "0.9", "p99": "0.99", "p999": "0.999"}
_STATES = ("starting", "up", "down", "ejected", "draining", "failed")
_ROLES = ("primary", "replica", "out")
Sample = tuple[Mapping[str, str], float]


def render(facts: Facts, status: Status) -> str:
    """The body of `/metrics`."""
    lines: list[str] = []
    pools = facts.pools

    def metric(name: str, kind: str, help_: str, samples: Iterable[Sample]) -> None:
        lines.append(f"# HELP trimaran_{name} {help_}")
        lines.append(f"# TYPE trimaran_{name} {kind}")
        lines.extend(
            f"trimaran_{name}{_labels(labels)} {value:g}"
            if value % 1
            else f"trimaran_{name}{_labels(labels)} {int(value)}"
            for labels, value in samples
        )

    metric("info", "gauge", "The version that runs.", [({"version": status.version}, 1)])
    metric("uptime_seconds", "gauge", "Time since the start.", [({}, status.uptime_s)])
    metric("connections", "gauge", "Open client connections.", [({}, facts.connections)])
    metric("connections_total", "counter", "Client connections accepted.", [({}, facts.connections_total)])
    metric("requests_total", "counter", "Requests received.", [({}, facts.requests_total)])
    metric(
        "responses_total",
        "counter",
        "Responses by class.",
        [({"class": name}, count) for name, count in facts.responses_total.items()],
    )
    metric(
        "refused_total",
        "counter",
        "Requests answered by the gateway itself, by cause.",
        [({"cause": name}, count) for name, count in facts.refused_total.items()],
    )
    metric("received_bytes_total", "counter", "Bytes from clients.", [({}, facts.bytes_in_total)])
    metric("sent_bytes_total", "counter", "Bytes to clients.", [({}, facts.bytes_out_total)])
    for name, kind, help_, read in (
        ("pool_queue_length", "gauge", "Requests waiting for a server.", "queue_length"),
        ("pool_queue_oldest_milliseconds", "gauge", "How long the first in line has waited.", "queue_oldest_ms"),
        ("pool_arrivals_total", "counter", "Requests routed to the pool.", "arrivals_total"),
        ("pool_completed_total", "counter", "Requests that a server answered.", "completed_total"),
        ("pool_queued_total", "counter", "Requests that had to wait.", "queued_total"),
        ("pool_rejected_total", "counter", "Requests refused with 503.", "rejected_total"),
        ("pool_retries_total", "counter", "Further attempts on another server.", "retries_total"),
        ("pool_service_microseconds_total", "counter", "Time that requests held slots.", "service_us_total"),
    ):  # fmt: skip
        metric(name, kind, help_, [({"pool": pool.name}, getattr(pool, read)) for pool in pools])
    metric(
        "pool_latency_seconds", "gauge", "Quantiles of the time from request to end of response, last minute.",
        [
            ({"pool": pool.name, "quantile": _QUANTILES[name]}, us / 1e6)
            for pool in pools
            for name, us in pool.latency_us.items()
        ],
    )  # fmt: skip
    metric(
        "pool_servers", "gauge", "Own servers that are wanted.",
        [({"pool": pool.name}, pool.count.current) for pool in status.pools],
    )  # fmt: skip
    for name, kind, help_, read in (
        ("server_in_flight", "gauge", "Requests being served.", "in_flight"),
        ("server_streams", "gauge", "WebSockets and event streams.", "streams"),
        ("server_requests_total", "counter", "Requests sent to the server.", "requests_total"),
        ("server_failures_total", "counter", "Failed attempts.", "failures_total"),
        ("server_memory_bytes", "gauge", "Resident memory.", "memory_bytes"),
    ):
        samples = [({"pool": s.pool, "server": s.name}, getattr(s, read)) for s in status.servers]
        metric(name, kind, help_, [(labels, value) for labels, value in samples if value is not None])
    metric(
        "server_state", "gauge", "1 for the state that the server is in.",
        [({"pool": s.pool, "server": s.name, "state": state}, float(s.state == state)) for s in status.servers for state in _STATES],
    )  # fmt: skip
    nodes = [({"database": d.name, "node": n.name}, n) for d in status.databases for n in d.nodes]
    metric(
        "database_writable", "gauge", "1 while the database takes writes, 0 while a failover is under way.",
        [({"database": d.name}, float(d.writable is not None)) for d in status.databases],
    )  # fmt: skip
    metric(
        "node_role", "gauge", "1 for the role that the node has.",
        [({**labels, "role": role}, float(n.role == role)) for labels, n in nodes for role in _ROLES],
    )  # fmt: skip
    for name, help_, read in (
        ("node_lag_bytes", "WAL that readers of the replica do not see yet.", "lag_bytes"),
        ("node_lag_milliseconds", "For how long there has been something they do not see.", "lag_ms"),
        ("node_synchronous", "1 when commits wait for it, or for another like it.", "synchronous"),
        ("node_timeline", "PostgreSQL's timeline; it grows with each failover.", "timeline"),
    ):
        samples = [(labels, getattr(n, read)) for labels, n in nodes]
        metric(name, "gauge", help_, [(labels, value) for labels, value in samples if value is not None])
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
