"""Our data plane by itself, with health checks, metrics, request ids and forwarded fields on, as they always are."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.servers.contenders.process import proxy_cores
from benchmarks.servers.contenders.work import CLIENTS_MAX, UPSTREAM_MAX, Contender, Running, Work
from tests.support.certificates import tls
from tests.support.snapshots import pool, server, snapshot

ROOT = Path(__file__).parents[3]
HTTP = {
    "connections_max": CLIENTS_MAX,
    "compression": {"encodings": ["zstd", "br", "gzip"], "types": ["text/*"], "min_bytes": 1_000},
}
"""Compression is there for clients that ask for it; those of the race do not."""

CHECK = {
    "kind": "tcp",
    "path": "",
    "expect": [],
    "interval_ms": 2_000,
    "timeout_ms": 1_000,
    "rise": 2,
    "fall": 3,
}
POLICIES: dict[str, dict[str, Any]] = {
    name: {"name": name, **({"bound": 1.25} if name == "hash" else {})}
    for name in (
        "random",
        "round_robin",
        "least_requests",
        "power_of_two",
        "peak_ewma",
        "prequal",
        "hash",
        "first",
    )
}


@contextlib.contextmanager
def start(directory: Path, work: Work) -> Iterator[Running]:
    """`threads` worker threads in a process of their own."""
    limit = work.queueing.at_once if work.queueing else UPSTREAM_MAX
    servers = [server(address, address, in_flight_max=limit) for address in work.servers]
    settings = pool(
        *servers,
        policy=POLICIES[work.balance],
        # Requests of the benchmarks differ by path, not by client.
        hash_by="path",
        idle_connections_max=UPSTREAM_MAX,
        active=CHECK,
        queue_max=10_000,
        **(
            {"queue_timeout_ms": work.queueing.timeout_ms, "queue_target_ms": work.queueing.target_ms}
            if work.queueing
            else {}
        ),
    )
    encrypted: dict[str, Any] = {}
    if work.certificate is not None:
        encrypted["tls"] = tls({"certificate": str(work.certificate.chain), "key": str(work.certificate.key)})
    file = directory / f"trimaran-{work.balance}.json"
    file.write_text(snapshot(settings, threads=work.threads, http={**HTTP, "http2": work.http2}, **encrypted))
    command = [*proxy_cores(work.threads), sys.executable, "-m", "benchmarks.servers.gateway", str(file)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        yield Running("trimaran", int(address.rpartition(":")[2]), [process.pid], work)
    finally:
        process.terminate()
        process.wait(20)


CONTENDER = Contender("trimaran", start, None, balances=POLICIES)
