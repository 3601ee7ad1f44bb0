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
