"""Ties a child process to its parent, so that nothing is left behind when the parent is killed.

Linux sends a process the signal of its choice when the *thread* that started it ends (prctl(2), PR_SET_PDEATHSIG). So
children are started from a thread that lives as long as the parent: the main thread. As a command it sets the tether
and becomes another program:

    python -m trimaran.tether --signal QUIT --user postgres --parent 4711 -- /usr/lib/postgresql/bin/postgres -D data
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: int, parent_pid: int) -> None:
    """Arrange that this process gets `signal_number` when its parent, `parent_pid`, ends; if it has already, exit now.

    Raises OSError where the kernel has no such thing. The tether survives exec of ordinary programs, but not a change of
    user: change the user first.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    prctl = getattr(libc, "prctl", None)
    if prctl is None:
        raise OSError("Trimaran needs Linux: prctl(2) ties its processes together")
    if prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent_pid:
        # The parent ended before the tether was set, so its end will not be told any more.
        os._exit(128 + signal_number)


def drop_privileges(user: str) -> None:
    """Become `user` with its groups, for good. Raises KeyError (no such user) or PermissionError."""
    entry = pwd.getpwnam(user)
    if os.getuid() == entry.pw_uid:
        return
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)


def command(argv: Sequence[str], *, signal: signal.Signals, parent_pid: int, user: str | None = None) -> list[str]:
    """The argv that becomes `argv`, tethered to `parent_pid`, as `user` where one is given."""
    become = ["--user", user] if user else []
    name = signal.name.removeprefix("SIG")
    tether = [sys.executable, "-P", "-m", "trimaran.tether", "--signal", name, "--parent", str(parent_pid)]
    return [*tether, *become, "--", *argv]


def main(arguments: list[str] | None = None) -> int:
    """Become the given command, tethered. Returns only when that fails."""
    parser = argparse.ArgumentParser(prog="python -m trimaran.tether", description=__doc__.splitlines()[0])
    parser.add_argument("--signal", required=True, help="what to send when the parent ends: TERM, QUIT, INT or KILL")
    parser.add_argument("--user", help="user to become first")
    parser.add_argument("--parent", type=int, required=True, help="pid of the parent")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    try:
        number = signal.Signals[f"SIG{options.signal}"]
        if options.user:
            drop_privileges(options.user)
        die_with_parent(number, options.parent)
        os.execvp(options.command[0], options.command)
    except (KeyError, OSError) as error:
        print(f"tether: {options.command[0]}: {error}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main())
