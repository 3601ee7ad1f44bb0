"""Whether something of an earlier run is still on the data: two servers on one data directory must never be."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trimaran.databases.postgres.place import Place
from trimaran.errors import DatabaseError

_LEAVE_S = 5.0


def postmaster_pid(data: Path) -> int | None:
    """The pid that the data directory's lock file names; it may be gone, or another process by now."""
    try:
        return int((data / "postmaster.pid").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def is_ready(data: Path) -> bool:
    """Whether the server on the data says that it takes connections (the last line of its lock file)."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"


def evict(place: Place, report: Callable[[str], None]) -> None:
    """Waits for a server of an earlier run to end, and ends it when it does not. Raises DatabaseError when that fails."""
    pid = postmaster_pid(place.data)
    if pid is None or not _is_ours(pid, place):
        # A stale lock file; PostgreSQL itself checks it once more and removes it.
        return
    report(f"a PostgreSQL of an earlier run (pid {pid}) is still on the data; waiting for it to end")
    with suppress(ProcessLookupError):
        watched = os.pidfd_open(pid)
        try:
            for number in (None, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                if number is not None:
                    os.kill(pid, number)
                if select.select([watched], [], [], _LEAVE_S)[0]:
                    return
        finally:
            os.close(watched)
        raise DatabaseError(f"{place.data}: PostgreSQL of an earlier run (pid {pid}) does not end; stop it by hand")


def _is_ours(pid: int, place: Place) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return False
    return str(place.data) in command and "postgres" in command
