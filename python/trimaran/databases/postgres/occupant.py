"""What of an earlier run is still on the data, and its removal.

When a supervisor is killed, the tether has PostgreSQL stop at once; a new start may come before it is through.
Whoever calls `clear` holds the node's lock, so no living Trimaran is responsible for what is found.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from signal import Signals

from trimaran.databases.postgres.account import Account
from trimaran.databases.postgres.place import Place
from trimaran.errors import DatabaseError

_POLL_INTERVAL_S = 0.02
_KILL_INTERVAL_S = 0.005
# What is waited for before each signal, in seconds: its own end, then an immediate shutdown, then none of its will.
_PATIENCE = ((3.0, Signals.SIGQUIT), (5.0, Signals.SIGKILL))


async def clear(place: Place, account: Account, report: Callable[[str], None]) -> None:
    """Return when no process of an earlier run is on the data. Raises DatabaseError when one cannot be ended."""
    if not processes(place, account):
        return
    report(f"PostgreSQL of an earlier run still ends in {place.data}; waiting for it")
    for patience_s, signal in _PATIENCE:
        if await _gone(place, account, patience_s):
            return
        left = processes(place, account)
        report(f"sending {signal.name} to the left-over PostgreSQL processes {', '.join(map(str, left))}")
        for pid in left:
            _send(pid, signal)
    if not await _gone(place, account, 5.0):
        left = processes(place, account)
        raise DatabaseError(
            f"{place.data}: PostgreSQL processes of an earlier run do not end: {', '.join(map(str, left))};"
            " end them by hand, then start again"
        )


async def kill(place: Place, account: Account) -> bool:
    """End every process on the data at once, also stopped ones; whether all are gone within five seconds.

    A killed postmaster leaves its children running for a moment, and those could still acknowledge commits.
    """
    deadline = time.monotonic() + 5.0
    while left := processes(place, account):
        if time.monotonic() >= deadline:
            return False
        for pid in left:
            _send(pid, Signals.SIGKILL)
        await asyncio.sleep(_KILL_INTERVAL_S)
    return True


async def _gone(place: Place, account: Account, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while processes(place, account):
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(_POLL_INTERVAL_S)
    return True


def processes(place: Place, account: Account) -> list[int]:
    """The processes that carry the node's marker and belong to its account.

    The postmaster has the marker in its arguments, its children in their titles; both are in /proc, readable for
    everyone. Where there is no /proc the answer is empty and PostgreSQL's own lock file has to do: it refuses a
    second start, with a message that names the process.
    """
    marker = place.marker.encode()
    return [pid for pid in _pids() if _owner(pid) == account.uid and _is_postgres(pid, marker)]


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _owner(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def _is_postgres(pid: int, marker: bytes) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return marker in arguments and _names_postgres(arguments.split(b"\0", 1)[0])


def _names_postgres(first: bytes) -> bool:
    """Of a child it is the title, in which a slash is part of a position (`walsender ... streaming 0/3000148`)."""
    return first.startswith(b"postgres:") or os.path.basename(first).startswith(b"postgres")


def _send(pid: int, signal: Signals) -> None:
    try:
        os.kill(pid, signal)
    except ProcessLookupError:
        return
