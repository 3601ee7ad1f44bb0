"""What costs nothing to nobody but the machine: connections of clients that rest, and a gateway that has nothing to do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from benchmarks.databases.contenders import OURS, PGBOUNCER
from benchmarks.databases.load import cpu_seconds
from benchmarks.databases.nodes import Nodes
from benchmarks.servers.processes import resident_bytes

IDLE = 2_000
QUIET_S = 5.0


def run(nodes: Nodes, directory: Path) -> list[str]:
    """Markdown. Resident memory does not have what the kernel keeps for a socket."""
    title = f"### At rest: {IDLE:,} idle clients, and a pooler without clients for {QUIET_S:g} s"
    lines = [title, "", "| | bytes per idle client | CPU ms per second of rest |", "|---|---|---|"]
    for contender in (OURS, PGBOUNCER):
        # Anew, because later connections use again what earlier ones have allocated.
        with contender.start(nodes, directory) as running:
            assert running.pid is not None
            with _clients(running.dsn, 16):
                pass
            time.sleep(1.0)
            used = cpu_seconds(running.pid)
            time.sleep(QUIET_S)
            resting = (cpu_seconds(running.pid) - used) / QUIET_S * 1000
            before = resident_bytes(running.pid)
            with _clients(running.dsn, IDLE):
                each = (resident_bytes(running.pid) - before) / IDLE
            lines.append(f"| {contender.name} | {each:,.0f} | {resting:.2f} |")
    return lines


@contextlib.contextmanager
def _clients(dsn: str, count: int) -> Iterator[None]:
    """Clients that have had an answer and say no more."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(contextlib.closing(psycopg.connect(dsn, autocommit=True, connect_timeout=20)))
            client.execute("SELECT 1")
        yield
