"""Caddy."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.servers.contenders.process import answers, free_port, program, proxy_cores, running
from benchmarks.servers.contenders.work import UPSTREAM_MAX, Contender, Running, Work

BALANCES = {
    "round_robin": "round_robin",
    "least_requests": "least_conn",
    "power_of_two": "random_choose",
    "random": "random",
}


@contextlib.contextmanager
def start(directory: Path, work: Work) -> Iterator[Running]:
    """As many Go threads as are asked for."""
    port = free_port()
    handler = {
        "handler": "reverse_proxy",
        "load_balancing": {"selection_policy": {"policy": BALANCES[work.balance]}},
        "upstreams": [{"dial": address.replace("unix:", "unix/")} for address in work.servers],
        "transport": {
            "protocol": "http",
            "keep_alive": {"max_idle_conns": UPSTREAM_MAX * 2, "max_idle_conns_per_host": UPSTREAM_MAX},
            "compression": False,
        },
    }
    server: dict[str, Any] = {
        "listen": [f"127.0.0.1:{port}"],
        "routes": [{"handle": [handler]}],
        "automatic_https": {"disable": True},
        "protocols": ["h1", "h2", "h2c"],
    }
    apps: dict[str, Any] = {"http": {"servers": {"in": server}}}
    if work.certificate:
        server["tls_connection_policies"] = [{}]
        files = {"certificate": str(work.certificate.chain), "key": str(work.certificate.key)}
        apps["tls"] = {"certificates": {"load_files": [files]}}
    settings = {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": apps,
    }
    file = directory / f"caddy-{work.balance}.json"
    file.write_text(json.dumps(settings))
    home = {"HOME": str(directory), "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
    command = [*proxy_cores(work.threads), program("caddy"), "run", "--config", str(file)]
    environ = {**home, "GOMAXPROCS": str(work.threads)}
    with running(command, log=directory / "caddy.log", environ=environ) as process:
        answers(port)
        yield Running("caddy", port, [process.pid], work)


CONTENDER = Contender("caddy", start, "caddy", ("version",), BALANCES)
