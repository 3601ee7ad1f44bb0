"""What the supervisor tells a child, and the command line that carries it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class AppServerSpec:
    """One app server: what to run, how, and where it listens."""

    app: str
    """`module:attribute`, `module:factory()` or `module`."""
    interface: str
    """auto, asgi or wsgi."""
    engine: str
    """auto or the name of an engine."""
    socket: Path
    """Unix socket to create; its directory exists, and the path is shorter than 108 bytes."""
    threads: int
    """Threads that handle the requests of a WSGI app."""
    name: str
    """Name of the server, for example app-1; the app finds it in TRIMARAN_SERVER."""
    directory: Path
    """Working directory of the app and first place of its imports."""
    parent_pid: int
    """The process with which the server dies."""


def command(spec: AppServerSpec, ready_fd: int) -> list[str]:
    """The argv that starts `spec`. The caller passes `ready_fd`, the write end of a pipe, on to the child.

    `-P` keeps the current directory out of `sys.path` until the launcher puts the app's directory there.
    """
    options = {
        "app": spec.app,
        "interface": spec.interface,
        "engine": spec.engine,
        "socket": spec.socket,
        "threads": spec.threads,
        "name": spec.name,
        "ready-fd": ready_fd,
        "directory": spec.directory,
        "parent-pid": spec.parent_pid,
    }
    return [sys.executable, "-P", "-m", __package__, *(f"--{option}={value}" for option, value in options.items())]


def parse(arguments: Sequence[str]) -> tuple[AppServerSpec, int]:
    """The inverse of `command`: the spec and the ready descriptor. Exits with a usage message on nonsense."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description="Runs one app on one Unix socket.")
    parser.add_argument("--app", required=True)
    parser.add_argument("--interface", default="auto", choices=("auto", "asgi", "wsgi"))
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--socket", required=True, type=Path)
    parser.add_argument("--threads", default=4, type=int)
    parser.add_argument("--name", default="app-1")
    parser.add_argument("--ready-fd", required=True, type=int)
    parser.add_argument("--directory", default=Path(), type=Path)
    parser.add_argument("--parent-pid", required=True, type=int)
    values = vars(parser.parse_args(arguments))
    ready_fd: int = values.pop("ready_fd")
    return AppServerSpec(**values), ready_fd
