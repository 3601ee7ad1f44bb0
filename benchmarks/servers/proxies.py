"""Our gateway against HAProxy and nginx: what a proxied request costs, and how evenly servers are used.

    python -m benchmarks.servers.proxies [--rounds 7] [--seconds 3] [--connections 64]

Method of the race: two servers answer with 1 KiB each; every proxy has one thread and kept connections on both sides. There
are three: in the clear, with TLS (HTTP/1.1), and with HTTP/2 over TLS (8 streams at once on a connection). Rounds are
interleaved: in each one every proxy in turn gets load from wrk, or h2load for HTTP/2, for the given time, in changing order. The
processor time (user and system) of all threads of a proxy is read from /proc before and after, and
divided by the requests that were answered. Reported are medians of the rounds, and medians of the ratios within a round.
A response that is not 2xx fails the run. The load generator and the servers share the machine, so requests per second
say little; CPU time per request is the number to compare. The skew table is explained in `benchmarks/servers/skew.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import contenders, skew
from benchmarks.servers.contenders import Certificate, Running
from benchmarks.servers.processes import cpu_seconds
from tests.support.certificates import Authority

OURS = "trimaran"
KINDS = ("HTTP/1.1", "HTTP/1.1 over TLS", "HTTP/2 over TLS")
WARM_UP_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One proxy in one round."""

    cpu_us: float
    requests_per_s: float
    p99_ms: float | None
    """h2load does not tell."""


def main() -> int:
    """Measure everything and print Markdown tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="per proxy and round")
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    print(f"{datetime.datetime.now(datetime.UTC).date()}, {os.cpu_count()} cores, {', '.join(versions())}")
    for kind in KINDS:
        samples = race(kind, options.rounds, options.seconds, options.connections)
        print(f"\n{kind}: 1 KiB, {options.connections} connections, {options.rounds} rounds of {options.seconds:g} s\n")
        print("\n".join(race_table(samples)))
    print(f"\nSkew: {skew.SERVERS} servers, {skew.CLIENTS} clients, requests of {skew.LENGTHS_MS} ms\n")
    print("\n".join(skew.table(skew.measure())))
    return 0


def versions() -> list[str]:
    """What is compared with what."""
    said = [
        subprocess.run([contenders.program(name), flag], capture_output=True, text=True, check=True)
        for name, flag in (("haproxy", "-v"), ("nginx", "-v"))
    ]
    return [(done.stdout + done.stderr).splitlines()[0].partition(" - ")[0] for done in said]


def race(kind: str, rounds: int, seconds: float, connections: int) -> dict[str, list[Sample]]:
    """One sample per proxy and round."""
    tool = h2load if kind == "HTTP/2 over TLS" else wrk
    contenders.program("wrk")
    contenders.program("h2load")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trimaran-bench-")))
        backends = stack.enter_context(contenders.one_kibibyte(directory, 2))
        certificate = None if kind == "HTTP/1.1" else issue(directory)
        running = [stack.enter_context(start(directory, backends, certificate)) for start in contenders.ALL.values()]
        for proxy in running:
            load(proxy, tool, WARM_UP_S, connections)
        samples: dict[str, list[Sample]] = {proxy.name: [] for proxy in running}
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            at = number % len(running)
            for proxy in running[at:] + running[:at]:
                samples[proxy.name].append(load(proxy, tool, seconds, connections))
        return samples


def issue(directory: Path) -> Certificate:
    """A certificate (ECDSA, P-256) for this race."""
    files = Authority(directory).issue("race", "localhost", "127.0.0.1")
    chain, key, both = Path(files["certificate"]), Path(files["key"]), directory / "both.pem"
    both.write_bytes(chain.read_bytes() + key.read_bytes())
    return Certificate(chain, key, both)


def load(proxy: Running, tool: Callable[[Running, float, int], Load], seconds: float, connections: int) -> Sample:
    """Send requests through `proxy` for `seconds`. Raises SystemExit when one was not answered well."""
    before = cpu_seconds(proxy.pids)
    done = tool(proxy, seconds, connections)
    used = cpu_seconds(proxy.pids) - before
    return Sample(used / done.requests * 1e6, done.requests / seconds, done.p99_ms)


@dataclass(frozen=True, slots=True)
class Load:
    """What a load generator has done."""

    requests: int
    p99_ms: float | None


def wrk(proxy: Running, seconds: float, connections: int, *fields: str) -> Load:
    """Requests by HTTP/1.1, with further header `fields`."""
    scheme = "https" if proxy.encrypted else "http"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", f"{scheme}://127.0.0.1:{proxy.port}/"]
    command += [part for field in fields for part in ("-H", field)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True).stdout
    requests = re.search(r"(\d+) requests in", said)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    if not (requests and p99) or "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"not every request through {proxy.name} was answered with 2xx:\n{said}")
    return Load(int(requests[1]), float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]])


def h2load(proxy: Running, seconds: float, connections: int) -> Load:
    """Requests by HTTP/2, 8 at once on each connection."""
    command = ["h2load", f"-c{connections}", "-m8", f"-D{max(round(seconds), 1)}", f"https://127.0.0.1:{proxy.port}/"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True).stdout
    answered = re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", said)
    if answered is None or "Application protocol: h2" not in said:
        raise SystemExit(f"not every request through {proxy.name} was answered with 2xx by HTTP/2:\n{said}")
    return Load(int(answered[1]), None)


def race_table(samples: dict[str, list[Sample]]) -> list[str]:
    """Markdown: medians, and ratios to ours."""
    lines = ["| proxy | CPU µs/request (range) | ours / it | requests/s | p99 ms |", "|---|---|---|---|---|"]
    for name, own in samples.items():
        cpu = [sample.cpu_us for sample in own]
        ratios = [mine.cpu_us / other.cpu_us for mine, other in zip(samples[OURS], own, strict=True)]
        rate = statistics.median(sample.requests_per_s for sample in own)
        slowest = [sample.p99_ms for sample in own if sample.p99_ms is not None]
        p99 = f"{statistics.median(slowest):.1f}" if slowest else "-"
        middle = f"**{statistics.median(cpu):.1f}** ({min(cpu):.1f} to {max(cpu):.1f})"
        lines.append(f"| {name} | {middle} | {statistics.median(ratios):.2f} | {rate:,.0f} | {p99} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
