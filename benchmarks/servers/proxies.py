"""Our gateway against HAProxy and nginx: what a proxied request costs, and how evenly servers are used.

    python -m benchmarks.servers.proxies [--rounds 7] [--seconds 3] [--connections 64]

Method of the race: two servers answer with 1 KiB each; every proxy has one thread and kept connections on both sides.
Rounds are interleaved: in each one every proxy in turn gets load from wrk for the given time, in changing order. The
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
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import contenders, skew
from benchmarks.servers.contenders import Running
from benchmarks.servers.processes import cpu_seconds

OURS = "trimaran"
WARM_UP_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One proxy in one round."""

    cpu_us: float
    requests_per_s: float
    p99_ms: float


def main() -> int:
    """Measure everything and print Markdown tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="per proxy and round")
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    print(f"{datetime.datetime.now(datetime.UTC).date()}, {os.cpu_count()} cores, {', '.join(versions())}")
    samples = race(options.rounds, options.seconds, options.connections)
    print(f"\n1 KiB, {options.connections} connections, {options.rounds} rounds of {options.seconds:g} s\n")
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


def race(rounds: int, seconds: float, connections: int) -> dict[str, list[Sample]]:
    """One sample per proxy and round."""
    contenders.program("wrk")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trimaran-bench-")))
        backends = stack.enter_context(contenders.one_kibibyte(directory, 2))
        running = [stack.enter_context(start(directory, backends)) for start in contenders.ALL.values()]
        for proxy in running:
            load(proxy, WARM_UP_S, connections)
        samples: dict[str, list[Sample]] = {proxy.name: [] for proxy in running}
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            at = number % len(running)
            for proxy in running[at:] + running[:at]:
                samples[proxy.name].append(load(proxy, seconds, connections))
        return samples


def load(proxy: Running, seconds: float, connections: int) -> Sample:
    """Send requests through `proxy` for `seconds`. Raises SystemExit when one was not answered well."""
    before = cpu_seconds(proxy.pids)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", f"http://127.0.0.1:{proxy.port}/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    used = cpu_seconds(proxy.pids) - before
    requests = re.search(r"(\d+) requests in", done.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    if not (requests and rate and p99) or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(f"not every request through {proxy.name} was answered with 2xx:\n{done.stdout}")
    p99_ms = float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]]
    return Sample(used / int(requests[1]) * 1e6, float(rate[1]), p99_ms)


def race_table(samples: dict[str, list[Sample]]) -> list[str]:
    """Markdown: medians, and ratios to ours."""
    lines = ["| proxy | CPU µs/request (range) | ours / it | requests/s | p99 ms |", "|---|---|---|---|---|"]
    for name, own in samples.items():
        cpu = [sample.cpu_us for sample in own]
        ratios = [mine.cpu_us / other.cpu_us for mine, other in zip(samples[OURS], own, strict=True)]
        rate = statistics.median(sample.requests_per_s for sample in own)
        p99 = statistics.median(sample.p99_ms for sample in own)
        middle = f"**{statistics.median(cpu):.1f}** ({min(cpu):.1f} to {max(cpu):.1f})"
        lines.append(f"| {name} | {middle} | {statistics.median(ratios):.2f} | {rate:,.0f} | {p99:.1f} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
