"""The whole of a Django site: `trimaran run` against nginx with gunicorn, and against the app server by itself.

    python -m benchmarks.servers.stack [--rounds 5] [--seconds 3]

The app is Django's hello (`hello.py`): 1 KiB, four pieces of middleware, no database. One server process with four threads
everywhere. `trimaran run` is the product as it is started, supervisor, gateway, health checks and status page; gunicorn has one
gthread worker behind one worker of nginx, over a Unix socket as ours. All processes of an arrangement share one core, the load
generator (h2load, kept connections without pipelining) has another. By default the gateway gives a WSGI server no more
requests than it has threads and queues the rest; one arrangement lets it send them all, which shows what that costs. CPU
time is that of all processes, user and system.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib.util
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.servers import app_servers
from benchmarks.servers.contenders import nginx, present
from benchmarks.servers.contenders.process import free_port, proxy_cores, running
from benchmarks.servers.contenders.work import Work
from benchmarks.servers.processes import cpu_seconds
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
APP = "django_wsgi()"
CONNECTIONS = 16
GOAL_OF_NGINX, GOAL_ADDED_US = 0.55, 15.0
BASE = "nginx + gunicorn gthread"
UNQUEUED = "trimaran run with all requests at the server"


@dataclass(frozen=True, slots=True)
class Stack:
    """A running arrangement."""

    pids: list[int]
    url: str
    """An http URL, or the path of a socket."""


Start = Callable[[], contextlib.AbstractContextManager[Stack]]


def main() -> int:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="per arrangement and round")
    options = parser.parse_args()
    print("\n".join(run(options.rounds, options.seconds)))
    return 0


def run(rounds: int, seconds: float) -> list[str]:
    """Markdown: what a request costs in each arrangement."""
    arrangements: dict[str, Start] = {
        "trimaran run, threads": lambda: trimaran("threads"),
        f"{UNQUEUED}, threads": lambda: trimaran("threads", CONNECTIONS),
        "app server alone, threads": lambda: alone("threads"),
        "trimaran run, granian": lambda: trimaran("granian"),
        "app server alone, granian": lambda: alone("granian"),
    }
    if importlib.util.find_spec("gunicorn"):
        arrangements["gunicorn gthread alone"] = lambda: alone("gunicorn")
        if present("nginx"):
            arrangements[BASE] = nginx_gunicorn
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in arrangements}
    with contextlib.ExitStack() as stack:
        stacks = {name: stack.enter_context(start()) for name, start in arrangements.items()}
        requests = {name: app_servers.warm_up(at.url, seconds, CONNECTIONS) for name, at in stacks.items()}
        for number in range(rounds):
            print(f"whole stack: round {number + 1} of {rounds}", file=sys.stderr)
            for name, at in stacks.items():
                before = cpu_seconds(at.pids)
                rate = app_servers.load(at.url, requests[name], CONNECTIONS)
                samples[name].append(((cpu_seconds(at.pids) - before) / requests[name] * 1e6, rate))
    lines = ["### Whole stack: Django hello by WSGI", ""]
    lines += [f"{CONNECTIONS} connections, {rounds} rounds of about {seconds:g} s", ""]
    lines += [f"| arrangement | CPU µs/request (range) | of {BASE} | over the app server alone, µs | requests/s |"]
    lines.append("|---|---|---|---|---|")
    for name, own in samples.items():
        cpu = [each for each, _ in own]
        of_base = _compared(samples, name, BASE, lambda mine, other: mine / other, ".2f")
        bare = (
            name.replace(UNQUEUED, "trimaran run")
            .replace("trimaran run", "app server alone")
            .replace(BASE, "gunicorn gthread alone")
        )
        added = _compared(samples, name, bare, lambda mine, other: mine - other, ".1f") if bare != name else "-"
        spread = f"**{statistics.median(cpu):.1f}** ({min(cpu):.1f} to {max(cpu):.1f})"
        lines.append(f"| {name} | {spread} | {of_base} | {added} | {statistics.median(rate for _, rate in own):,.0f} |")
    lines += ["", f"Goals: {GOAL_OF_NGINX} of {BASE}, {GOAL_ADDED_US:g} µs over the app server alone."]
    return lines


def _compared(
    samples: dict[str, list[tuple[float, float]]],
    name: str,
    other: str,
    compare: Callable[[float, float], float],
    digits: str,
) -> str:
    """The median over the rounds of a comparison of CPU times within a round."""
    if other not in samples:
        return "-"
    return format(
        statistics.median(compare(a[0], b[0]) for a, b in zip(samples[name], samples[other], strict=True)), digits
    )


@contextlib.contextmanager
def trimaran(engine: str, in_flight_max: int = 0) -> Iterator[Stack]:
    """`trimaran run` with one server and one gateway thread; in_flight_max 0 is the server's threads, the default."""
    with tempfile.TemporaryDirectory(prefix="trimaran-bench-") as name:
        directory = Path(name)
        port = free_port()
        (directory / "trimaran.toml").write_text(
            f"""app = "benchmarks.servers.hello:{APP}"
directory = "{ROOT}"
state_directory = "{directory}/state"
[gateway]
bind = ["127.0.0.1:{port}"]
threads = 1
[admin]
bind = "127.0.0.1:{free_port()}"
[servers]
interface = "wsgi"
engine = "{engine}"
count = "1"
threads = {app_servers.THREADS}
in_flight_max = {in_flight_max}
"""
        )
        command = [
            *proxy_cores(1),
            sys.executable,
            "-m",
            "trimaran",
            "run",
            "--config",
            str(directory / "trimaran.toml"),
        ]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TRIMARAN_")}
        with running(command, log=directory / "log", environ=environ) as process:
            url = f"http://127.0.0.1:{port}/"
            eventually(lambda: _serves(port), f"trimaran run serves {url}: {directory / 'log'}", within_s=60)
            family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
            yield Stack(family, url)


@contextlib.contextmanager
def alone(engine: str) -> Iterator[Stack]:
    """One app server, without anything in front of it."""
    with app_servers.started(app_servers.Row(APP, "wsgi", engine), proxy_cores(1)) as (pids, address):
        yield Stack(pids, str(address))


@contextlib.contextmanager
def nginx_gunicorn() -> Iterator[Stack]:
    """gunicorn behind nginx."""
    with (
        tempfile.TemporaryDirectory(prefix="trimaran-bench-") as name,
        alone("gunicorn") as server,
        nginx.start(Path(name), Work([f"unix:{server.url}"])) as proxy,
    ):
        yield Stack([*proxy.pids, *server.pids], proxy.url)


def _serves(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    return False


if __name__ == "__main__":
    sys.exit(main())
