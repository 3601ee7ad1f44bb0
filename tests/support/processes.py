"""Processes of a PostgreSQL server, by what they do."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def children(postmaster: int) -> dict[int, str]:
    """Pid and title of every process of a server but the postmaster."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == postmaster:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    return found


def of_kind(postmaster: int, kind: str) -> list[int]:
    """Processes whose title has this word, like `walreceiver`."""
    return [pid for pid, title in children(postmaster).items() if kind in title]


def suspend_all(postmaster: int) -> None:
    """The whole server stands still, as on a machine that hangs."""
    for pid in (postmaster, *children(postmaster)):
        _send(pid, signal.SIGSTOP)


def resume(pids: list[int]) -> None:
    for pid in pids:
        _send(pid, signal.SIGCONT)


def exist(pids: list[int]) -> bool:
    """Whether any of them runs still."""
    return any(_runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
