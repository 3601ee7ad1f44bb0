"""One run of pgbench, and what it has cost the process in between.

Figures are of a window inside the run: logins (SCRAM costs more than a thousand transactions) and the first quarter of
a second are not in it.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers.contenders.process import program

SCRIPTS = {"select": "select-only", "tpcb": "tpcb-like"}
_WARM_S = 0.25
_LOGINS_S = 60.0
_LOGINS_PER_S = 150
"""At least. pgbench's time runs while its clients log in."""
_LOGINS_SLOW_PER_S = 50
_SILENCE_S = 1.0
"""pgbench writes its log by blocks: with few and slow transactions it is at work long before the first can be read."""


class RunFailed(Exception):
    """pgbench did not end as it should. The message is what it said."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One contender in one round."""

    cpu_us: float | None
    """User and system time of the proxy for each transaction. None where there is no proxy."""
    per_s: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Load:
    """What pgbench does."""

    script: str
    protocol: str
    clients: int
    """Connections, each with one transaction after the other."""
    seconds: int
    """About so long."""
    rate: int = 0
    """Transactions a second that all of them begin together, at random times. 0: as many as they can."""


def run(dsn: str, pid: int | None, load: Load) -> Sample:
    """RunFailed: any error. Where the logins of a crowd take up all the time, it is run once more with more of it."""
    try:
        return _run(dsn, pid, load, most_s=load.seconds + load.clients // _LOGINS_PER_S)
    except RunFailed:
        if load.clients < _LOGINS_PER_S:
            raise
    return _run(dsn, pid, load, most_s=load.seconds + load.clients // _LOGINS_SLOW_PER_S)


def _run(dsn: str, pid: int | None, load: Load, *, most_s: int) -> Sample:
    with tempfile.TemporaryDirectory(prefix="trimaran-bench-") as directory:
        command = [program("pgbench"), "--no-vacuum", f"--builtin={SCRIPTS[load.script]}"]
        command += [f"--protocol={load.protocol}", f"--client={load.clients}", f"--time={most_s}"]
        command += [f"--rate={load.rate}"] if load.rate else []
        command += ["--log", f"--log-prefix={directory}/log", dsn]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        launched = time.time()
        try:
            began = _first_line(process, Path(directory), load.clients)
            time.sleep(_WARM_S)
            start, used = time.time(), cpu_seconds(pid)
            until = min(began + load.seconds, launched + most_s) - _WARM_S / 2
            time.sleep(max(until - time.time(), 0.1))
            end, used = time.time(), cpu_seconds(pid) - used
            said, _ = process.communicate(timeout=most_s + _LOGINS_S)
        finally:
            process.kill()
            process.wait()
        if process.returncode or "number of failed transactions: 0 (" not in said:
            raise RunFailed(f"pgbench ended with {process.returncode}:\n{said}")
        took_us = []
        for file in Path(directory).iterdir():
            for line in file.read_text().splitlines():
                _, _, latency, _, second, microsecond = line.split()[:6]
                if start <= int(second) + int(microsecond) / 1e6 < end:
                    took_us.append(int(latency))
    if len(took_us) < 2:
        raise RunFailed(f"no transaction ended within {load.seconds} s:\n{said}")
    cost = None if pid is None else used / len(took_us) * 1e6
    return Sample(cost, len(took_us) / (end - start), statistics.quantiles(took_us, n=100)[98] / 1000)


def cpu_seconds(pid: int | None) -> float:
    """Processor time of all threads that the process has, exact to the nanosecond, unlike /proc/PID/stat."""
    if pid is None:
        return 0.0
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _first_line(process: subprocess.Popen[str], directory: Path, clients: int) -> float:
    """Waits until all clients are in and the first transactions are told; when the first one ended."""
    started = time.monotonic()
    deadline, silent = started + _LOGINS_S, started + _SILENCE_S + clients / _LOGINS_SLOW_PER_S
    while time.monotonic() < deadline and process.poll() is None:
        for file in directory.iterdir():
            fields = file.read_text().partition("\n")[0].split()
            if len(fields) >= 6:
                return int(fields[4]) + int(fields[5]) / 1e6
        if time.monotonic() > silent:
            return time.time()
        time.sleep(0.01)
    process.kill()
    raise RunFailed(f"pgbench did not get going:\n{process.communicate()[0]}")
