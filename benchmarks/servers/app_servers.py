"""What each app server engine costs: CPU time of the server's processes per request, and requests per second.

    python -m benchmarks.servers.app_servers [--rounds 5] [--seconds 2] [--connections 4] [--json FILE]

Method: every server is started once, as the supervisor does it, on a Unix socket (gunicorn, the peer, by its own command
with one gthread worker). Rounds are interleaved: in each one every server in turn gets requests from h2load, over
keep-alive connections without pipelining, for about the given time. The processor time (user and system) of all its
threads is read from /proc before and after. Reported are the medians of the rounds and the range of the
processor time. A request that is not answered with 2xx fails the run. Needs h2load (Debian: nghttp2-client), the dev
dependencies, and gunicorn for the peer row.

The requests carry the fields that the gateway adds. The load generator runs on the same machine, so requests per second
are those of a server that shares it; CPU time per request is the number to compare.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trimaran.servers.appserver import AppServerSpec, command

from benchmarks.servers.contenders.process import other_cores
from benchmarks.servers.processes import children, cpu_seconds, resident_bytes
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
THREADS = 4
HEADERS = (
    "X-Forwarded-For: 203.0.113.9",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: shop.example",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Cookie: sessionid=0123456789abcdef0123456789abcdef; csrftoken=0123456789abcdef0123456789abcdef",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One server under measurement."""

    app: str
    interface: str
    engine: str
    """An engine of ours, or gunicorn for the peer."""


ROWS = (
    Row("asgi", "asgi", "uvicorn"),
    Row("asgi", "asgi", "granian"),
    Row("fastapi()", "asgi", "uvicorn"),
    Row("fastapi()", "asgi", "granian"),
    Row("django_asgi()", "asgi", "uvicorn"),
    Row("django_asgi()", "asgi", "granian"),
    Row("wsgi", "wsgi", "threads"),
    Row("wsgi", "wsgi", "granian"),
    Row("wsgi", "wsgi", "gunicorn"),
    Row("django_wsgi()", "wsgi", "threads"),
    Row("django_wsgi()", "wsgi", "granian"),
    Row("django_wsgi()", "wsgi", "gunicorn"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """The medians of all rounds of one row."""

    row: Row
    cpu_us: float
    cpu_us_least: float
    cpu_us_most: float
    requests_per_s: float
    memory_mib: float


def main() -> int:
    """Measure all rows and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="per row and round")
    parser.add_argument("--connections", type=int, default=THREADS)
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    rows = [row for row in ROWS if row.engine != "gunicorn" or importlib.util.find_spec("gunicorn")]
    results = measure(rows, options.rounds, options.seconds, options.connections)
    date = datetime.datetime.now(datetime.UTC).date()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("granian", "uvicorn", "uvloop"))
    print(f"{date}, Python {platform.python_version()}, {versions}, {os.cpu_count()} cores, {options}")
    print("\n| app | engine | CPU µs/request (median, range) | requests/s | memory MiB |\n|---|---|---|---|---|")
    for result in results:
        spread = f"**{result.cpu_us:.1f}** ({result.cpu_us_least:.1f} to {result.cpu_us_most:.1f})"
        row = f"{result.row.app} | {result.row.engine} {result.row.interface} | {spread}"
        print(f"| {row} | {result.requests_per_s:,.0f} | {result.memory_mib:.0f} |")
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1))
    return 0


def measure(rows: list[Row], rounds: int, seconds: float, connections: int) -> list[Result]:
    """One result per row."""
    with contextlib.ExitStack() as stack:
        servers = [(row, *stack.enter_context(started(row))) for row in rows]
        samples: dict[Row, list[tuple[float, float]]] = {row: [] for row in rows}
        requests = {row: warm_up(address, seconds, connections) for row, _, address in servers}
        for number in range(1, rounds + 1):
            print(f"round {number} of {rounds}", file=sys.stderr)
            for row, pids, address in servers:
                before = cpu_seconds(pids)
                rate = load(address, requests[row], connections)
                samples[row].append(((cpu_seconds(pids) - before) / requests[row] * 1e6, rate))
        return [
            Result(
                row,
                statistics.median(cpu for cpu, _ in samples[row]),
                min(cpu for cpu, _ in samples[row]),
                max(cpu for cpu, _ in samples[row]),
                statistics.median(rate for _, rate in samples[row]),
                sum(resident_bytes(pid) for pid in pids) / 2**20,
            )
            for row, pids, _ in servers
        ]


@contextlib.contextmanager
def started(row: Row, before: Sequence[str] = ()) -> Iterator[tuple[list[int], Path]]:
    """The pids and the socket of a running server; `before` goes before its command."""
    with tempfile.TemporaryDirectory(prefix="trimaran-bench-") as directory:
        address = Path(directory) / "s"
        target = f"benchmarks.servers.hello:{row.app}"
        reader, writer = os.pipe()
        if row.engine == "gunicorn":
            arguments = [sys.executable, "-m", "gunicorn", target, "-w", "1", "-k", "gthread", f"--threads={THREADS}"]
            arguments += ["-b", f"unix:{address}", "--keep-alive", "3600", "--log-level", "warning"]
        else:
            spec = AppServerSpec(target, row.interface, row.engine, address, THREADS, "bench", ROOT, os.getpid())
            arguments = command(spec, writer)
        process = subprocess.Popen([*before, *arguments], pass_fds=[writer], cwd=ROOT)
        os.close(writer)
        try:
            if row.engine == "gunicorn":
                eventually(lambda: children(process.pid), "gunicorn's worker")
                eventually(address.exists, "gunicorn's socket")
                pids = [process.pid, *children(process.pid)]
            else:
                readable, _, _ = select.select([reader], [], [], 30)
                report = json.loads(os.read(reader, 65_536)) if readable else {}
                if not report.get("ok"):
                    raise SystemExit(f"{row} did not start: {report.get('error')}")
                pids = [process.pid]
            yield pids, address
        finally:
            os.close(reader)
            process.terminate()
            process.wait(20)


def warm_up(address: Path | str, seconds: float, connections: int) -> int:
    """The number of requests that take about `seconds`."""
    load(address, 200, connections)
    return max(int(load(address, 1_000, connections) * seconds), 200)


def load(address: Path | str, requests: int, connections: int) -> float:
    """Send requests to a socket or an http URL; the rate of answers. Raises SystemExit when one was not answered well."""
    base = address if str(address).startswith("http://") else f"unix:{address}"
    arguments = [*other_cores(1), "h2load", "--h1", f"-n{requests}", f"-c{connections}", f"--base-uri={base}"]
    arguments += [part for header in HEADERS for part in ("-H", header)]
    done = subprocess.run([*arguments, "http://shop.example/"], capture_output=True, text=True, timeout=300, check=True)
    answered = re.search(r"(\d+) 2xx", done.stdout)
    rate = re.search(r"([\d.]+) req/s", done.stdout)
    if answered is None or rate is None or int(answered[1]) != requests:
        raise SystemExit(f"not every request was answered with 2xx:\n{done.stdout}")
    return float(rate[1])


if __name__ == "__main__":
    sys.exit(main())
