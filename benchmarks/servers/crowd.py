"""What a crowd costs the others: normal load by itself, then beside idle and deliberately slow connections.

    python -m benchmarks.servers.crowd [--idle 5000] [--slow 500] [--seconds 5] [--rounds 3]

Idle connections have had one response and rest. Slow ones send one byte of a request head now and then (slow loris). Both
halves of a pair use the same proxy process; reported are medians of requests per second and CPU time per request, and of the
ratio of the two rates within a pair.
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

from benchmarks.servers import backends, contenders
from benchmarks.servers.contenders import Running, Work
from benchmarks.servers.idle_memory import resting
from benchmarks.servers.loads import Sample, measure, wrk

CONNECTIONS = 64
BYTE_EVERY_S = 0.5
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "


def main() -> int:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--idle", type=int, default=5_000)
    parser.add_argument("--slow", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("\n".join(run(options.idle, options.slow, options.seconds, options.rounds)))
    return 0


def run(idle: int = 5_000, slow: int = 500, seconds: int = 5, rounds: int = 3) -> list[str]:
    """Markdown: the load's figures without and with the crowd, for us and nginx."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = (idle + slow) * 2 + 1_000
    if most < needed:
        raise SystemExit(f"{needed} open files are needed here, {most} are allowed (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    lines = [f"### Crowd: {idle:,} idle and {slow:,} slow connections beside {CONNECTIONS} busy ones", ""]
    lines += [f"{rounds} rounds of {seconds:g} s", ""]
    lines += ["| proxy | requests/s alone | in the crowd | ratio (range) | CPU µs/request alone | in the crowd |"]
    lines += ["|---|---|---|---|---|---|"]
    for contender in contenders.present("trimaran", "nginx"):
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trimaran-bench-")))
            servers = stack.enter_context(backends.serving(directory))
            proxy = stack.enter_context(contender.start(directory, Work(servers)))
            lines.append(_row(proxy, idle, slow, seconds, rounds))
    return lines


def _row(proxy: Running, idle: int, slow: int, seconds: int, rounds: int) -> str:
    measure(proxy, wrk, 1, CONNECTIONS)
    alone: list[Sample] = []
    crowded: list[Sample] = []
    for _ in range(rounds):
        alone.append(measure(proxy, wrk, seconds, CONNECTIONS))
        with resting(proxy, idle), dripping(proxy.port, slow):
            crowded.append(measure(proxy, wrk, seconds, CONNECTIONS))
    rate = [statistics.median(sample.requests_per_s for sample in own) for own in (alone, crowded)]
    cpu = [statistics.median(sample.cpu_us for sample in own) for own in (alone, crowded)]
    ratios = [one.requests_per_s / other.requests_per_s for one, other in zip(crowded, alone, strict=True)]
    spread = f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})"
    return f"| {proxy.name} | {rate[0]:,.0f} | {rate[1]:,.0f} | {spread} | {cpu[0]:.1f} | {cpu[1]:.1f} |"


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
