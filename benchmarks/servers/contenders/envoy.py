"""Envoy. Its own request ids and fields are off: the other peers have none, and it shall not do more work than they."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.servers.contenders.process import answers, free_port, program, proxy_cores, running
from benchmarks.servers.contenders.work import CLIENTS_MAX, UPSTREAM_MAX, Contender, Running, Work

BALANCES = {"round_robin": "ROUND_ROBIN", "least_requests": "LEAST_REQUEST", "random": "RANDOM"}
"""With equal weights LEAST_REQUEST compares two servers drawn by chance."""
TYPES = "type.googleapis.com/envoy.extensions"


@contextlib.contextmanager
def start(directory: Path, work: Work) -> Iterator[Running]:
    """As many workers as threads are asked for."""
    port = free_port()
    file = directory / f"envoy-{work.balance}.json"
    file.write_text(json.dumps({"static_resources": _resources(port, work)}))
    command = [*proxy_cores(work.threads), program("envoy"), "-c", str(file), "--concurrency", str(work.threads)]
    command += ["--log-level", "error", "--disable-hot-restart"]
    with running(command, log=directory / "envoy.log") as process:
        answers(port)
        yield Running("envoy", port, [process.pid], work)


def _resources(port: int, work: Work) -> dict[str, Any]:
    chain: dict[str, Any] = {"filters": [_manager()]}
    if work.certificate:
        chain["transport_socket"] = _tls(work)
    listener = {
        "name": "in",
        "address": _address(f"127.0.0.1:{port}"),
        "tcp_backlog_size": 4096,
        "filter_chains": [chain],
    }
    limits = {
        "max_connections": UPSTREAM_MAX * 2,
        "max_pending_requests": CLIENTS_MAX,
        "max_requests": CLIENTS_MAX,
    }
    cluster = {
        "name": "servers",
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": BALANCES[work.balance],
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": "servers",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(address)}} for address in work.servers]}],
        },
    }
    return {"listeners": [listener], "clusters": [cluster]}


def _manager() -> dict[str, Any]:
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router", "suppress_envoy_headers": True},
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "servers", "timeout": "60s"}}
    settings = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "AUTO",
        "use_remote_address": True,
        "generate_request_id": False,
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": settings}


def _tls(work: Work) -> dict[str, Any]:
    assert work.certificate is not None
    certificate = {
        "certificate_chain": {"filename": str(work.certificate.chain)},
        "private_key": {"filename": str(work.certificate.key)},
    }
    context = {"tls_certificates": [certificate], "alpn_protocols": ["h2", "http/1.1"]}
    context["tls_params"] = {"tls_maximum_protocol_version": "TLSv1_3"}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": context,
        },
    }


def _address(address: str) -> dict[str, Any]:
    kind, _, rest = address.partition(":")
    if kind == "unix":
        return {"pipe": {"path": rest}}
    return {"socket_address": {"address": kind, "port_value": int(rest)}}


CONTENDER = Contender("envoy", start, "envoy", ("--version",), BALANCES)
