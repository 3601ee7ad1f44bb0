"""Memory of the proxy for a client connection that had a response and rests: in the clear and with TLS.

The resident memory (RSS) of all its processes is read before 4,000 connections come and while they rest; what the
kernel keeps for a socket is not in it. Each round starts the proxies anew, because later connections use again what earlier
ones have allocated.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.servers import backends
from benchmarks.servers.contenders import Running, Work, present
from benchmarks.servers.loads import wrk
from benchmarks.servers.processes import resident_bytes
from benchmarks.servers.proxies import issue

IDLE = 4_000
CONNECTIONS = 64


def run(names: list[str], rounds: int) -> list[str]:
    """Markdown: bytes for each idle connection."""
    lines = [f"### Memory of an idle connection ({IDLE:,} of them)", ""]
    lines += ["| proxy | in the clear, bytes (range) | with TLS 1.3, bytes (range) |", "|---|---|---|"]
    figures = {tls: measure(names, rounds, tls) for tls in (False, True)}
    for name in figures[False]:
        cells = [
            f"**{statistics.median(own):,.0f}** ({min(own):,.0f} to {max(own):,.0f})"
            for own in (figures[False][name], figures[True][name])
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def measure(names: list[str], rounds: int, tls: bool) -> dict[str, list[float]]:
    """One figure per proxy and round."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trimaran-bench-")))
            servers = stack.enter_context(backends.serving(directory))
            work = Work(servers, issue(directory) if tls else None)
            for contender in present(*names):
                with contender.start(directory, work) as proxy:
                    wrk(proxy, 1, CONNECTIONS)
                    before = resident(proxy)
                    with resting(proxy, IDLE):
                        found.setdefault(proxy.name, []).append((resident(proxy) - before) / IDLE)
    return found


def resident(proxy: Running) -> int:
    """Bytes of all processes of a proxy."""
    return sum(map(resident_bytes, proxy.pids))


@contextlib.contextmanager
def resting(proxy: Running, count: int) -> Iterator[None]:
    """Connections that have had a response and say no more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            plain = socket.create_connection(("127.0.0.1", proxy.port), timeout=20)
            # Else the request would wait until the end of the handshake is acknowledged.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = stack.enter_context(context.wrap_socket(plain) if proxy.work.encrypted else plain)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if not connection.recv(65_536).startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"{proxy.name} did not serve an idle connection")
        yield
