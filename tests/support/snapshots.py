"""Snapshots for tests that drive the data plane without a supervisor."""

from __future__ import annotations

import copy
import json
from typing import Any

HTTP: dict[str, Any] = {
    "trusted_proxies": [],
    "forwarded": "x",
    "connections_max": 1000,
    "head_max_bytes": 16384,
    "fields_max": 100,
    "body_max_bytes": 10_000_000,
    "request_buffering": "full",
    "request_memory_bytes": 65536,
    "spool_directory": "",
    "response_buffer_bytes": 262_144,
    "head_timeout_ms": 10_000,
    "body_timeout_ms": 10_000,
    "write_timeout_ms": 10_000,
    "keep_alive_timeout_ms": 30_000,
    "stream_idle_timeout_ms": 60_000,
}

POOL: dict[str, Any] = {
    "name": "app",
    "policy": {"name": "round_robin"},
    "hash_by": "client",
    "slow_start_ms": 0,
    "queue_max": 100,
    "queue_timeout_ms": 10_000,
    "connect_timeout_ms": 2_000,
    "response_timeout_ms": 20_000,
    "idle_connections_max": 16,
    "retries_max": 2,
    "retry_share_max": 0.2,
    "active": None,
    "passive": {"failures": 3, "base_ms": 60_000, "max_ms": 60_000},
    "eject_share_max": 0.5,
    "panic_share": 0.0,
    "servers": [],
}

DATABASE: dict[str, Any] = {
    "name": "main",
    "listener": "127.0.0.1:0",
    "tls": False,
    "users": [],
    "nodes": [],
    "monitor": {"user": "", "password": "", "database": "", "interval_ms": 100, "rest_ms": 1_000},
    "clients_max": 200,
    "connections_max": 10,
    "checkout_timeout_ms": 5_000,
    "hold_timeout_ms": 5_000,
    "connect_timeout_ms": 2_000,
    "login_timeout_ms": 5_000,
    "server_lifetime_ms": 3_600_000,
    "server_idle_ms": 60_000,
    "request_max_bytes": 256 * 1024 * 1024,
    "reads": {
        "split": True,
        "policy": {"name": "least_requests"},
        "causal": "session",
        "wait_ms": 0,
        "lag_max_bytes": 0,
        "lag_max_ms": 0,
    },
}


def node(name: str, address: str, role: str = "primary", **changes: Any) -> dict[str, Any]:
    """One PostgreSQL server of a database."""
    return {
        "name": name,
        "address": address,
        "tls": "disable",
        "ca": "",
        "server_name": "",
        "role": role,
        "weight": 1.0,
        **changes,
    }


def user(name: str, password: str, *, operator: bool = False) -> dict[str, Any]:
    """Who may connect to a database."""
    return {"name": name, "password": password, "verifier": None, "operator": operator}


def database(
    *nodes: dict[str, Any], users: list[dict[str, Any]], monitor: dict[str, str], **changes: Any
) -> dict[str, Any]:
    """A database of `nodes`, on a free loopback port. `monitor` gives user, password and database."""
    made = {**copy.deepcopy(DATABASE), "nodes": list(nodes), "users": users, **changes}
    made["monitor"].update(monitor)
    return made


def server(name: str, address: str, **changes: Any) -> dict[str, Any]:
    """One server of a pool."""
    return {
        "name": name,
        "address": address,
        "weight": 1.0,
        "in_flight_max": 10,
        "draining": False,
        "ready": True,
        "streams_hold_slots": False,
        **changes,
    }


def pool(*servers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A pool of `servers`."""
    return {**copy.deepcopy(POOL), "servers": list(servers), **changes}


def snapshot(
    *pools: dict[str, Any],
    http: dict[str, Any] | None = None,
    routes: list[dict[str, str]] | None = None,
    **changes: Any,
) -> str:
    """The JSON of a snapshot that listens on a free loopback port; everything goes to the first pool."""
    return json.dumps(
        {
            "listeners": ["127.0.0.1:0"],
            "threads": 2,
            "http": {**HTTP, **(http or {})},
            "access_log": {"format": "off", "path": "-"},
            "routes": routes or [{"host": "*", "path": "/", "pool": pools[0]["name"]}],
            "pools": list(pools),
            **changes,
        }
    )
