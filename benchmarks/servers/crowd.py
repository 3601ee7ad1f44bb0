"""What a crowd costs the others: normal load by itself, then beside idle and deliberately slow connections.

    python -m benchmarks.servers.crowd [--idle 5000] [--slow 500] [--seconds 5] [--rounds 3]

Idle connections have had one response and rest. Slow ones send one byte of a request head now and then (slow loris). Both
rounds of a pair use the same proxy process; reported are medians of requests per second and CPU time per request, the ratio
of the two, and the memory that an idle connection takes in the proxy.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import socket
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from benchmarks.servers import contenders
from benchmarks.servers.contenders import Running
from benchmarks.servers.processes import resident_bytes
from benchmarks.servers.proxies import Sample, load, wrk

CONNECTIONS = 64
BYTE_EVERY_S = 0.5
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "


def main() -> int:
    """Measure every proxy and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--idle", type=int, default=5_000)
    parser.add_argument("--slow", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = (options.idle + options.slow) * 2 + 1_000
    if most < needed:
        raise SystemExit(f"{needed} open files are needed here, {most} are allowed (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))
    print(f"{options.idle} idle and {options.slow} slow connections beside {CONNECTIONS} busy ones\n")
    print(
        "| proxy | requests/s alone | in the crowd | ratio | CPU µs/request alone | in the crowd | bytes/idle connection |"
    )
    print("|---|---|---|---|---|---|---|")
    for start in (contenders.trimaran, contenders.nginx):
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trimaran-bench-")))
            backends = stack.enter_context(contenders.one_kibibyte(directory, 2))
            proxy = stack.enter_context(start(directory, backends, None))
            print(row(proxy, options.idle, options.slow, options.seconds, options.rounds), flush=True)
    return 0


def row(proxy: Running, idle: int, slow: int, seconds: float, rounds: int) -> str:
    """One line of the table."""
    load(proxy, wrk, 1.0, CONNECTIONS)
    alone: list[Sample] = []
    crowded: list[Sample] = []
    memory = []
    for _ in range(rounds):
        alone.append(load(proxy, wrk, seconds, CONNECTIONS))
        before = _memory(proxy)
        with resting(proxy.port, idle):
            memory.append((_memory(proxy) - before) / max(idle, 1))
            with dripping(proxy.port, slow):
                crowded.append(load(proxy, wrk, seconds, CONNECTIONS))
    rate = [statistics.median(sample.requests_per_s for sample in own) for own in (alone, crowded)]
    cpu = [statistics.median(sample.cpu_us for sample in own) for own in (alone, crowded)]
    figures = f"{rate[0]:,.0f} | {rate[1]:,.0f} | **{rate[1] / rate[0]:.2f}** | {cpu[0]:.1f} | {cpu[1]:.1f}"
    # Later rounds use again what the first has allocated.
    return f"| {proxy.name} | {figures} | {max(memory):,.0f} |"


def _memory(proxy: Running) -> int:
    return sum(resident_bytes(pid) for pid in proxy.pids)


@contextlib.contextmanager
def resting(port: int, count: int) -> Iterator[None]:
    """Connections that have had a response and say no more."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if not connection.recv(65_536).startswith(b"HTTP/1.1 200"):
                raise SystemExit("an idle connection was not served")
        yield


@contextlib.contextmanager
def dripping(port: int, count: int) -> Iterator[None]:
    """Connections that send their request byte by byte, and come again when they are thrown out."""
    over = threading.Event()

    def drip() -> None:
        connections: list[socket.socket] = []
        while not over.wait(BYTE_EVERY_S):
            for connection in list(connections):
                try:
                    connection.send(b"x")
                except OSError:
                    connections.remove(connection)
                    connection.close()
            while len(connections) < count:
                connection = socket.create_connection(("127.0.0.1", port), timeout=20)
                connection.sendall(REQUEST)
                connections.append(connection)
        for connection in connections:
            connection.close()

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
