"""What a proxied request costs: CPU time of the proxy, ours and the others', row by row.

Every proxy has the same work (`contenders`): one thread, on a core of its own where there are two or more, fewest requests
first, connections kept on both sides, X-Forwarded-For, no access log; two servers of one nginx worker (`backends`) and the
load generator share the other cores. Rounds are interleaved: in each one every proxy in turn, in changing order, gets load
for the given time. The processor time (user and system) of all its threads is read from /proc before and after, and divided
by the requests that were answered; the table has medians of the rounds and their range. "Ours / it" is the median of
the ratios within a round. A response that is not 2xx ends the run. wrk sends HTTP/1.1, h2load HTTP/2 and handshakes. Requests
per second and latency are those of a proxy that shares the machine with its load generator, which many rows exhaust
first; CPU time per request is the number to compare.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import backends
from benchmarks.servers.contenders import Certificate, Work, present
from benchmarks.servers.loads import STREAMS, Sample, Tool, h2load, handshakes, measure, wrk
from tests.support.certificates import Authority

OURS = "trimaran"
GOAL = 0.9
GOAL_AGAINST = ("haproxy", "nginx")
WARM_UP_S = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One arrangement that all proxies are measured in."""

    title: str
    body: int = 1024
    unix: bool = False
    tls: bool = False
    http2: bool = False
    threads: int = 1
    connections: int = 64
    tool: Tool = wrk
    seconds_least: int = 0
    """Where less would leave too few requests to count processor time in steps of 10 ms, or to open the connections."""


KIB64 = 64 * 1024
ROWS: dict[str, Row] = {
    "1k": Row("HTTP/1.1, 1 KiB"),
    "64k": Row("HTTP/1.1, 64 KiB", body=KIB64),
    "1k-unix": Row("HTTP/1.1, 1 KiB, servers on Unix sockets", unix=True),
    "64k-unix": Row("HTTP/1.1, 64 KiB, servers on Unix sockets", body=KIB64, unix=True),
    "tls": Row("HTTP/1.1 over TLS 1.3, 1 KiB", tls=True),
    "tls-64k": Row("HTTP/1.1 over TLS 1.3, 64 KiB", body=KIB64, tls=True),
    "handshakes": Row("TLS 1.3, full handshake and one request of 1 KiB", tls=True, tool=handshakes, seconds_least=3),
    "h2": Row(f"HTTP/2 over TLS 1.3, 1 KiB, {STREAMS} streams each", tls=True, connections=16, tool=h2load),
    "h2c": Row(f"HTTP/2 in the clear, 1 KiB, {STREAMS} streams each", http2=True, connections=16, tool=h2load),
    "2-threads": Row("HTTP/1.1, 1 KiB, two threads", threads=2),
    "5000": Row("HTTP/1.1, 1 KiB, 5,000 connections", connections=5_000, seconds_least=3),
}


def race(row: Row, names: list[str], rounds: int, seconds: int) -> dict[str, list[Sample]]:
    """One sample per proxy and round."""
    seconds = max(seconds, row.seconds_least)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trimaran-bench-")))
        servers = stack.enter_context(backends.serving(directory, 2, row.body, row.unix, row.threads))
        work = Work(servers, issue(directory) if row.tls else None, row.http2, row.threads)
        able = [contender for contender in present(*names) if contender.unix or not row.unix]
        running = [stack.enter_context(contender.start(directory, work)) for contender in able]
        for proxy in running:
            measure(proxy, row.tool, max(WARM_UP_S, row.seconds_least), row.connections)
        samples: dict[str, list[Sample]] = {proxy.name: [] for proxy in running}
        for number in range(rounds):
            print(f"{row.title}: round {number + 1} of {rounds}", file=sys.stderr)
            at = number % len(running)
            for proxy in running[at:] + running[:at]:
                samples[proxy.name].append(measure(proxy, row.tool, seconds, row.connections))
        return samples


def issue(directory: Path) -> Certificate:
    """A certificate (ECDSA, P-256)."""
    files = Authority(directory).issue("race", "localhost", "127.0.0.1")
    chain, key, both = Path(files["certificate"]), Path(files["key"]), directory / "both.pem"
    both.write_bytes(chain.read_bytes() + key.read_bytes())
    return Certificate(chain, key, both)


def table(samples: dict[str, list[Sample]]) -> list[str]:
    """Markdown: medians, and ratios to ours."""
    lines = [
        "| proxy | CPU µs/request (range) | ours / it | requests/s | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|",
    ]
    for name, own in samples.items():
        cpu = [sample.cpu_us for sample in own]
        rate, p50, p99 = (
            statistics.median(figures)
            for figures in zip(*((s.requests_per_s, s.p50_ms, s.p99_ms) for s in own), strict=True)
        )
        middle = f"**{statistics.median(cpu):.1f}** ({min(cpu):.1f} to {max(cpu):.1f})"
        lines.append(f"| {name} | {middle} | {ratio(samples, name)} | {rate:,.0f} | {p50:.2f} | {p99:.2f} |")
    return lines


def ratio(samples: dict[str, list[Sample]], *names: str) -> str:
    """Our CPU time over that of the best of `names` in the same round: the median, with the range."""
    others = [samples[name] for name in names if name in samples]
    if OURS not in samples or not others:
        return "-"
    ratios = [
        mine.cpu_us / min(other.cpu_us for other in round_)
        for mine, *round_ in zip(samples[OURS], *others, strict=True)
    ]
    if names == (OURS,):
        return "1"
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def summary(raced: dict[str, dict[str, list[Sample]]]) -> list[str]:
    """Markdown: all rows in one table, and which of them meet the goal."""
    names = [name for name in (contender.name for contender in present()) if any(name in own for own in raced.values())]
    lines = [f"| CPU µs/request | {' | '.join(names)} | ours / better of HAProxy and nginx | goal {GOAL} |"]
    lines.append("|---" * (len(names) + 3) + "|")
    for key, samples in raced.items():
        cells = [
            f"{statistics.median(sample.cpu_us for sample in samples[name]):.1f}" if name in samples else "-"
            for name in names
        ]
        against = ratio(samples, *GOAL_AGAINST)
        met = "-" if against == "-" else "met" if float(against.split()[0]) <= GOAL else "missed"
        lines.append(f"| {ROWS[key].title} | {' | '.join(cells)} | {against} | {met} |")
    return lines
