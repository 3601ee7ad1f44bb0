"""What stands between pgbench and PostgreSQL: the gateway in three forms, PgBouncer in two, or nothing."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from benchmarks.databases.nodes import CLIENTS_MAX, POOL, Nodes
from benchmarks.servers.contenders.process import answers, free_port, program, running
from tests.support.snapshots import pool, snapshot


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that listens."""

    dsn: str
    pid: int | None
    """The process that does its work. None: there is none."""


Start = Callable[[Nodes, Path], AbstractContextManager[Running]]


@dataclass(frozen=True, slots=True)
class Contender:
    """One column of a table."""

    name: str
    start: Start
    cannot: tuple[tuple[str, str], ...] = ()
    """Protocols that it does not have, and why."""
    clients_max: int = CLIENTS_MAX
    """With more, it refuses some."""


def _ours(split: bool, threads: int) -> Start:
    @contextlib.contextmanager
    def start(nodes: Nodes, directory: Path) -> Iterator[Running]:
        port = free_port()
        file = directory / f"snapshot-{port}.json"
        file.write_text(snapshot(pool(), databases=[nodes.gateway(port, split=split)], threads=threads))
        file.chmod(0o600)
        command = [*_cores(threads), sys.executable, "-m", "benchmarks.databases.gateway", str(file)]
        with running(command, log=directory / "gateway.log") as process:
            answers(port)
            yield Running(nodes.through(port), process.pid)

    return start


def _pgbouncer(unix: bool) -> Start:
    return lambda nodes, directory: _bouncing(nodes, directory, unix=unix)


@contextlib.contextmanager
def _bouncing(nodes: Nodes, directory: Path, *, unix: bool) -> Iterator[Running]:
    place, port = urlsplit(nodes.dsn), free_port()
    host = nodes.sockets if unix else place.hostname
    database = place.path.lstrip("/")
    users, settings = directory / f"users-{port}.txt", directory / f"pgbouncer-{port}.ini"
    users.write_text(f'"{place.username}" "{unquote(place.password or "")}"\n')
    settings.write_text(
        f"""[databases]
{database} = host={host} port={place.port} dbname={database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {POOL}
max_client_conn = {CLIENTS_MAX}
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
"""
    )
    command = [*_cores(1), program("pgbouncer"), str(settings)]
    if os.geteuid() == 0:
        # It refuses to run as root. The owner of the server's socket may use it.
        account = pwd.getpwuid(nodes.sockets.stat().st_uid).pw_name
        for file in (directory, users, settings):
            file.chmod(0o755 if file.is_dir() else 0o644)
        command[-1:-1] = [f"--user={account}"]
    with running(command, log=directory / "pgbouncer.log") as process:
        answers(port)
        yield Running(nodes.through(port), process.pid)


@contextlib.contextmanager
def _direct(nodes: Nodes, _: Path) -> Iterator[Running]:
    yield Running(nodes.dsn, None)


def _cores(threads: int) -> list[str]:
    """The first ones; said also where those are all, because what we hand down is less."""
    return ["taskset", "--cpu-list", f"0-{min(threads, os.cpu_count() or 1) - 1}"]


OURS = Contender("Trimaran, split", _ours(split=True, threads=1))
PRIMARY_ONLY = Contender("Trimaran, primary only", _ours(split=False, threads=1))
TWO_THREADS = Contender("Trimaran, split, 2 threads", _ours(split=True, threads=2))
_UNPREPARED = (("prepared", "not in transaction mode before 1.21: statements are lost between clients"),)
PGBOUNCER = Contender("PgBouncer", _pgbouncer(unix=True), _UNPREPARED)
PGBOUNCER_TCP = Contender("PgBouncer, TCP to the server", _pgbouncer(unix=False), _UNPREPARED)
DIRECT = Contender("direct", _direct, clients_max=180)
ALL = (OURS, PRIMARY_ONLY, TWO_THREADS, PGBOUNCER, PGBOUNCER_TCP, DIRECT)


def versions() -> list[str]:
    """Of the programs that take part."""
    found = []
    for name in ("pgbouncer", "pgbench"):
        said = subprocess.run([program(name), "--version"], capture_output=True, text=True, timeout=20, check=True)
        number = re.search(r"\d+\.[\d.]*\d", said.stdout)
        found.append(f"{name} {number[0] if number else '?'}")
    return found
