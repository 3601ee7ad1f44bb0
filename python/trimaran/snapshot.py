"""The one structure that goes down to the data plane: configuration and topology, as `crates/dataplane/src/snapshot.rs` reads it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimaran.config.check import expected_statuses
from trimaran.config.load import Loaded
from trimaran.config.model import Bind, Health, Pool


@dataclass(frozen=True, slots=True)
class Placed:
    """One server as the data plane is to see it."""

    name: str
    address: str
    """`unix:/path` or `IP:PORT`."""
    weight: float
    in_flight_max: int
    draining: bool
    ready: bool
    """Known to be ready; else the first active checks decide."""
    streams_hold_slots: bool


def build(
    loaded: Loaded,
    pools: Mapping[str, tuple[Pool, Sequence[Placed]]],
    certificate_marks: Mapping[str, str],
    databases: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The snapshot as JSON.

    `pools` are the settings in force and the servers of each pool. `certificate_marks` are those of `certificate_marks`
    that are known to be good: files are only read again when their mark has changed. `databases` are made by
    `DatabaseGateway.snapshot`.
    """
    config = loaded.config
    routes = config.routes or ()
    return json.dumps(
        {
            "listeners": [listener(bind) for bind in config.gateway.bind],
            "threads": config.gateway.threads or os.cpu_count() or 1,
            "tls": _tls(loaded, certificate_marks),
            "http": _http(loaded),
            "access_log": {"format": config.gateway.access_log, "path": config.gateway.access_log_path},
            "routes": [{"host": route.host, "path": route.path, "pool": route.pool} for route in routes]
            or [{"host": "*", "path": "/", "pool": "app"}],
            "pools": [_pool(name, pool, servers) for name, (pool, servers) in pools.items()],
            "databases": list(databases),
        }
    )


def certificate_marks(loaded: Loaded) -> dict[str, str]:
    """What tells the versions of certificate files apart: their times and sizes, by the certificate's file."""
    tls = loaded.config.gateway.tls
    return {
        each.certificate: " ".join(
            _mark(loaded.directory / file) for file in (each.certificate, each.key, tls.client_ca) if file
        )
        for each in tls.certificates
    }


def _mark(file: Path) -> str:
    try:
        status = file.stat()
    except OSError:
        return "gone"
    return f"{status.st_mtime_ns}:{status.st_size}:{status.st_ino}"


def _tls(loaded: Loaded, marks: Mapping[str, str]) -> dict[str, Any] | None:
    gateway = loaded.config.gateway
    tls = gateway.tls
    if not tls.bind:
        return None
    return {
        "listeners": [listener(bind) for bind in tls.bind],
        "certificates": [
            {
                "certificate": str(loaded.directory / each.certificate),
                "key": str(loaded.directory / each.key),
                "mark": marks.get(each.certificate, ""),
            }
            for each in tls.certificates
        ],
        "client_ca": str(loaded.directory / tls.client_ca) if tls.client_ca else "",
        "version_min": tls.version_min,
        "http2": gateway.http2,
        "redirect_port": tls.bind[0].port if tls.redirect and gateway.bind else None,
        "hsts_max_age_s": tls.hsts_max_age_s,
    }


def listener(bind: Bind) -> str:
    """A listening address in numbers: the data plane resolves no names."""
    if bind.path is not None:
        return str(bind)
    host = {"": "[::]" if _has_ipv6() else "0.0.0.0", "localhost": "127.0.0.1"}.get(bind.host, bind.host)
    return f"[{host}]:{bind.port}" if ":" in host and not host.startswith("[") else f"{host}:{bind.port}"


def _has_ipv6() -> bool:
    """Whether one socket can serve every interface of both families."""
    return os.path.exists("/proc/net/if_inet6")  # noqa: PTH110 - a question to the kernel, not to a path


def _http(loaded: Loaded) -> dict[str, Any]:
    gateway = loaded.config.gateway
    elsewhere = {"bind", "tls", "threads", "access_log", "access_log_path"}
    fields = {field.name: getattr(gateway, field.name) for field in dataclasses.fields(gateway)}
    http = {name: value for name, value in fields.items() if name not in elsewhere}
    http["rate_limits"] = [dataclasses.asdict(limit) for limit in gateway.rate_limits]
    http["compression"] = dataclasses.asdict(gateway.compression)
    http["trusted_proxies"] = list(gateway.trusted_proxies)
    if gateway.spool_directory:
        http["spool_directory"] = str((loaded.directory / gateway.spool_directory).resolve())
    return http


def _pool(name: str, pool: Pool, servers: Sequence[Placed]) -> dict[str, Any]:
    health = pool.health
    policy: dict[str, Any] = {"name": pool.balance}
    if pool.balance == "hash":
        policy["bound"] = pool.hash_bound
    return {
        "name": name,
        "policy": policy,
        "hash_by": pool.hash_by,
        "slow_start_ms": pool.slow_start_ms,
        "queue_max": pool.queue_max,
        "queue_timeout_ms": pool.queue_timeout_ms,
        "queue_target_ms": pool.queue_target_ms,
        "connect_timeout_ms": pool.connect_timeout_ms,
        "response_timeout_ms": pool.response_timeout_ms,
        "idle_connections_max": pool.idle_connections_max,
        "retries_max": pool.retries_max,
        "retry_share_max": pool.retry_share_max,
        "active": _active(health),
        "passive": {"failures": health.eject_failures, "base_ms": health.eject_base_ms, "max_ms": health.eject_max_ms},
        "eject_share_max": health.eject_share_max,
        "panic_share": health.panic_share,
        "servers": [dataclasses.asdict(server) for server in servers],
    }


def _active(health: Health) -> dict[str, Any] | None:
    if health.check == "off":
        return None
    kind = health.check if health.check != "auto" else "http" if health.path else "tcp"
    return {
        "kind": kind,
        "path": health.path or "/",
        "expect": [list(span) for span in expected_statuses(health.expect)],
        "interval_ms": health.interval_ms,
        "timeout_ms": health.timeout_ms,
        "rise": health.rise,
        "fall": health.fall,
    }
