"""Starting PostgreSQL's programs: as the node's account, tethered, in an environment of our own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from signal import Signals
from typing import IO

from trimaran import tether
from trimaran.databases.postgres.account import Account


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended and everything it said."""

    status: int
    output: str

    def last_lines(self, count: int = 8) -> str:
        return "\n".join(self.output.strip().splitlines()[-count:])


def spawn(
    argv: Sequence[str], account: Account, *, signal: Signals, stdin: int | IO[str], output: IO[str]
) -> subprocess.Popen[str]:
    """Start a program that gets `signal` when this process ends. Its pid is the program's own.

    Call it from the main thread (see `trimaran.tether`). The program leads a session of its own, so that a Ctrl-C
    at the terminal reaches Trimaran alone, which stops things in order.
    """
    user = account.name if account.dropped else None
    return subprocess.Popen(
        tether.command(argv, signal=signal, parent_pid=os.getpid(), user=user),
        stdin=stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        env=_environment(),
        umask=0o077,
        start_new_session=True,
    )


def run(argv: Sequence[str], account: Account, *, says: str = "", within_s: float = 300.0) -> Outcome:
    """Run a program to its end. It is killed when it takes longer, or when this process is interrupted.

    `says` is its standard input. The output may be as long as it likes.
    """
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as heard:
        said.write(says)
        said.flush()
        said.seek(0)
        process = spawn(argv, account, signal=Signals.SIGKILL, stdin=said, output=heard)
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            heard.write(f"\nstopped after {within_s:g} s without an end")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        heard.seek(0)
        return Outcome(process.returncode, heard.read())


def _environment() -> dict[str, str]:
    """Nothing of the person's PG* variables; messages in English, because some of them are read by Trimaran."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR") if name in os.environ
    }
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}
