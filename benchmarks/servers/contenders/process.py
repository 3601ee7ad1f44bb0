"""Proxies and servers as child processes, and the cores that each kind of process has."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.waiting import eventually


def installed(name: str) -> str | None:
    """The path of a program: of this Python's environment, else of the system."""
    scripts = sysconfig.get_path("scripts")
    return shutil.which(name, path=scripts) or shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def program(name: str) -> str:
    """The path of a peer or tool. Raises SystemExit that says how to get it."""
    found = installed(name)
    if found is None:
        raise SystemExit(f"{name} is not installed here; on Debian: apt-get install haproxy nginx wrk nghttp2-client")
    return found


def proxy_cores(threads: int) -> list[str]:
    """What to put before the command of a proxy: it has its first cores to itself where there are enough."""
    return _on(range(threads)) if _apart(threads) else []


def other_cores(threads: int) -> list[str]:
    """What to put before the command of a load generator or server beside a proxy of so many threads."""
    return _on(range(threads, os.cpu_count() or 1)) if _apart(threads) else []


def _apart(threads: int) -> bool:
    return shutil.which("taskset") is not None and (os.cpu_count() or 1) > threads


def _on(cores: range) -> list[str]:
    return ["taskset", "-c", ",".join(str(core) for core in cores)]


@contextlib.contextmanager
def running(
    command: Sequence[str], *, log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process until the end of the block; what it says goes to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env={**os.environ, **(environ or {})}
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answers(address: int | Path) -> None:
    """Waits until somebody listens on a port or socket."""

    def connects() -> bool:
        family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
        with contextlib.suppress(OSError), socket.socket(family) as connection:
            connection.settimeout(1)
            connection.connect(("127.0.0.1", address) if isinstance(address, int) else str(address))
            return True
        return False

    eventually(connects, f"something listens on {address}")
