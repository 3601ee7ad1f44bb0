"""Load generators, and what they have seen. A response that is not 2xx, or a broken connection, ends the run."""

from __future__ import annotations

import re
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers.contenders import Running
from benchmarks.servers.contenders.process import other_cores, program
from benchmarks.servers.processes import cpu_seconds

STREAMS = 16
"""Requests at once on a connection of HTTP/2."""
HANDSHAKES_PER_S = 600


@dataclass(frozen=True, slots=True)
class Load:
    """What a load generator has done."""

    requests: int
    p50_ms: float
    p99_ms: float


Tool = Callable[[Running, int, int], Load]


@dataclass(frozen=True, slots=True)
class Sample:
    """One proxy in one round."""

    cpu_us: float
    requests_per_s: float
    p50_ms: float
    p99_ms: float


def measure(proxy: Running, tool: Tool, seconds: int, connections: int) -> Sample:
    """What a request costs, when `tool` sends them for about `seconds`."""
    before = cpu_seconds(proxy.pids)
    done = tool(proxy, seconds, connections)
    used = cpu_seconds(proxy.pids) - before
    if not done.requests:
        raise SystemExit(f"no request through {proxy.name} was answered in {seconds} s")
    return Sample(used / done.requests * 1e6, done.requests / seconds, done.p50_ms, done.p99_ms)


def wrk(proxy: Running, seconds: int, connections: int, *fields: str) -> Load:
    """Requests by HTTP/1.1, one after the other on each connection, with further header `fields`."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency", proxy.url]
    command += [part for field in fields for part in ("-H", field)]
    said = _said(proxy, command, seconds)
    requests = re.search(r"(\d+) requests in", said)
    p50, p99 = (re.search(rf"{share}%\s+([\d.]+)(us|ms|s)", said) for share in (50, 99))
    if not (requests and p50 and p99) or "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"not every request through {proxy.name} was answered with 2xx:\n{said}")
    unit = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    return Load(int(requests[1]), float(p50[1]) * unit[p50[2]], float(p99[1]) * unit[p99[2]])


def h2load(proxy: Running, seconds: int, connections: int) -> Load:
    """Requests by HTTP/2, several at once on each connection."""
    how = [f"-c{connections}", f"-m{STREAMS}", f"-D{seconds}"]
    return _h2load(proxy, how, seconds, "h2" if proxy.work.encrypted else "h2c")


def handshakes(proxy: Running, seconds: int, connections: int) -> Load:
    """One request by HTTP/1.1 on each new TLS connection, at a fixed rate; no session is ever resumed.

    `connections` is not looked at: how many are open at once follows from the rate.
    """
    count = HANDSHAKES_PER_S * seconds
    how = [f"-n{count}", f"-c{count}", f"-r{HANDSHAKES_PER_S // 10}", "--rate-period=100ms", "--h1"]
    return _h2load(proxy, how, seconds, "http/1.1")


def _h2load(proxy: Running, how: list[str], seconds: int, protocol: str) -> Load:
    with tempfile.TemporaryDirectory(prefix="trimaran-bench-") as directory:
        log = Path(directory) / "log"
        said = _said(proxy, ["h2load", *how, f"--log-file={log}", proxy.url], seconds)
        answered = re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", said)
        if answered is None or f"Application protocol: {protocol}" not in said or " 0 failed, 0 errored" not in said:
            raise SystemExit(f"not every request through {proxy.name} was answered with 2xx by {protocol}:\n{said}")
        if proxy.work.encrypted and "TLS Protocol: TLSv1.3" not in said:
            raise SystemExit(f"{proxy.name} did not speak TLS 1.3:\n{said}")
        # A line has when the request began, its status and how long it took, in microseconds.
        took_us = [int(line.rsplit("\t", 1)[1]) for line in log.read_text().splitlines()]
    # On a starved machine one request may have been answered in the whole time, or none.
    took_us = took_us or [0]
    shares = statistics.quantiles(took_us if len(took_us) > 1 else took_us * 2, n=100)
    return Load(int(answered[1]), shares[49] / 1000, shares[98] / 1000)


def _said(proxy: Running, command: list[str], seconds: int) -> str:
    command = [*other_cores(proxy.work.threads), program(command[0]), *command[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
